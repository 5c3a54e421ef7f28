"""The fake worker does what the workers of a simulated device do, and carries images as their threads do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from longtake.core.effects import Discard, EncodeText, Forget, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.errors import InternalFault, UnknownPeer
from longtake.core.recipe.context import Level
from longtake.core.work import ConditioningRef, ImageId, PageId, SlotId, WorkerId
from tests.core.support.recipes import APART
from tests.workers.model_dir import model_info
from tests.workers.simulated.stream import RAW, A, decode, forwards, task
from workers.messages import Done, Encoded, ImageGone, ImageLoaded, ImageStowed, JoinChain, Prepared, Shutdown
from workers.simulated import arithmetic
from workers.simulated.arithmetic import REACH
from workers.simulated.fake import FakeWorker, Image
from workers.simulated.lanes import SimulatedLanes
from workers.simulated.workers import SimulatedDenoiseWorker

HERE, THERE = WorkerId("here"), WorkerId("there")
GEOMETRY = model_info().geometry
IMAGE = ImageId(1)
LATENTS = arithmetic.latents_of(b"x", GEOMETRY)


def fakes() -> tuple[FakeWorker, FakeWorker]:
    """Two of one cell."""
    transit: dict[ImageId, Image] = {}
    here, there = (FakeWorker(SimulatedLanes(GEOMETRY, pages=40), transit) for _ in range(2))
    return here, there


def prepare(slot: int = 0, image: ImageId | None = None, origin: SlotId | None = None) -> PrepareStream:
    return PrepareStream(worker=HERE, session=A, slot=SlotId(slot), settings=RAW, image=image, origin=origin)


@pytest.mark.parametrize("level", APART)
def test_its_outputs_and_pages_are_those_of_a_simulated_worker(level: Level) -> None:
    fake, _ = fakes()
    simulated = SimulatedDenoiseWorker(SimulatedLanes(GEOMETRY, pages=40))
    last = b""
    for work in forwards(level, 6):
        order = task(work, latents=last, conditioning=b"text")
        done = fake.perform(order)
        assert [done] == list(simulated.perform(order))
        assert isinstance(done, Done)
        last = next(iter(done.outputs), last)  # what nobody starts from elsewhere is not sent
    assert all(np.array_equal(fake.lanes.pages[n], simulated.page(PageId(n)).numpy()) for n in range(40))


def test_an_image_of_pages_goes_from_worker_to_worker_and_is_used_up() -> None:
    here, there = fakes()
    here.lanes.pages[:] = np.arange(40)[:, None, None]
    stowed = Stow(worker=HERE, session=A, image=IMAGE, source=(PageId(7), PageId(2)))
    load = LoadImage(worker=THERE, session=A, image=IMAGE, target=(PageId(0), PageId(1)))
    take = Take(worker=THERE, session=A, image=IMAGE, origin=HERE)
    assert here.perform(stowed) == ImageStowed(image=IMAGE)
    here.lanes.pages[7] = 99  # the image is a copy
    assert here.perform(Give(worker=HERE, session=A, image=IMAGE, to=THERE)) is None
    assert there.perform(take) is None
    assert there.perform(load) == ImageLoaded(image=IMAGE)
    assert there.lanes.pages[:3, 0, 0].tolist() == [7, 2, 0]
    assert not (here.images or there.images or here.transit)
    assert there.perform(take) is None
    assert there.perform(load) == ImageGone(image=IMAGE, reason="image 1 is not here")


def test_a_decoders_state_is_copied_stowed_and_filled_again() -> None:
    here, _ = fakes()
    name, state = arithmetic.decoded(LATENTS, arithmetic.first_state(REACH), GEOMETRY)
    assert isinstance(here.perform(prepare()), Prepared)
    done = here.perform(task(decode(0), latents=LATENTS))
    assert isinstance(done, Done) and done.segment == name
    assert isinstance(here.perform(prepare(1, origin=SlotId(0))), Prepared)
    assert here.perform(Stow(worker=HERE, session=A, image=IMAGE, source=SlotId(0))) == ImageStowed(image=IMAGE)
    with pytest.raises(UnknownPeer, match="was not prepared"):
        here.perform(task(decode(1), latents=LATENTS))
    assert isinstance(here.perform(prepare(0, image=IMAGE)), Prepared)
    assert here.states == {0: (A, state), 1: (A, state)} and not here.images
    with pytest.raises(InternalFault, match="already open"):
        here.perform(prepare())


def test_a_slot_that_starts_in_the_middle_is_exact_after_as_many_latents_and_says_nothing_of_them() -> None:
    here, _ = fakes()
    blocks = -(-REACH.latents // GEOMETRY.blocks.frames)
    latents = [arithmetic.latents_of(b"%d" % block, GEOMETRY) for block in range(blocks + 3)]
    here.perform(prepare(0))
    here.perform(replace(prepare(1), started=True))
    for block, given in enumerate(latents):
        here.perform(task(decode(block), latents=given))
        if block >= 3:
            again = replace(decode(block), slot=SlotId(1), picture_count=0)
            done = here.perform(task(again, latents=given))
            assert isinstance(done, Done) and done.segment == b""
    assert here.states[SlotId(0)] == here.states[SlotId(1)]


def test_what_fails_leaves_nothing_behind_and_is_reported_if_it_has_an_answer() -> None:
    here, there = fakes()
    stow = Stow(worker=HERE, session=A, image=IMAGE, source=(PageId(0),))
    assert here.fail(stow) == ImageGone(image=IMAGE, reason="no memory")
    here.perform(stow)
    assert here.fail(LoadImage(worker=HERE, session=A, image=IMAGE, target=(PageId(0),))) is not None
    assert not here.images
    here.perform(stow)
    here.perform(Give(worker=HERE, session=A, image=IMAGE, to=THERE))
    assert there.fail(Take(worker=THERE, session=A, image=IMAGE, origin=HERE)) is None
    assert not here.transit
    here.perform(prepare())
    assert here.fail(Stow(worker=HERE, session=A, image=IMAGE, source=SlotId(0))) is not None
    assert not here.states


def test_a_session_that_is_forgotten_leaves_its_pages_and_nothing_else() -> None:
    here, _ = fakes()
    encoded = here.perform(EncodeText(worker=HERE, conditioning=ConditioningRef(session=A, version=0), prompt="any"))
    assert isinstance(encoded, Encoded) and encoded.tensor == b"any"
    work = next(forwards(Level.OUTPUT, 1))
    here.perform(task(work, conditioning=encoded.tensor))
    here.perform(prepare())
    here.perform(Stow(worker=HERE, session=A, image=IMAGE, source=work.pages.writes))
    assert here.lanes.memory.sessions == {A}
    here.perform(Forget(worker=HERE, session=A, version=None))
    assert not (here.lanes.memory.sessions or here.images or here.states)
    assert here.lanes.pages[list(work.pages.writes)].any()
    for message in (JoinChain(1), Shutdown(), Discard(worker=HERE, image=IMAGE)):
        assert here.perform(message) is None
