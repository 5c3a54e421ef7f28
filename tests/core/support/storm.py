"""Clients, workers and bad luck, all at random, on a cell without devices."""

from __future__ import annotations

import random
from collections import defaultdict

from longtake.core.effects import Emit
from longtake.core.endings import Ending
from longtake.core.events import Attach, Close, Detach, Pause, Play
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.recipe.context import Level
from longtake.core.recipe.ops import Kind
from longtake.core.recipe.positions import Cyclic, Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions.life import State
from longtake.core.work import FIRST_CONNECTION, ConnectionNumber, SessionId, WorkerId
from tests.core.support.image_cell import ImageCell
from tests.core.support.parts import recipe
from tests.core.support.recipes import APART, altered
from tests.core.support.world import effects_of


def placed(draw: random.Random, *, sinks: int) -> Positions:
    """Any positions that such a recipe may have."""
    periods = [] if sinks else [9, 10, 100]
    return Positions(stream=draw.choice([*Numbering, *(Cyclic(cyclic=period) for period in periods)]))


def listed(draw: random.Random, made: Recipe) -> Recipe:
    """The same with any lists of steps that it may have: where each step has a lane, none."""
    ladder = made.steps.ladder
    if made.level is not Level.CLEAN or len(ladder) == 1:
        return made
    shed = [ladder[:-1]] * (len(ladder) > 2) + [ladder[:1]]
    return altered(made, first=ladder, first_blocks=draw.randrange(1, 3), shed=tuple(shed[: draw.randrange(1, 3)]))


class Storm:
    """Clients, workers and bad luck, all at random."""

    def __init__(self, seed: int, *, classes: int = 1) -> None:
        """The workers of each role are of so many classes, in turn."""
        self.draw = random.Random(seed)
        draw = self.draw
        limits = Limits(
            park_after_s=draw.choice([0.0, 1.0, 5.0]),
            max_parked=draw.choice([1, 3, 20]),
            max_queued=draw.choice([0, 2, 9]),
            detached_s=draw.choice([0.0, 4.0, 600.0, 600.0]),
        )
        self.level = draw.choice(APART)
        made = recipe(self.level, sinks=draw.randrange(4), steps=draw.randrange(1, 5))
        made = altered(made, positions=placed(random.Random(seed), sinks=made.sink_frames))  # the same storm for each
        made = self.begun(listed(random.Random(f"lists {seed}"), made))
        lanes = made.lane_count
        self.cell = ImageCell(
            made, denoisers=draw.randrange(1, 5), decoders=draw.randrange(1, 3), slots=draw.randrange(1, 4),
            pages=draw.choice([9 * lanes, 9 * lanes + 4, 18 * lanes]), batch_limit=draw.choice([1, 4]), limits=limits,
            numerics=lambda worker: str(int(worker.rpartition("-")[2]) % classes),
        )  # fmt: skip
        loads = random.Random(f"loads {seed}")
        self.cell.scheduler.cell.load_rule = lambda _cell, session, _block, _now_s: loads.randint(
            0, session.graph.recipe.steps.most_load
        )
        self.seen: set[State] = set()
        self.pictures: dict[SessionId, int] = {}
        """Length of each stream."""
        self._names = 0
        self._connections: dict[SessionId, ConnectionNumber] = {}
        """The newest call of each session that had more than one."""

    def begun(self, made: Recipe) -> Recipe:
        """The recipe, as streams begin in this storm."""
        return made

    def given(self) -> int:
        """So many latent frames are given of the next stream."""
        return 0

    def step(self) -> None:
        """One event."""
        cell, draw = self.cell, self.draw
        open_now = [name for name in cell.there if name not in cell.closed]
        choices = ["tick"] + ["finish"] * 6 * bool(cell.busy) + ["carry out"] * 5 * bool(cell.images.ready)
        choices += ["answer"] * 4 * bool(cell.answers) + ["acknowledge"] * 2 * bool(cell.owing())
        choices += ["pause", "play", "play"] * bool(open_now) + ["close"] * (draw.random() < 0.1 and bool(open_now))
        choices += ["open"] * (self._names < 12) + ["lose"] * (draw.random() < 0.02)
        choices += ["leave", "return", "return"] * (draw.random() < 0.1 and bool(open_now))
        choice = draw.choice(choices)
        match choice:
            case "tick":
                cell.later(draw.choice([0.0, 0.1, 3.0]))
            case "finish":
                cell.finish(draw.choice(cell.busy))
            case "carry out":
                cell.carry_out(draw.choice(cell.images.ready), fails=draw.random() < 0.03)
            case "answer":
                cell.send(cell.answers.popleft())
            case "acknowledge":
                cell.acknowledge(draw.choice(cell.owing()))
            case "pause" | "play" | "close" | "leave" | "return":
                self._ask(choice, draw.choice(open_now))
            case "open":
                self._open()
            case "lose":
                self.lose(draw.choice(list(cell.queues)))
        self.seen |= {view.state for view in cell.scheduler.sessions()}

    def _ask(self, what: str, session: SessionId) -> None:
        """A client does something with its session."""
        now_s = self.cell.now_s
        match what:
            case "pause":
                self.cell.send(Pause(now_s=now_s, session=session))
            case "play":
                self.cell.send(Play(now_s=now_s, session=session))
            case "close":
                self.cell.send(Close(now_s=now_s, session=session, ending=Ending.CLIENT))
            case "leave":
                self.leave(session)
            case "return":
                self.come_back(session)

    def _open(self) -> None:
        self._names += 1
        name = f"s{self._names}"
        self.pictures[SessionId(name)] = self.draw.randrange(1, 90)
        self.cell.open(
            name,
            given=self.given(),
            pictures=self.pictures[SessionId(name)],
            window=self.draw.randrange(1, 4),
            pace=self.draw.choice([Pace.FAST, Pace.FAST, Pace.REALTIME]),
        )

    def leave(self, session: SessionId) -> None:
        """The client's call breaks, or an older one of its calls."""
        newest = self._connections.get(session, FIRST_CONNECTION)
        connection = ConnectionNumber(self.draw.randrange(newest + 1))
        self.cell.send(Detach(now_s=self.cell.now_s, session=session, connection=connection))

    def come_back(self, session: SessionId) -> None:
        """The client goes on with another call; the engine holds all that it has sent."""
        newest = self._connections[session] = ConnectionNumber(self._connections.get(session, FIRST_CONNECTION) + 1)
        sent = len(self.cell.segments.get(session, ()))
        cursor = self.draw.randrange(sent) if sent and self.draw.random() < 0.8 else None
        now_s = self.cell.now_s
        self.cell.send(Attach(now_s=now_s, session=session, connection=newest, cursor=cursor, held_from=0))

    def lose(self, worker: WorkerId) -> None:
        """A worker is lost and joins again."""
        view = next(view for view in self.cell.scheduler.workers() if view.worker == worker)
        self.cell.lose(worker)
        self.cell.join(worker, view.role, view.ability.capacity)

    def finish(self) -> None:
        """Every client wants to go on; then all streams that can be complete are."""
        cell = self.cell
        for _ in range(200):
            for name in [name for name in cell.there if name not in cell.closed]:
                cell.send(Play(now_s=cell.now_s, session=name))
                if cell.session(name).presence.is_away:
                    self.come_back(name)
            cell.settle()
            if not cell.scheduler.sessions():
                break
            cell.later(1.0)
        for name, closed in cell.closed.items():
            asked = self.cell.geometry.divided(self.cell.graph_of(name).blocks).blocks_for(self.pictures[name])
            assert (closed.segments == asked) == (closed.ending is Ending.COMPLETED), closed
        self._check_steps()
        cell.check_empty()

    def _check_steps(self) -> None:
        """Every block took the steps that its client was told, whatever was lost, and no others."""
        taken: dict[tuple[SessionId, int], set[int]] = defaultdict(set)
        for session, op in self.cell.done:
            if op.kind is Kind.DENOISE:
                taken[session, op.block].add(op.step)
        for emit in effects_of(self.cell, Emit):
            is_given = emit.block < self.cell.graph_of(emit.session).given_blocks
            assert emit.steps == (0 if is_given else len(taken[emit.session, emit.block])), emit
