"""What workers say of how far back what they hold remembers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from longtake.core.work import Ability, DecoderKind, Role
from tests.workers.model_dir import write_model
from tests.workers.orders import SPEC
from tests.workers.tiny_decoder import with_tiny
from workers.models.api import Compute
from workers.models.weights import load_decoder, load_info
from workers.start.loading import load_worker


def ability(model: Path, role: Role, device: str = "cpu") -> Ability:
    spec = replace(SPEC, model=model, role=role, compute=Compute(device=device))
    return load_worker(spec).introduction.ability


def test_a_denoise_worker_says_the_layers_of_its_model(model: Path) -> None:
    assert ability(model, Role.DENOISE).replay_depth == load_info(model).num_layers == 2


def test_a_decode_worker_says_the_frames_of_the_decoder_that_remembers_most(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    assert ability(tmp_path / "model", Role.DECODE).replay_depth == 30
    info = with_tiny(tmp_path / "model", tmp_path)
    tiny = load_decoder(tmp_path / "model", info, Compute(), DecoderKind.TINY)
    assert tiny.receptive_frames == 8
    assert ability(tmp_path / "model", Role.DECODE).replay_depth == 30


def test_one_whose_tiny_decoder_remembers_more_says_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "model")
    with_tiny(tmp_path / "model", tmp_path)
    monkeypatch.setattr("workers.models.wan.taehv.TaehvDecoder.receptive_frames", 31)
    assert ability(tmp_path / "model", Role.DECODE).replay_depth == 31


@pytest.mark.parametrize(("role", "depth"), [(Role.DENOISE, 3), (Role.DECODE, 9)])
def test_a_simulated_worker_says_its_reach(model: Path, role: Role, depth: int) -> None:
    assert ability(model, role, "simulated:1ms,layers=3,latents=9").replay_depth == depth
