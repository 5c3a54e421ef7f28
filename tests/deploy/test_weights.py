"""How weights get onto nodes: the three ways of docs/weights.md are valid, and one is walked with the pocket model."""

from __future__ import annotations

import asyncio
import filecmp
import re
import shutil
import subprocess
import tomllib
from math import prod
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.config import ServerConfig, parse_config
from cluster.serve import Ready, Stop, serve_until
from longtake.client import Client, StreamOptions
from longtake.client.events import SegmentEvent
from longtake.core.recipe.published import PUBLISHED
from tests.deploy.commands import understood
from tests.deploy.manifests import OPEN, Document, config_text, merged, path, pod, pods, render, require_helm, validate
from tests.workers.convert.published_info import info_of
from workers.models.weights import DIT, VAE, tensor_shapes

FOLDER = path("deploy/weights")
PAGE = path("docs/weights.md")
WAYS = ("claim", "image-volume", "init-container")
POCKET = path("pocket/weights")


def values(name: str) -> dict[str, Any]:
    return merged(OPEN, yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


@pytest.fixture(params=WAYS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    require_helm()
    return render(values(request.param))


def test_every_way_is_taken_by_kubernetes_and_reaches_the_pods_that_read_weights(documents: list[Document]) -> None:
    for document in documents:
        validate(document)
    model = parse_config(tomllib.loads(config_text(documents))).model.path
    for each in pods(documents):
        (mount,) = [mount for mount in each.container["volumeMounts"] if mount["name"] == "models"]
        assert mount["readOnly"] and model.startswith(f"{mount['mountPath']}/")
        (volume,) = [volume for volume in each.spec["volumes"] if volume["name"] == "models"]
        filled = "emptyDir" not in volume
        assert filled or each.role == "head" or each.spec["initContainers"], "an empty one that nobody fills"


# --- an init container, as a process ----------------------------------------------------------------------------------


def run_init_container(folder: Path, role: str) -> None:
    """What the init container of a role's pods does, with its folders below `folder`."""
    (container,) = pod(render(values("init-container")), role).spec["initContainers"]
    command = [
        re.sub(r"/(models|weights)\b", rf"{folder}/\1", word) for word in container["command"] + container["args"]
    ]
    subprocess.run(command, check=True, timeout=60)


def same(model: Path) -> bool:
    """Whether a folder is the pocket model, byte for byte and nothing besides."""
    names = sorted(file.name for file in POCKET.iterdir())
    return sorted(file.name for file in model.iterdir()) == names == filecmp.cmpfiles(POCKET, model, names, False)[0]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A folder with the weights' image and an empty volume."""
    require_helm()
    shutil.copytree(POCKET, tmp_path / "weights" / "hiar")
    (tmp_path / "models").mkdir()
    return tmp_path


@pytest.mark.parametrize("role", ["frontend", "denoise", "decode"])
def test_an_init_container_copies_all_or_nothing(node: Path, role: str) -> None:
    torn = node / "models" / ".part"
    torn.mkdir()
    (torn / "left.safetensors").write_bytes(b"half")
    run_init_container(node, role)
    model = node / "models" / "hiar"
    assert same(model) and [each.name for each in model.parent.iterdir()] == ["hiar"]
    written_ns = (model / "model.json").stat().st_mtime_ns
    (node / "weights" / "hiar" / "model.json").unlink()  # nothing is read again
    run_init_container(node, role)
    assert same(model) and (model / "model.json").stat().st_mtime_ns == written_ns


def test_an_init_container_that_cannot_copy_leaves_no_model(node: Path) -> None:
    shutil.rmtree(node / "weights")
    with pytest.raises(subprocess.CalledProcessError):
        run_init_container(node, "denoise")
    assert not (node / "models" / "hiar").exists()


def configured(folder: Path) -> ServerConfig:
    """The configuration that the chart makes, on this machine: processes for pods, free ports, `folder` for /models."""
    document = tomllib.loads(config_text(render(values("init-container"))))
    model, cluster = document["model"], document["cluster"]
    assert model["path"].startswith("/models/")
    kept = {key: cluster[key] for key in ("denoise_workers", "decode_workers", "layer_split")}
    return parse_config({
        "model": model | {"path": f"{folder}{model['path']}"},
        "cluster": kept | {"launch": "subprocess"},
        "limits": document["limits"], "listen": {"port": 0},
    })  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_server_streams_from_what_an_init_container_made(node: Path) -> None:
    run_init_container(node, "frontend")
    shutil.rmtree(node / "weights")
    said, stop = asyncio.Queue[Ready](), Stop()
    serving = asyncio.create_task(serve_until(configured(node), stop, say=said.put_nowait))
    async with asyncio.timeout(150):
        ready = await said.get()
        async with (
            Client(f"127.0.0.1:{ready.port}") as client,
            client.stream("a red ball", StreamOptions(seed=7, duration_s=1.0)) as stream,
        ):
            segments = [event async for event in stream if isinstance(event, SegmentEvent)]
        assert segments and [event.index for event in segments] == [*range(len(segments))]
        stop()
        await serving


# --- a Job that fills a claim -----------------------------------------------------------------------------------------


def test_the_job_keeps_the_profile_fills_the_claim_and_calls_what_exists(tmp_path: Path) -> None:
    claim, job = yaml.safe_load_all((FOLDER / "job.yaml").read_text())
    for document in (claim, job):
        validate(document)
    spec = job["spec"]["template"]["spec"]
    security = spec["securityContext"]
    assert security["runAsNonRoot"] and security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    (download,), (convert,) = spec["initContainers"], spec["containers"]
    for container in (download, convert):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in spec["volumes"]}
    words = convert["command"] + convert["args"]
    (tmp_path / "Wan2.1-T2V-1.3B").mkdir()
    (tmp_path / "hiar.pt").touch()
    understood([word.replace("/source", str(tmp_path)) for word in words])
    assert words[words.index("--recipe") + 1] in PUBLISHED
    assert words[words.index("-o") + 1] == values("claim")["config"]["model"]["path"]
    (volume,) = [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    claimed = volume["persistentVolumeClaim"]["claimName"]
    assert claimed == claim["metadata"]["name"] == values("claim")["modelVolume"]["persistentVolumeClaim"]["claimName"]
    assert "longtake-cell" not in str(job), "policies of a cell would hold it"


# --- sizes ------------------------------------------------------------------------------------------------------------

TEXT_GB = 11.36
BFLOAT16_BYTES = 2


@pytest.mark.parametrize(("recipe", "row"), [("wan-hiar", "Wan 1.3B"), ("wan-14b-krea", "Wan 14B")])
def test_the_page_tells_true_sizes(recipe: str, row: str) -> None:
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {row}")]
    transformer, autoencoder, text, whole = (float(found) for found in re.findall(r"([\d.]+) GB", line))
    (asked,) = re.findall(r"(\d+)Gi", line)
    info = info_of(recipe)
    shapes = tensor_shapes(info.dit, info.vae)
    parts = [sum(map(prod, shapes[stem].values())) * BFLOAT16_BYTES / 1e9 for stem in (DIT, VAE)]
    assert [transformer, autoencoder] == [pytest.approx(part, rel=0.02) for part in parts]
    assert text == TEXT_GB
    assert whole == pytest.approx(sum(parts) + TEXT_GB, rel=0.01)
    assert whole * 1e9 * 1.05 < int(asked) * 2**30
    limit = values("init-container")["modelVolume"]["emptyDir"]["sizeLimit"]
    assert limit == "16Gi", "of the smaller one"
