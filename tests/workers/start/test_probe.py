"""The probe: it lets in what pays and is exact, and keeps out what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.core.recipe.context import Level
from longtake.core.recipe.positions import Numbering, Positions
from longtake.core.work import Role, ShapeTime, WorkerId
from tests.core.support.recipes import altered
from tests.workers.model_dir import model_info, write_model
from workers.denoise.attention import Rotate, SdpaBackend
from workers.models.api import Conditioning, Denoiser, Inputs, TextKV, sdpa
from workers.models.rotary import Rotation, rotate
from workers.models.wan.dit import WanModel
from workers.start import probe as probing
from workers.start.loading import LoadedWorker, one_of_each_shape, shapes_of
from workers.start.probe import BatchProfile, Subject, Trial, probe
from workers.start.profiles import Profiles
from workers.start.spec import WorkerSpec

INFO = model_info()
PAGES = 8 * INFO.recipe.page_count


@pytest.fixture(scope="module")
def model() -> WanModel:
    torch.manual_seed(0)
    return WanModel(INFO.dit)


def subject(denoiser: Denoiser) -> Subject:
    return Subject(denoiser=denoiser, attention=SdpaBackend(), geometry=INFO.geometry, recipe=INFO.recipe)


def times(per_forward_s: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let forwards take the times given, by batch size."""
    monkeypatch.setattr(Trial, "forward_s", lambda self, size: per_forward_s[size])


@pytest.mark.parametrize(
    ("forward_s", "limit", "measured"),
    [
        ({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}, 8, {1, 2, 4, 8}),
        ({1: 1.0, 2: 1.2, 4: 2.4, 8: 1.0}, 2, {1, 2, 4}),  # 4 give no more than 2, so 8 are not tried
        ({1: 1.0, 2: 1.92}, 1, {1, 2}),  # 4 per cent
        ({1: 1.0, 2: 1.88, 4: 3.8}, 2, {1, 2, 4}),
    ],
)
def test_a_batch_grows_while_it_pays(
    forward_s: dict[int, float], limit: int, measured: set[int], model: WanModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    times(forward_s, monkeypatch)
    profile = probe(subject(model), pages=PAGES, max_batch=8)
    assert (profile.limit, set(profile.forward_s), profile.inexact) == (limit, measured, None)


@pytest.mark.parametrize(("pages", "max_batch", "limit"), [(PAGES, 1, 1), (PAGES, 3, 3), (PAGES - 1, 8, 7), (1, 8, 1)])
def test_a_batch_is_as_large_as_it_may_be(
    pages: int, max_batch: int, limit: int, model: WanModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    times(dict.fromkeys(range(1, 9), 1.0), monkeypatch)
    assert probe(subject(model), pages=pages, max_batch=max_batch).limit == limit


class OffByAnUlp(WanModel):
    """Gives other bits in batches of 3 or more."""

    def forward(self, inputs: Inputs) -> Tensor:
        flow = super().forward(inputs)
        if len(flow) < 3:
            return flow
        return torch.nextafter(flow, torch.full_like(flow, torch.inf))


class CommitsOtherwise(WanModel):
    """Writes other keys in a commit than in a forward."""

    def commit(self, inputs: Inputs) -> None:
        x_BFCHW = inputs.x_BFCHW
        super().commit(replace(inputs, x_BFCHW=torch.nextafter(x_BFCHW, torch.full_like(x_BFCHW, torch.inf))))


def test_kinds_mix_if_a_commit_writes_what_a_forward_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    times(dict.fromkeys(range(1, 9), 1.0), monkeypatch)

    def made(kind: type[WanModel], max_batch: int) -> tuple[int, bool]:
        torch.manual_seed(0)
        profile = probe(subject(kind(INFO.dit)), pages=PAGES, max_batch=max_batch)
        return profile.limit, profile.mixes_kinds

    assert made(WanModel, 4) == (4, True)
    assert made(CommitsOtherwise, 4) == (4, False)
    assert made(WanModel, 1) == (1, False)


def test_one_forward_is_timed_though_there_are_no_batches(model: WanModel) -> None:
    profile = probe(subject(model), pages=PAGES, max_batch=1)
    assert list(profile.forward_s) == [1]
    assert profile.forward_s[1] > 0


class MixesTexts(WanModel):
    """Gives the first item of a batch the text of the last."""

    def forward(self, inputs: Inputs) -> Tensor:
        def mixed(kv: dict[int, Tensor]) -> dict[int, Tensor]:
            return {layer: torch.cat([kv_BTND[-1:], kv_BTND[1:]]) for layer, kv_BTND in kv.items()}

        text = inputs.conditioning.text
        wrong = TextKV(k_BTND=mixed(text.k_BTND), v_BTND=mixed(text.v_BTND))
        return super().forward(replace(inputs, conditioning=Conditioning(text=wrong)))


@pytest.mark.parametrize(("kind", "limit", "inexact"), [(WanModel, 8, None), (OffByAnUlp, 2, 3), (MixesTexts, 1, 2)])
def test_a_size_that_changes_a_bit_ends_the_range(
    kind: type[WanModel], limit: int, inexact: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "MIN_GAIN", -10.0)
    torch.manual_seed(0)
    profile = probe(subject(kind(INFO.dit)), pages=PAGES, max_batch=8)
    assert (profile.limit, profile.inexact) == (limit, inexact)
    assert ("equal bits" in str(profile)) == (inexact is None)


class TurnsTheFirstOtherwise:
    """Turns the keys of a batch by other places than those of an item alone."""

    def __call__(self, x: Tensor, turn: Rotation) -> Tensor:
        alone = len(x) <= INFO.recipe.page_count
        return rotate(x, turn if alone else Rotation(turn.cos, torch.nextafter(turn.sin, torch.ones_like(turn.sin))))


@pytest.mark.parametrize(("turned", "limit", "inexact"), [(rotate, 8, None), (TurnsTheFirstOtherwise(), 1, 2)])
def test_keys_that_are_turned_as_they_are_read_are_tried_where_a_recipe_has_them(
    turned: Rotate, limit: int, inexact: int | None, model: WanModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "MIN_GAIN", -10.0)
    asked = replace(subject(model), attention=SdpaBackend(rotate=turned))
    listed = altered(INFO.recipe, positions=Positions(stream=Numbering.LISTED))
    profile = probe(asked.by(listed), pages=PAGES, max_batch=8)
    assert (profile.limit, profile.inexact, profile.mixes_kinds) == (limit, inexact, limit > 1)
    assert probe(asked, pages=PAGES, max_batch=8).limit == 8, "nothing is turned"


@pytest.mark.parametrize(("is_spoilt", "limit"), [(False, 8), (True, 1)])
def test_attention_that_adds_to_its_logits_is_tried_where_a_recipe_has_a_slope(
    is_spoilt: bool, limit: int, model: WanModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another kernel: whether that notices who shares its forward says nothing of the one without."""
    monkeypatch.setattr(probing, "MIN_GAIN", -10.0)
    adding = []

    def attended(q_BLND: Tensor, k_BSND: Tensor, v_BSND: Tensor, bias_B1LS: Tensor) -> Tensor:
        adding.append(len(bias_B1LS))
        out_BLND = sdpa(q_BLND, k_BSND, v_BSND, bias_B1LS)
        return torch.nextafter(out_BLND, out_BLND + 1) if is_spoilt and len(bias_B1LS) > 1 else out_BLND

    monkeypatch.setattr("workers.denoise.attention.sdpa", attended)
    sloped = altered(INFO.recipe, sink_frames=0, slope=0.1)
    profile = probe(subject(model).by(sloped), pages=PAGES, max_batch=8)
    assert (profile.limit, profile.mixes_kinds) == (limit, not is_spoilt)
    assert set(adding) >= {1, 2}
    adding.clear()
    assert probe(subject(model), pages=PAGES, max_batch=8).limit == 8 and not adding, "nothing is added"


def test_recipes_with_a_slope_are_measured_for_themselves_and_the_longest_time_of_a_shape_counts() -> None:
    plain = altered(INFO.recipe, sink_frames=0)
    sloped = altered(plain, slope=0.1)
    assert one_of_each_shape(plain, sloped, altered(sloped, slope=0.2)) == {
        shapes_of(plain): plain, shapes_of(sloped): sloped
    }  # fmt: skip
    slow, fast = (BatchProfile(forward_s={1: seconds}, limit=1) for seconds in (0.009, 0.004))
    for others in ({(1, 9, 1, False): fast, (1, 9, 1, True): slow}, {(1, 9, 1, True): slow, (1, 9, 1, False): fast}):
        ability = Profiles(own=fast, others=others).ability(9, "", layers=5)
        assert ability.shape_s == (ShapeTime(1, 9, 0.009),)


def test_a_trial_has_keys_of_both_kinds_if_a_recipe_of_its_shape_turns_them() -> None:
    listed = altered(INFO.recipe, positions=Positions(stream=Numbering.LISTED))
    wide = altered(INFO.recipe, window_frames=7)
    assert one_of_each_shape(INFO.recipe, wide, listed) == {shapes_of(INFO.recipe): listed, shapes_of(wide): wide}
    assert one_of_each_shape(INFO.recipe, wide) == {shapes_of(INFO.recipe): INFO.recipe, shapes_of(wide): wide}
    short = altered(INFO.recipe, first_frames=1)
    assert len(one_of_each_shape(INFO.recipe, short)) == 2, "its first blocks have shapes of their own"


def test_the_probe_speaks_plainly() -> None:
    profile = BatchProfile(forward_s={1: 0.004, 2: 0.006}, limit=1, inexact=2)
    assert str(profile) == "batch limit 1: t(1) = 4.00 ms, t(2) = 6.00 ms; a batch of 2 gives other bits, commits alone"


def test_of_several_shapes_the_least_batch_counts_and_each_is_told_its_time() -> None:
    own = BatchProfile(forward_s={1: 0.004, 2: 0.006}, limit=4, mixes_kinds=True)
    fine = BatchProfile(forward_s={1: 0.002}, limit=2, mixes_kinds=True)
    wide = BatchProfile(forward_s={1: 0.009}, limit=3, mixes_kinds=False)
    alone = Profiles(own=own).ability(9, "", layers=5)
    assert (alone.batch_limit, alone.mixes_kinds, alone.forward_s, alone.shape_s) == (4, True, 0.004, ())
    two = Profiles(own=own, others={(1, 9, 1, False): fine}).ability(9, "", layers=5)
    assert (two.batch_limit, two.mixes_kinds, two.shape_s) == (2, True, (ShapeTime(1, 9, 0.002),))
    three = Profiles(own=own, others={(1, 9, 1, False): fine, (6, 9, 6, False): wide})
    assert (three.limit, three.ability(9, "", layers=5).mixes_kinds) == (2, False)
    assert "1 frames over 9 pages: batch limit 2" in str(three)


def test_a_worker_measures_each_shape_that_is_served_once(tmp_path: Path) -> None:
    info = write_model(tmp_path)
    fine = altered(info.recipe, frames=1)
    recipes = (fine, altered(fine, ladder=(1000,)), altered(info.recipe, level=Level.CLEAN))
    spec = WorkerSpec(
        worker=WorkerId("denoise-0"), role=Role.DENOISE, capacity=60, model=tmp_path, recipes=recipes, max_batch=2
    )
    ability = LoadedWorker(spec).introduction.ability
    assert [(each.frames, each.pages) for each in ability.shape_s] == [(1, 5)], "and not the own shape again"
    assert 0 < ability.shape_s[0].seconds < 1


def test_the_decoding_of_a_block_is_timed_before_anybody_asks(tmp_path: Path) -> None:
    write_model(tmp_path)
    spec = WorkerSpec(worker=WorkerId("decode-0"), role=Role.DECODE, capacity=2, model=tmp_path)
    loaded = LoadedWorker(spec)
    assert 0 < loaded.introduction.ability.forward_s < 1
    assert loaded.fresh().held_sessions == set()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        ([(0.3, 0.5), (0.2, 0.6), (0.4, 0.4), (0.25, 0.7)], (0.2, 0.4)),  # the first warms up
        ([(0.1, 0.1), (0.2, 0.6), (0.4, 0.4), (0.25, 0.7)], (0.2, 0.4)),
        ([(2.0, 3.5), (1.9, 3.4)], (1.9, 3.4)),  # it takes so long that it is the only one
        ([(0.1, 7.4), (0.1, 0.2), (0.1, 0.3), (0.1, 0.2)], (0.1, 0.2)),  # the first made kernels
    ],
)
def test_times_are_the_least_of_three_rounds_but_for_those_that_take_long(
    rounds: list[tuple[float, ...]], expected: tuple[float, ...]
) -> None:
    left = list(rounds)
    assert probing.least_s(lambda: left.pop(0)) == expected
    assert not left
