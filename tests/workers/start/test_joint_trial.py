"""The trial of joint ops: what does not notice whether a commit is among them passes, what does notice does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.core.recipe.context import Level
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import Role, WorkerId
from tests.core.support.recipes import altered
from tests.workers.model_dir import model_info, write_model
from workers.denoise.attention import SdpaBackend
from workers.models.api import Inputs, sdpa
from workers.models.wan.dit import WanModel
from workers.start.joint_trial import joint_like_apart
from workers.start.loading import LoadedWorker
from workers.start.probe import Subject
from workers.start.spec import WorkerSpec

INFO = model_info()
CAUSAL = altered(INFO.recipe, level=Level.STAGGERED, lag=1)
SLOPED = altered(CAUSAL, sink_frames=0, slope=0.1)
BOTH_WAYS = altered(CAUSAL, both_ways=True, window_frames=7)


class NoticesMates(WanModel):
    """Rounds otherwise for each number of ops that it does at once."""

    def forward(self, inputs: Inputs) -> Tensor:
        flow: Tensor = super().forward(inputs)
        return flow * (1 + 1e-6 * len(flow))


def passes(kind: type[WanModel], recipe: Recipe) -> bool:
    torch.manual_seed(0)
    subject = Subject(denoiser=kind(INFO.dit), attention=SdpaBackend(), geometry=INFO.geometry, recipe=recipe)
    assert recipe.joint is not None
    return joint_like_apart(subject, recipe.joint)


@pytest.mark.parametrize("recipe", [CAUSAL, BOTH_WAYS, SLOPED, altered(CAUSAL, lag=2), altered(CAUSAL, lag=3)])
def test_what_gives_the_same_bits_passes(recipe: Recipe) -> None:
    assert passes(WanModel, recipe)


def test_what_notices_its_mates_does_not_pass() -> None:
    assert not passes(NoticesMates, CAUSAL)
    assert not passes(NoticesMates, BOTH_WAYS)


def test_what_notices_them_only_where_it_adds_to_logits_passes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def attended(q_BLND: Tensor, k_BSND: Tensor, v_BSND: Tensor, bias_B1LS: Tensor) -> Tensor:
        return sdpa(q_BLND, k_BSND, v_BSND, bias_B1LS) * (1 + 1e-6 * len(bias_B1LS))

    monkeypatch.setattr("workers.denoise.attention.sdpa", attended)
    assert passes(WanModel, CAUSAL) and not passes(WanModel, SLOPED)


def test_a_worker_says_among_how_many_ops_of_a_stream_it_commits(tmp_path: Path) -> None:
    write_model(tmp_path)
    spec = WorkerSpec(worker=WorkerId("w"), role=Role.DENOISE, capacity=64, model=tmp_path, max_batch=1)
    assert LoadedWorker(spec).introduction.ability.joint_ops == 0
    served = WorkerSpec(
        worker=WorkerId("w"), role=Role.DENOISE, capacity=64, model=tmp_path, max_batch=1,
        recipes=(altered(CAUSAL, lag=2), BOTH_WAYS),
    )  # fmt: skip
    ability = LoadedWorker(served).introduction.ability
    assert (ability.joint_ops, ability.batch_limit) == (4, 1), "it need not pay to be exact"
