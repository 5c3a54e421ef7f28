"""Published checkpoints, converted and served: in both number formats, with prompts that umT5 reads."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from longtake.cli.main import run
from tests.cluster.served import Server
from tests.samples import first
from tests.workers.convert.publishing import as_diffusers, as_training_checkpoint, as_wan, published
from tests.workers.tiny_decoder import SIXTEEN, write_taew

CUE = ["--cue", "1s=a blue box in fog"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same weights, converted from two layouts."""
    folder, made = tmp_path_factory.mktemp("models"), published()
    tiny = write_taew(folder / "taew2_1.pth", SIXTEEN)
    wan = as_wan(folder / "wan", made)
    sources = {
        "training": [wan, as_training_checkpoint(folder / "training" / "hiar.pt", made)],
        "diffusers": [as_diffusers(folder / "diffusers", made, "20KB"), wan / "diffusion_pytorch_model.safetensors"],
    }
    for name, paths in sources.items():
        output = ["-o", str(folder / name / "model"), "--recipe", "wan-hiar", "--size", "64x64"]
        assert run(["convert", *map(str, paths), str(tiny), *output]) == 0
    return {name: folder / name / "model" for name in sources}


@pytest.mark.parametrize(("dtype", "launch"), [("float32", "subprocess"), ("bfloat16", "in-process")])
@pytest.mark.slow
def test_what_is_converted_is_served_as_it_is_rendered(
    models: dict[str, Path], tmp_path: Path, dtype: str, launch: str
) -> None:
    server = Server(tmp_path, models["training"], launch, dtype=dtype)
    try:
        made: dict[str, bytes] = {}
        for name, prompt in (("red", "a red ball"), ("again", "  a red&nbsp;ball "), ("blue", "a blue ball")):
            path = tmp_path / f"{name}.mp4"
            arguments = ["stream", prompt, "--seed", "3", "--duration", "2s", *CUE, "-o", str(path)]
            assert run([*arguments, "--server", server.address]) == 0
            made[name] = path.read_bytes()
    finally:
        server.end()
    assert made["red"] == made["again"] != made["blue"], "prompts are cleaned, and they matter"
    with av.open(tmp_path / "red.mp4") as video:
        assert sum(1 for _ in video.decode(video=0)) == 32
    rendered = tmp_path / "rendered.mp4"
    arguments = ["render", "a red ball", "--seed", "3", "--duration", "2s", *CUE, "--dtype", dtype, "-o", str(rendered)]
    for model in models.values():
        assert run([*arguments, "--model", str(model)]) == 0
        assert rendered.read_bytes() == made["red"]


@pytest.mark.parametrize("decoder", first(1, ["full", "tiny"]))
def test_the_number_format_changes_the_pictures(models: dict[str, Path], tmp_path: Path, decoder: str) -> None:
    made = []
    for dtype in ("float32", "bfloat16"):
        path = tmp_path / f"{dtype}.rgb"
        arguments = ["render", "a red ball", "--seed", "3", "--duration", "1s", "--codec", "raw", "-o", str(path)]
        chosen = ["--dtype", dtype, "--decoder", decoder]
        assert run([*arguments, "--model", str(models["training"]), *chosen]) == 0
        made.append(path.read_bytes())
    assert made[0] != made[1] and len(made[0]) == len(made[1]) == 16 * 64 * 64 * 3
