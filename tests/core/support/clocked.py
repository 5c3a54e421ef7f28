"""A cell in time: workers take as long as the test says, whatever they say; clients acknowledge when it says.

Nothing is computed and nothing is looked at but the decisions of the scheduler, so minutes of a cell pass in a moment.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from itertools import count

from longtake.core.effects import (
    Closed,
    Dispatch,
    Effect,
    Emit,
    EncodeText,
    GiveUp,
    LoadImage,
    Parked,
    PrepareStream,
    Refused,
    Restored,
    Stow,
)
from longtake.core.endings import Ending
from longtake.core.errors import Problem
from longtake.core.events import (
    Ack,
    Close,
    Event,
    Loaded,
    OpDone,
    Open,
    Pause,
    PicturesEncoded,
    Play,
    Stowed,
    StreamPrepared,
    TextEncoded,
    Tick,
    WorkerJoined,
)
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.parts import EncodePictures
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, Role, SessionId, WorkerId
from tests.core.support.parts import SETTINGS, geometry, recipe

TICK_S = 0.1
SLOTS = 24


class Clocked:
    """Two denoise workers and a decoder, driven by the clock."""

    def __init__(self, says_s: dict[Role, float], limits: Limits) -> None:
        """Dispatches take so long, by what the workers say and, until the test says otherwise, in truth."""
        self.geometry = geometry()
        self.scheduler = Scheduler(recipe(), self.geometry, limits)
        self.takes_s = dict(says_s)
        """How long dispatches take in truth."""
        self.part_s = 0.0
        """How long a latent frame of what clients give takes to be encoded."""
        self.did: list[tuple[float, Dispatch | EncodePictures]] = []
        """What the decoder has done, and when it was done."""
        self.stuck: set[Role] = set()
        """Workers of these roles do nothing."""
        self.acknowledges_after_s: Callable[[str], float] = lambda _: 0.02
        """How long after a segment, and after it was through with the one before, a client acknowledges it."""
        self.now_s = 0.0
        self.emitted: list[tuple[float, Emit]] = []
        """Every segment, and when it left."""
        self.told: list[Closed | GiveUp | Refused | Parked | Restored] = []
        self._says_s = says_s
        self._roles: dict[WorkerId, Role] = {}
        self._queues: dict[WorkerId, deque[Dispatch | EncodePictures]] = {}
        self._ends_s: dict[WorkerId, float] = {}
        """When each worker is done with what it is at."""
        self._acks: list[tuple[float, int, SessionId, int]] = []
        self._acked_s: dict[SessionId, float] = {}
        self._numbers = count()
        self._next_tick_s = 0.0
        pages = SLOTS * recipe().page_count * recipe().lane_count
        for name, role, capacity in (
            ("denoise-0", Role.DENOISE, pages),
            ("denoise-1", Role.DENOISE, pages),
            ("decode-0", Role.DECODE, SLOTS),
        ):
            worker, ability = WorkerId(name), Ability(capacity=capacity, joint_ops=64, forward_s=says_s[role])
            self._roles[worker], self._queues[worker] = role, deque()
            self._send(WorkerJoined(now_s=0.0, worker=worker, role=role, ability=ability))

    @property
    def late(self) -> int:
        """How many streams are late."""
        return self.scheduler.cell.load_limit.late

    @property
    def share(self) -> float:
        """What may be reserved."""
        return self.scheduler.cell.load_limit.share

    @property
    def there(self) -> list[str]:
        """The sessions, in the order in which they were opened."""
        return list(self.scheduler.cell.sessions)

    def open(self, name: str, pace: Pace = Pace.REALTIME, window: int = 4, given: int = 0) -> Problem | None:
        """Why a stream is refused; None if it is let in, or waits. `given` are latent frames that are given."""
        before = len(self.told)
        self._send(
            Open(now_s=self.now_s, session=SessionId(name), prompt="p", seed=1, pace=pace, window=window,
                 picture_limit=None, settings=SETTINGS, given_frames=given)
        )  # fmt: skip
        refused = [told.problem for told in self.told[before:] if isinstance(told, Refused)]
        return refused[0] if refused else None

    def pause(self, name: str) -> None:
        self._send(Pause(now_s=self.now_s, session=SessionId(name)))

    def play(self, name: str) -> None:
        self._send(Play(now_s=self.now_s, session=SessionId(name)))

    def close(self, name: str) -> None:
        self._send(Close(now_s=self.now_s, session=SessionId(name), ending=Ending.CLIENT))

    def run(self, seconds: float, *, each: Callable[[], None] | None = None) -> None:
        """Let so much time pass; `each` is called after every tick."""
        until_s = self.now_s + seconds
        while True:
            for worker, queue in self._queues.items():
                if queue and self._roles[worker] not in self.stuck:
                    is_part = isinstance(queue[0], EncodePictures)
                    takes_s = self.part_s if is_part else self.takes_s[self._roles[worker]]
                    self._ends_s.setdefault(worker, self.now_s + takes_s)
            ends = [(at_s, name) for name, at_s in self._ends_s.items()]
            done_s, worker = min(ends, default=(math.inf, WorkerId("")))
            ack_s = self._acks[0][0] if self._acks else math.inf
            tick_s = max(min(self._next_tick_s, self.scheduler.wakes_at_s), self.now_s)
            at_s = min(done_s, ack_s, tick_s)
            if at_s > until_s:
                self.now_s = until_s
                return
            self.now_s = max(at_s, self.now_s)
            if done_s <= at_s:
                del self._ends_s[worker]
                self._done(worker, self._queues[worker].popleft())
            elif ack_s <= at_s:
                _, _, session, block = heapq.heappop(self._acks)
                self._send(Ack(now_s=self.now_s, session=session, segment=block))
            else:
                self._next_tick_s = self.now_s + TICK_S
                self._send(Tick(now_s=self.now_s))
                if each is not None:
                    each()

    def _done(self, worker: WorkerId, order: Dispatch | EncodePictures) -> None:
        if self._roles[worker] is Role.DECODE:
            self.did.append((self.now_s, order))
        if isinstance(order, EncodePictures):
            self._send(PicturesEncoded(now_s=self.now_s, worker=worker, session=order.session, part=order.part))
        else:
            seconds = self._says_s[self._roles[worker]]
            self._send(OpDone(now_s=self.now_s, worker=worker, sequence=order.sequence, seconds=seconds))

    def _send(self, event: Event) -> None:
        for effect in self.scheduler.handle(event):
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        now_s = self.now_s
        match effect:
            case Dispatch() | EncodePictures():
                self._queues[effect.worker].append(effect)
                assert len(self._queues[effect.worker]) <= 2, "one runs, one is queued"
            case EncodeText(worker=worker):
                self._send(TextEncoded(now_s=now_s, worker=worker, conditioning=effect.conditioning, notice=""))
            case PrepareStream(worker=worker, session=session):
                self._send(StreamPrepared(now_s=now_s, worker=worker, session=session, header=b"", media_type=""))
            case Stow():
                self._send(Stowed(now_s=now_s, worker=effect.worker, image=effect.image))
            case LoadImage():
                self._send(Loaded(now_s=now_s, worker=effect.worker, image=effect.image))
            case Emit():
                self.emitted.append((now_s, effect))
                before_s = max(now_s, self._acked_s.get(effect.session, 0.0))
                at_s = self._acked_s[effect.session] = before_s + self.acknowledges_after_s(effect.session)
                heapq.heappush(self._acks, (at_s, next(self._numbers), effect.session, effect.block))
            case Closed() | GiveUp() | Refused() | Parked() | Restored():
                self.told.append(effect)
