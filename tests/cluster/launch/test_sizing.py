"""`longtake serve` sizes workers by the memory of their devices: the table it logs, what fits, and what is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config import ServerConfig, parse_config
from cluster.launch.plan import LaunchPlan, plan_for
from cluster.launch.ray_placing import Looked, shares_of
from cluster.launch.sizing import sized, sized_here
from cluster.serve import Stop, serve_until
from longtake.core.errors import InvalidField, NoCapacity, Unavailable
from longtake.core.plan.memory import Memory
from longtake.core.work import Role, WorkerId
from tests.cluster.launch.cells import Cell
from tests.workers.convert.published_info import info_of
from tests.workers.model_dir import model_info, write_model
from workers.models.weights import TEXT_CONFIG, save_info
from workers.start.child import VISIBLE
from workers.start.device_memory import HOST
from workers.start.spec import WorkerSpec

OPERATIONS = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
GB = 10**9
H100 = Memory(total_bytes=80 * GB, free_bytes=80 * GB)
RAM = Memory(total_bytes=256 * GB, free_bytes=200 * GB)
UMT5_XXL = {
    "vocab_size": 256384, "d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24,
    "relative_attention_num_buckets": 32,
}  # fmt: skip


def read(names: Sequence[str]) -> Mapping[str, Memory]:
    """A machine with GPUs of 80 GB."""
    return {name: RAM if name == HOST else H100 for name in names}


@pytest.fixture(scope="module")
def hiar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory of HiAR at 480p with umT5, without the weights."""
    folder = tmp_path_factory.mktemp("hiar")
    save_info(folder, info_of("wan-hiar"))
    (folder / TEXT_CONFIG).parent.mkdir()
    (folder / TEXT_CONFIG).write_text(json.dumps(UMT5_XXL))
    return folder


def on_gpu(model: Path, **cluster: object) -> ServerConfig:
    """As deploy/config/hiar-one-gpu.toml."""
    table = {"launch": "subprocess", "denoise_workers": 1, "decode_workers": 1, "max_batch": 2} | cluster
    served = {"path": str(model), "device": "cuda", "dtype": "bfloat16"}
    return parse_config({"model": served, "cluster": table, "listen": {"port": 0}})


async def served(config: ServerConfig) -> None:
    await serve_until(config, Stop(), say=lambda _: pytest.fail("there are no weights"), read=read)


async def test_serve_tells_in_a_table_what_each_device_holds_and_what_fits(
    hiar: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VISIBLE, "0")
    caplog.set_level(logging.INFO, logger="longtake.launch")
    with pytest.raises(InvalidField, match=r"vae\.safetensors is missing"):  # found after the sizes are told
        await served(on_gpu(hiar))
    head, names, gpu, host = (record.message for record in caplog.records if record.name == "longtake.launch")
    assert head == "memory in GB, with room for 2 sessions, as many as fit (limits.max_sessions = 64):"
    assert " ".join(names.split()) == "device workers free weights pages slots prompts workspace left fits"
    # 2 sessions x 4 lanes x 21 pages of 287.5 MB, and 2 decoder states of 1.89 GB.
    assert " ".join(gpu.split()) == (
        "GPU 0 denoise-0 decode-0 80.00 of 80.00 3.09 168 = 48.31 2 = 3.78 0.76 11.84 12.22 2"
    )
    assert " ".join(host.split()) == "host memory text-0 200.00 of 256.00 11.36 0 = 0.00 0 = 0.00 0.00 0.30 188.34 -"
    told = "\n".join(line.rstrip() for line in (head, names, gpu, host))
    assert told in OPERATIONS.read_text(encoding="utf-8")


async def test_serve_refuses_a_number_that_does_not_fit_and_names_the_one_that_does(
    hiar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "0")
    with pytest.raises(InvalidField, match=r"cluster.sessions_per_worker: 16 is not allowed; allowed: 1 to 2: GPU 0 "):
        await served(on_gpu(hiar, sessions_per_worker=16))
    with pytest.raises(NoCapacity, match=r"no session fits: GPU 0 has 80.0 of 80.0 GB free"):
        await served(on_gpu(hiar, max_batch=100))


def capacities(plan: LaunchPlan) -> dict[str, int]:
    return {spec.worker: spec.capacity for spec in plan.workers}


def test_each_gpu_counts_by_itself_and_threads_of_one_process_share_the_first(
    hiar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "4,7")
    config, info = on_gpu(hiar), info_of("wan-hiar")
    two = capacities(sized_here(plan_for(config, info), read))
    assert two == {"denoise-0": 2 * 4 * 21, "decode-0": 2, "text-0": 1}
    four = on_gpu(hiar, denoise_workers=2, decode_workers=2)
    assert capacities(sized_here(plan_for(four, info), read))["denoise-1"] == 8 * 21  # four sessions, 16 lanes
    together = on_gpu(hiar, denoise_workers=2, launch="in-process")
    assert capacities(sized_here(plan_for(together, info), read))["denoise-1"] == 4 * 21


def test_workers_on_cpus_share_the_host_and_what_is_let_in_bounds_them() -> None:
    config = parse_config({"limits": {"max_sessions": 6}, "cluster": {"launch": "subprocess"}})
    plan = plan_for(config, model_info())
    lane = plan.sizing.lane_pages if plan.sizing else 0
    assert capacities(plan) == {"denoise-0": 9 * lane, "denoise-1": 9 * lane, "decode-0": 6}  # 18 lanes over two
    assert capacities(sized_here(plan, read)) == capacities(plan)
    tight = Memory(total_bytes=2 * GB, free_bytes=int(0.99 * GB))
    few = sized_here(plan, lambda names: dict.fromkeys(names, tight))
    assert all(few.workers[number].capacity <= spec.capacity for number, spec in enumerate(plan.workers))
    with pytest.raises(NoCapacity, match=r"no session fits: host memory has 0.9 of 2.0 GB free"):
        sized_here(plan, lambda names: dict.fromkeys(names, replace(tight, free_bytes=int(0.9 * GB))))


def test_what_ray_places_is_sized_by_the_devices_seen_there_and_the_shares_of_them(hiar: Path) -> None:
    shares = {"denoise": 0.6, "decode": 0.3}
    config = on_gpu(hiar, launch="ray", gpu_shares=shares, denoise_workers=2, decode_workers=1)
    plan = plan_for(config, info_of("wan-hiar"))
    assert sized_here(plan, lambda names: pytest.fail("Ray's launcher asks")) is plan

    def looked(node: str, device: str) -> Looked:
        return Looked(node=node, address="10.0.0.1", device=device, memory=RAM if device == HOST else H100)

    told = [looked("a", "0"), looked("a", "1"), looked("a", "0"), looked("a", HOST)]
    seen = shares_of(plan, told)
    assert {worker: (each.device, each.memory.free_bytes) for worker, each in seen.items()} == {
        "denoise-0": ("10.0.0.1, GPU 0", pytest.approx(72 * GB)),
        "denoise-1": ("10.0.0.1, GPU 1", 48 * GB),
        "decode-0": ("10.0.0.1, GPU 0", pytest.approx(72 * GB)),
        "text-0": ("10.0.0.1, host memory", 200 * GB),
    }
    # 6 lanes of 6.13 GB beside 5.3 GB on the GPU of which 44 can be given out: three sessions.
    assert capacities(sized(plan, seen)) == {"denoise-0": 6 * 21, "denoise-1": 6 * 21, "decode-0": 3, "text-0": 1}
    full = [replace(each, memory=replace(each.memory, free_bytes=20 * GB)) for each in told[:3]]
    with pytest.raises(NoCapacity, match=r"no session fits: 10\.0\.0\.1, GPU 0 has 20\.0 of 80\.0 GB free"):
        sized(plan, shares_of(plan, [*full, told[3]]))


async def test_a_worker_that_finds_no_memory_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    write_model(tmp_path)
    spec = WorkerSpec(worker=WorkerId("denoise-0"), role=Role.DENOISE, capacity=10**14, model=tmp_path)
    config = parse_config({"cluster": {"launch": "subprocess"}})
    made = Cell(LaunchPlan(cluster=config.cluster, workers=(spec,)))
    with pytest.raises(Unavailable, match="denoise-0 ended while starting: cpu has no room for 100000000000000 pages"):
        await made.launcher.start()
