"""Losing workers: streams go on, what they read is what it must be, and nothing is left behind in the end."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence

import pytest

from longtake.core.effects import Notice
from longtake.core.endings import Ending
from longtake.core.events import Close, Cue, Pause, Play
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.sessions.life import State
from longtake.core.sessions.retention import Retention
from longtake.core.work import Role, SessionId, WorkerId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import cue, geometry, recipe, works_of
from tests.core.support.recipes import APART
from tests.core.support.world import effects_of
from tests.samples import first

BLOCKS = 14


class Losses:
    """Streams, forks, cues and pauses at random, while workers are lost and come back."""

    def __init__(
        self, seed: int, *, losses: float = 0.03, levels: Sequence[Level] = APART, joint_ops: int = 64
    ) -> None:
        self.draw = draw = random.Random(seed)
        self.losses = losses
        level, window = draw.choice(levels), draw.choice([8, 9, 12])
        made = recipe(level, sinks=draw.randrange(5), steps=draw.randrange(1, 5), window=window)
        self.cell = ImageCell(
            made, denoisers=draw.randrange(1, 5), decoders=draw.randrange(1, 3), slots=draw.randrange(2, 6),
            pages=draw.choice([30, 60]) * made.lane_count, batch_limit=draw.choice([1, 4]), joint_ops=joint_ops,
            limits=Limits(
                park_after_s=draw.choice([0.5, 5.0]), max_queued=9, fused_passes=draw.random() < 0.3, rewind_blocks=3
            ),
        )  # fmt: skip
        self.opened: list[SessionId] = []

    def step(self, number: int) -> None:
        """One event."""
        cell, draw = self.cell, self.draw
        if draw.random() < self.losses:
            self.lose(draw.choice(list(cell.queues)))
            return
        names = [name for name in cell.there if name not in cell.closed]
        choices = ["later"] + ["finish"] * 8 * bool(cell.busy) + ["answer"] * 3 * bool(cell.answers)
        choices += ["acknowledge"] * 2 * bool(cell.owing()) + ["carry out"] * 4 * bool(cell.images.ready)
        choices += ["pause", "play", "play", "cue"] * bool(names)
        choices += ["open"] * (len(self.opened) < 4) + ["fork"] * (bool(names) and len(self.opened) < 9)
        match draw.choice(choices):
            case "finish":
                cell.finish(draw.choice(cell.busy))
            case "answer":
                cell.send(cell.answers.popleft())
            case "carry out":
                cell.carry_out(draw.choice(cell.images.ready), fails=draw.random() < 0.03)
            case "acknowledge":
                cell.acknowledge(draw.choice(cell.owing()))
            case "later":
                cell.later(draw.choice([0.0, 0.2, 2.0]))
            case "pause" | "play" | "cue" as wish:
                self._ask(wish, draw.choice(names), number)
            case "fork":
                self._fork(draw.choice(names), f"f{number}", number)
            case "open":
                pace = draw.choice([Pace.FAST, Pace.REALTIME])
                name = f"s{number}"
                cell.open(name, pictures=geometry().first_picture(BLOCKS), window=draw.randrange(1, 4), pace=pace)
                self.opened += [SessionId(name)] * (SessionId(name) in cell.there)

    def _fork(self, parent: SessionId, name: str, seed: int) -> None:
        """Where the parent is, or in its past."""
        at = self.draw.choice([None, self.draw.randrange(1 + min(self.cell.session(parent).progress.done))])
        pictures = geometry().first_picture(BLOCKS)
        if self.cell.fork(name, parent, at=at, pictures=pictures, seed=seed) >= 0:
            self.opened.append(SessionId(name))

    def _ask(self, wish: str, session: SessionId, number: int) -> None:
        now_s = self.cell.now_s
        match wish:
            case "pause":
                self.cell.send(Pause(now_s=now_s, session=session))
            case "play":
                self.cell.send(Play(now_s=now_s, session=session))
            case _:
                request = cue(f"c{number}", prompt=f"q{number}")
                self.cell.send(Cue(now_s=now_s, session=session, request=request))

    def lose(self, worker: WorkerId) -> None:
        """A worker is lost, and joins again at once or after some events."""
        view = next((view for view in self.cell.scheduler.workers() if view.worker == worker), None)
        if view is not None:
            self.cell.lose(worker)
            self.cell.join(worker, view.role, view.ability.capacity)

    def finish(self) -> None:
        """Every client wants to go on."""
        cell = self.cell
        for _ in range(60):
            for name in [name for name in cell.there if name not in cell.closed]:
                cell.send(Play(now_s=cell.now_s, session=name))
            cell.settle()
            if not cell.scheduler.sessions():
                break
            cell.later(1.0)
        cell.check_empty()


def swept(seed: int, *, losses: float = 0.03, levels: Sequence[Level] = APART, joint_ops: int = 64) -> Losses:
    """A storm that is over: every client has what it asked for."""
    storm = Losses(seed, losses=losses, levels=levels, joint_ops=joint_ops)
    for number in range(500):
        storm.step(number)
    storm.finish()
    return storm


@pytest.mark.parametrize("losses", [0.03, 0.12])
@pytest.mark.parametrize("seed", first(5, range(20)))
def test_every_stream_is_complete_whatever_is_lost_whenever(seed: int, losses: float) -> None:
    storm = swept(seed, losses=losses)
    endings = {name: storm.cell.closed[name].ending for name in storm.opened}
    assert set(endings.values()) <= {Ending.COMPLETED}, endings


@pytest.mark.parametrize("joint_ops", [64, 0])
@pytest.mark.parametrize("losses", [0.03, 0.12])
@pytest.mark.parametrize("seed", first(2, range(12)))
def test_blocks_that_step_together_are_complete_whatever_is_lost_between_two_iterations(
    seed: int, losses: float, joint_ops: int
) -> None:
    storm = swept(seed, losses=losses, levels=[Level.STAGGERED], joint_ops=joint_ops)
    endings = {name: storm.cell.closed[name].ending for name in storm.opened}
    assert set(endings.values()) <= {Ending.COMPLETED}, endings


@pytest.mark.parametrize("what", ["lane_blocks", "slot_blocks"])
def test_a_replay_of_one_block_less_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(Retention, what).func
    monkeypatch.setattr(Retention, what, property(lambda retention: max(0, right(retention) - 1)))
    noticed = 0
    for seed in range(6):
        with contextlib.suppress(AssertionError):
            swept(seed)
            continue
        noticed += 1
    assert noticed >= 3, "storms in which something was rebuilt see it"


def test_whoever_leaves_makes_room_first_and_no_younger_stream_overtakes_an_older_one() -> None:
    made = recipe(Level.OUTPUT, window=8, steps=2)
    room = made.page_count * made.lane_count
    cell = ImageCell(made, denoisers=2, decoders=1, slots=9, pages=2 * room, batch_limit=1, limits=Limits(max_queued=9))
    first, second = [view.worker for view in cell.scheduler.workers() if view.role is Role.DENOISE]

    def has(worker: WorkerId, session: str) -> bool:
        return any(work.session == session for dispatch in cell.queues[worker] for work in works_of(dispatch))

    names = ["a", "b", "leaving", "c"]
    for name in names[:3]:
        cell.open(name, pictures=geometry().first_picture(BLOCKS))
        cell.answer()
    while not has(first, "leaving"):
        cell.finish_and_acknowledge(cell.busy[0])
    cell.send(Close(now_s=cell.now_s, session=SessionId("leaving"), ending=Ending.CLIENT))
    while has(second, "leaving"):
        cell.finish_and_acknowledge(second)
    cell.open("c", pictures=geometry().first_picture(BLOCKS))
    cell.answer()
    assert [view.session for view in cell.scheduler.sessions()] == names
    cell.lose(first)  # on the other are a lane of each, and there is room for four: for those of two streams
    states = {str(view.session): view.state for view in cell.scheduler.sessions()}
    assert states.keys() == {"a", "b", "c"} and states["a"] is State.RUNNING
    told = effects_of(cell, Notice)
    assert [notice.session for notice in told] == ["b", "c"]
    assert all("no room for what it held (" in notice.text for notice in told), told
    while cell.session("c").state is not State.PARKED or cell.session("b").state is not State.RUNNING:
        cell.finish_and_acknowledge(second) if second in cell.busy else cell.settle(acknowledge=False)
    cell.settle()
    assert {closed.ending for name, closed in cell.closed.items() if name != "leaving"} == {Ending.COMPLETED}
    cell.check_empty()
