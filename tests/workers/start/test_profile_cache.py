"""Kept profiles: read where everything is the same, measured again where anything is not."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from longtake.core.work import Role, WorkerId
from tests.workers.model_dir import model_info, write_model
from workers.denoise.attention import SdpaBackend
from workers.models.api import Compute
from workers.models.weights import new_denoiser
from workers.start import loading
from workers.start.loading import LoadedWorker
from workers.start.numerics import Kernels, Numerics
from workers.start.probe import BatchProfile, Subject
from workers.start.profile_cache import ProfileKey, cached, key_of
from workers.start.spec import WorkerSpec

INFO = model_info()
PROFILE = BatchProfile(forward_s={1: 0.004, 2: 0.0055}, limit=2, mixes_kinds=True)
SUBJECT = Subject(
    denoiser=new_denoiser(INFO), attention=SdpaBackend(), geometry=INFO.geometry, recipe=INFO.recipe
)  # fmt: skip
NUMERICS = Numerics(kernels=Kernels(torch_version="2", device="AVX512", dtype="float32", threads=1), digest="ab")
KEY = key_of("digest", SUBJECT, Compute(), NUMERICS, max_batch=4)


def never() -> BatchProfile:
    raise AssertionError("it was measured again")


@pytest.mark.parametrize("profile", [PROFILE, replace(PROFILE, limit=1, inexact=2, mixes_kinds=False)])
def test_a_kept_profile_is_what_was_measured(tmp_path: Path, profile: BatchProfile) -> None:
    folder = tmp_path / "not" / "there yet"
    assert cached(folder, KEY, lambda: profile) == profile
    assert cached(folder, KEY, never) == profile
    assert [path.name for path in folder.iterdir()] == [KEY.file_name], "nothing half-written stays"


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, model_digest="other"),
        replace(KEY, compute=replace(KEY.compute, device="another processor")),
        replace(KEY, compute=replace(KEY.compute, dtype="bfloat16")),
        replace(KEY, numerics=replace(NUMERICS, digest="cd")),
        *(
            replace(KEY, numerics=replace(NUMERICS, kernels=replace(NUMERICS.kernels, **other)))
            for other in (
                {"torch_version": "0"},
                {"device": "AVX2"},
                {"dtype": "bfloat16"},
                {"cuda": "13.0"},
                {"cudnn": "91501"},
                {"fused": True},
                {"threads": 2},
                {"attention": "math"},
            )
        ),
        replace(KEY, tokens_per_block=1),
        replace(KEY, window_pages=1),
        replace(KEY, max_batch=8),
    ],
)
def test_every_part_of_the_key_counts(tmp_path: Path, other: ProfileKey) -> None:
    cached(tmp_path, KEY, lambda: PROFILE)
    fresh = replace(PROFILE, forward_s={1: 1.0}, limit=1)
    assert cached(tmp_path, other, lambda: fresh) == fresh
    assert cached(tmp_path, KEY, never) == PROFILE


def _foreign(text: str) -> str:
    document = json.loads(text)
    document["key"]["compute"]["device"] = "another processor"
    return json.dumps(document)


def _impossible(text: str) -> str:
    document = json.loads(text)
    document["profile"]["limit"] = 99
    return json.dumps(document)


@pytest.mark.parametrize("damage", [lambda text: text[:-40], lambda text: "[]", lambda text: "", _foreign, _impossible])
def test_a_file_that_is_damaged_or_anothers_is_passed_over_and_mended(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(damage)
    cached(tmp_path, KEY, lambda: PROFILE)
    path = tmp_path / KEY.file_name
    path.write_text(damage(path.read_text()))
    with caplog.at_level(logging.WARNING):
        assert cached(tmp_path, KEY, lambda: PROFILE) == PROFILE
    assert KEY.file_name in caplog.text
    assert cached(tmp_path, KEY, never) == PROFILE


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert cached(blocked, KEY, lambda: PROFILE) == PROFILE
    assert "cannot be kept" in caplog.text


def test_the_second_start_of_a_worker_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = tmp_path / "model", tmp_path / "profiles"
    model.mkdir()
    write_model(model)
    spec = WorkerSpec(
        worker=WorkerId("denoise-0"), role=Role.DENOISE, capacity=4 * INFO.recipe.page_count, model=model,
        max_batch=4, profiles=str(folder),
    )  # fmt: skip
    first = LoadedWorker(spec)
    monkeypatch.setattr(loading, "probe", lambda *_, **__: never())
    second = LoadedWorker(spec)
    assert second.profile == first.profile
    assert second.introduction == first.introduction
    with pytest.raises(AssertionError, match="measured again"):
        LoadedWorker(replace(spec, max_batch=2))
