"""Recipes that recache, and streams with cues on cells without devices, where everything happens at any moment."""

from __future__ import annotations

import random
from dataclasses import replace

from longtake.core.endings import Ending
from longtake.core.events import Cue, Pause, Play
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CueChange, CueEffect, CuePolicy, CueRule
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.life import State
from longtake.core.work import CueId, Role, SessionId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import cue, geometry, recipe
from tests.core.support.world import Cell

BLOCKS = 16


def recaching(
    rule: CueRule, level: Level = Level.CLEAN, *, sinks: int = 0, keep: bool | None = None, window: int | None = 9,
    steps: int = 2,
) -> Recipe:  # fmt: skip
    """A recipe of blocks of 3 frames, in which cues recache."""
    made = recipe(level, window=window, sinks=sinks, steps=steps)
    limit = BLOCKS if rule is CueRule.FULL else made.block_limit
    return replace(made, cues=CuePolicy(change=rule, keep_sinks=keep), block_limit=limit)


EVERY = {
    "window": recaching(CueRule.WINDOW),
    "window, odd": recaching(CueRule.WINDOW, window=10),
    "window, kept": recaching(CueRule.WINDOW, sinks=3, keep=True, window=12),
    "window, moved": recaching(CueRule.WINDOW, sinks=3, keep=False, window=12),
    "joint": recaching(CueRule.JOINT),
    "joint, odd": recaching(CueRule.JOINT, window=11),
    "joint, kept": recaching(CueRule.JOINT, sinks=3, keep=True, window=12),
    "joint, moved": recaching(CueRule.JOINT, sinks=6, keep=False, window=12),
    "joint, all": recaching(CueRule.JOINT, window=None),
    "full": recaching(CueRule.FULL),
    "full, sinks": recaching(CueRule.FULL, sinks=2),
    "output": recaching(CueRule.WINDOW, Level.OUTPUT, steps=3),
    "output, kept": recaching(CueRule.WINDOW, Level.OUTPUT, sinks=3, keep=True, steps=3),
    "output, moved": recaching(CueRule.WINDOW, Level.OUTPUT, sinks=3, keep=False),
    "output, full": recaching(CueRule.FULL, Level.OUTPUT),
    "input": recaching(CueRule.WINDOW, Level.INPUT, steps=3),
    "input, kept": recaching(CueRule.WINDOW, Level.INPUT, sinks=3, keep=True, window=12),
    "input, moved": recaching(CueRule.WINDOW, Level.INPUT, sinks=3, keep=False),
}
"""One of every kind."""


def ask(cell: Cell, session: SessionId, name: str, block: int | None, change: CueEffect | None = None) -> None:
    """A cue comes."""
    request = replace(cue(name, block=block, prompt=f"prompt {name}"), change=change)
    cell.send(Cue(now_s=cell.now_s, session=session, request=request))


class CueStorm:
    """Streams whose prompts change, with all that may befall them."""

    def __init__(self, seed: int, made: Recipe, *, losses: bool = True, **changes: object) -> None:
        self.draw = draw = random.Random(seed)
        self.losses = losses
        values = {
            "denoisers": draw.randrange(1, 4), "pages": 5 * made.page_count * made.lane_count + 60, "slots": 9,
            "batch_limit": draw.choice([1, 2, 4]),
            "limits": Limits(park_after_s=0.5, rewind_blocks=draw.choice([0, 4]), fused_passes=draw.random() < 0.4),
        } | changes  # fmt: skip
        self.cell = ImageCell(made, **values)  # type: ignore[arg-type]
        self.renewed = 0
        self._number = 0
        self.cell.open("s0", pictures=geometry().first_picture(BLOCKS), window=draw.randrange(1, 6))

    def run(self, steps: int = 300) -> None:
        """So many events; then everybody wants to come to the end, and does."""
        for self._number in range(1, steps):
            names = [name for name in self.cell.there if name not in self.cell.closed]
            if names:
                self._event(names)
        cell = self.cell
        for _ in range(60):
            for name in [name for name in cell.there if name not in cell.closed]:
                cell.send(Play(now_s=cell.now_s, session=name))
            cell.settle()
            cell.later(1.0)
        assert all(closed.ending is Ending.COMPLETED for closed in cell.closed.values()), cell.closed
        cell.check_empty()

    def _event(self, names: list[SessionId]) -> None:
        cell, draw = self.cell, self.draw
        choices = ["finish"] * 9 * bool(cell.busy) + ["answer"] * 4 * bool(cell.answers)
        choices += ["acknowledge"] * 3 * bool(cell.owing()) + ["carry out"] * 3 * bool(cell.images.ready)
        choices += ["later", "pause", "play", "play"] + ["cue"] * (draw.random() < 0.5)
        choices += ["fork"] * (draw.random() < 0.2 and len(cell.contents.parents) < 4)
        choices += ["move"] * (draw.random() < 0.4) + ["lose"] * (self.losses and draw.random() < 0.08)
        session = draw.choice(names)
        match draw.choice(choices):
            case "finish":
                cell.finish(draw.choice(cell.busy))
            case "answer":
                cell.send(cell.answers.popleft())
            case "carry out":
                cell.carry_out(draw.choice(cell.images.ready), fails=draw.random() < 0.05)
            case "acknowledge":
                cell.acknowledge(draw.choice(cell.owing()))
            case "cue":
                ahead = cell.session(session).next_block + draw.randrange(5)
                change = self.change(ahead)
                ask(cell, session, f"c{self._number}", draw.choice([None, ahead]), change)
            case "fork":
                at = draw.choice([None, max(0, cell.session(session).next_block - draw.randrange(5))])
                pictures = geometry().first_picture(BLOCKS)
                cell.fork(f"f{self._number}", session, at=at, pictures=pictures, window=draw.randrange(1, 5))
            case "move":
                self._move(session)
            case "lose":
                worker = draw.choice([view for view in cell.scheduler.workers() if view.role is not Role.TEXT])
                cell.lose(worker.worker)
                cell.join(worker.worker, worker.role, worker.ability.capacity)
            case "later":
                cell.later(draw.choice([0.0, 0.2, 0.7]))
            case "pause":
                cell.send(Pause(now_s=cell.now_s, session=session))
            case "play":
                cell.send(Play(now_s=cell.now_s, session=session))

    def change(self, block: int) -> CueEffect | None:
        """What a cue for a block asks for, or does not say."""
        return self.draw.choice([None, None, CueChange.SWAP, CueChange.RECACHE])

    def _move(self, session: SessionId) -> None:
        """Move a lane where the balance may move it."""
        record, cell = self.cell.session(session), self.cell
        if record.state not in (State.OPENING, State.RUNNING) or record.kin.forks or record.kin.depends:
            return
        lane = self.draw.randrange(len(record.place.lanes))
        units = cell.scheduler.cell.fleet.demands(record).lane.units
        free = [worker.id for worker in cell.fleet if worker.role is Role.DENOISE and worker.free >= units]
        targets = [worker for worker in free if worker != record.place.lanes[lane]]
        if targets and not any(hold is Hold.MOVING for _, hold in record.lane_holds):
            cell.move(session, lane, self.draw.choice(targets))


CUE = CueId("cue")
