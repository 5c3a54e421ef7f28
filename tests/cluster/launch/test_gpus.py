"""Which GPU each worker gets, without one: the rule, the environment of children, and Ray's shares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config import parse_config
from cluster.launch.gpus import gpus_for, gpus_in_process, visible_gpus
from cluster.launch.plan import plan_for
from cluster.launch.ray_placing import groups
from longtake.core.errors import Contradiction, InvalidField
from tests.workers.model_dir import model_info
from workers.start.child import VISIBLE, environment
from workers.start.spec import WorkerSpec


def specs(denoise: int, decode: int, *, text_device: str = "cpu", split: int = 1) -> tuple[WorkerSpec, ...]:
    cluster = {"denoise_workers": denoise, "decode_workers": decode, "layer_split": split}
    model = {"device": "cuda", "path": str(Path("nowhere")), "text_device": text_device}
    return plan_for(parse_config({"model": model, "cluster": cluster}), replace(model_info(), text_kind="umt5")).workers


@pytest.mark.parametrize(
    ("workers", "chosen", "visible", "expected"),
    [
        (specs(1, 1), (), ("0",), {"denoise-0": "0", "decode-0": "0"}),
        (specs(3, 1), (), "0123", {"denoise-0": "0", "denoise-1": "1", "denoise-2": "2", "decode-0": "3"}),
        (specs(2, 1), (), "01", {"denoise-0": "0", "denoise-1": "1", "decode-0": "0"}),
        (specs(2, 1), (3, 1), ("GPU-a", "GPU-b", "GPU-c", "GPU-d"),
         {"denoise-0": "GPU-d", "denoise-1": "GPU-b", "decode-0": "GPU-d"}),
        (specs(1, 1, text_device="cuda"), (), "01", {"denoise-0": "0", "decode-0": "1", "text-0": "0"}),
        (specs(1, 1, split=2), (), "012", {"denoise-0.1of2": "0", "denoise-0.2of2": "1", "decode-0": "2"}),
    ],
)  # fmt: skip
def test_denoise_workers_get_gpus_in_turn_then_the_others(
    workers: tuple[WorkerSpec, ...], chosen: tuple[int, ...], visible: tuple[str, ...], expected: dict[str, str]
) -> None:
    assert gpus_for(workers, chosen, lambda: tuple(visible)) == expected


def test_what_cannot_be_is_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidField, match=r"model.device: 'cuda' is not allowed; allowed: cpu; no CUDA device is"):
        gpus_for(specs(1, 1), (), tuple)
    with pytest.raises(InvalidField, match=r"cluster.gpus: 2 is not allowed; allowed: 0 to 1"):
        gpus_for(specs(1, 1), (0, 2), lambda: ("0", "1"))
    with pytest.raises(Contradiction, match="a chain of 3 workers"):
        gpus_for(specs(1, 1, split=3), (), lambda: ("0", "1"))
    on_cpu = plan_for(parse_config({}), model_info()).workers
    assert gpus_for(on_cpu, (), lambda: pytest.fail("nobody needs one")) == {}


def test_threads_of_one_process_share_the_first_gpu() -> None:
    assert gpus_in_process(specs(2, 1), lambda: ("3", "5")) == {"denoise-0": "3", "denoise-1": "3", "decode-0": "3"}
    assert set(gpus_in_process(specs(1, 1, split=2), lambda: ("3",)).values()) == {"3"}
    with pytest.raises(InvalidField, match=r"model\.device"):
        gpus_in_process(specs(1, 1), tuple)


def test_a_child_sees_the_gpu_that_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "3,5")
    assert visible_gpus() == ("3", "5")
    assert environment("5")[VISIBLE] == "5"
    assert environment()[VISIBLE] == "3,5"
    monkeypatch.setenv(VISIBLE, "")
    assert visible_gpus() == ()


def test_one_gpu_serves_all_roles_under_ray_if_their_shares_fit() -> None:
    shares = {"denoise": 0.6, "decode": 0.3, "text": 0.1}
    document = {
        "model": {"device": "cuda", "text_device": "cuda"},
        "cluster": {"gpu_shares": shares, "denoise_workers": 1},
    }
    config = parse_config(document)
    plan = plan_for(config, replace(model_info(), text_kind="umt5"))
    (reserved,) = groups(plan.workers, config.cluster).values()
    assert [bundle["GPU"] for bundle in reserved.resources] == [0.6, 0.3, 0.1]
    whole = parse_config({"model": {"device": "cuda"}})
    (reserved,) = groups(plan_for(whole, model_info()).workers, whole.cluster).values()
    assert [bundle["GPU"] for bundle in reserved.resources] == [1.0, 1.0, 1.0]
    for wrong in (0, 1.5, -1):
        with pytest.raises(InvalidField, match=r"cluster.gpu_shares.decode"):
            parse_config({"cluster": {"gpu_shares": {"decode": wrong}}})
