"""A cell in simulated time: the real scheduler against devices, clients and links that are only numbers.

Nothing here sleeps or computes: every forward takes a drawn time on a fake clock, so an hour of a thousand devices is a
matter of minutes, and the same settings give the same figures to the last digit (`decision_us` apart, which is the
CPU time that the scheduler takes). Used by `benchmarks.simulate` and by tests of scheduling and admission.
"""

from __future__ import annotations

import heapq
import random
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.hardware import ENOUGH_BYTES, Hardware
from benchmarks.image_model import Copies, Images
from benchmarks.playback import Playback
from cluster.cell.attached import event_of
from longtake.core.cell import UrgencyRule
from longtake.core.dispatch.urgency import slack_first
from longtake.core.effects import (
    Closed,
    Dispatch,
    Effect,
    Emit,
    EncodeText,
    Forget,
    PrepareStream,
    Recovered,
    Refused,
)
from longtake.core.endings import Ending
from longtake.core.events import Ack, Close, Event, OpDone, Open, Tick, WorkerJoined, WorkerLost
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.plan.presets import HIAR_RECIPE, SIZE_480P
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Kind, Returns
from longtake.core.recipe.recipe import Recipe
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, DecodeWork, Role, SegmentSettings, SessionId, WorkerId
from workers.messages import Done, ImageOrder
from workers.simulated.fake import FakeWorker, Report
from workers.simulated.lanes import SimulatedLanes

_SETTINGS = SegmentSettings(codec="raw", quality=0)
_TICK_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One stream and what its client does."""

    pace: Pace
    begins_s: float = 0.0
    blocks: int | None = None
    """Length; None: until the simulation ends."""
    window: int = 4
    buffer: int = 1
    """Blocks that a REALTIME client holds back before it shows the first picture."""
    patience: int = 0
    """How often the client asks again, after the delay it is told, when it is refused."""
    reopens: bool = False
    """Whether the client opens another stream when this one has ended."""


@dataclass(slots=True)
class Stream:
    """What one client has seen."""

    client: Client
    playback: Playback
    emitted: int = 0
    counted: int = 0
    """Blocks that came after the warm-up."""
    late: int = 0
    """Blocks among these that came after their time on the client's screen."""
    refusals: list[str] = field(default_factory=list)
    ending: Ending | None = None
    closed_s: float = 0.0


@dataclass(slots=True)
class Device:
    """One worker: a queue and a drawn time for each op, and what it does beside ops."""

    op_s: float
    copies: Copies
    queue: deque[Dispatch] = field(default_factory=deque)
    busy_s: float = 0.0
    """After the warm-up."""
    generation: int = 0
    """Grows when the worker is lost, so that what it had under way reports no more."""


class Simulation:
    """A cell under a fake clock; drive it with `run`."""

    def __init__(
        self,
        hardware: Hardware,
        *,
        recipe: Recipe = HIAR_RECIPE,
        geometry: Geometry = SIZE_480P,
        limits: Limits | None = None,
        rule: UrgencyRule = slack_first,
        seed: int = 1,
        warmup_s: float = 0.0,
    ) -> None:
        many = 10 * hardware.devices * hardware.sessions_per_device
        self.hardware = hardware
        self.recipe = recipe
        self.geometry = geometry
        self.scheduler = Scheduler(recipe, geometry, limits or Limits(max_sessions=many, journal_bytes=ENOUGH_BYTES))
        self.scheduler.cell.urgency = rule
        self.now_s = 0.0
        self.warmup_s = warmup_s
        self.streams: dict[SessionId, Stream] = {}
        self.latencies_s: dict[Pace, list[float]] = {pace: [] for pace in Pace}
        """From the start of D(0,n) on its device to the end of D(S-1,n)."""
        self.blocks = 0
        """Emitted after the warm-up."""
        self.decision_s: list[float] = []
        """CPU time that the scheduler took for each report of a worker."""
        self.recovered_s: list[float] = []
        """How long a part of a stream's state was missing, for each time that one lost some with a worker."""
        self._random = random.Random(seed)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._devices: dict[WorkerId, Device] = {}
        self.images = Images(self, hardware.copying, self._report)
        self._began_s: dict[tuple[SessionId, int], float] = {}
        for number in range(hardware.devices):
            self.join(number)
        for number in range(hardware.decoders):
            name = f"decode-{number}"
            self._join(name, Role.DECODE, 10 * many, hardware.decode_s * hardware.stragglers.get(name, 1.0))
        self.at(_TICK_S, self._tick)

    # --- what a scenario says -----------------------------------------------------------------------------------------

    def join(self, number: int) -> None:
        """Denoise worker `number` joins, or joins again after its loss."""
        name = f"denoise-{number}"
        pages = self.hardware.sessions_per_device * self.recipe.lane_count * self.recipe.page_count
        self._join(name, Role.DENOISE, pages, self.hardware.forward_s * self.hardware.stragglers.get(name, 1.0))

    def lose(self, number: int, *, at_s: float, back_after_s: float) -> None:
        """Denoise worker `number` is lost at `at_s` and joins again later."""

        def gone() -> None:
            worker = WorkerId(f"denoise-{number}")
            self._devices[worker].generation += 1
            self._devices[worker].queue.clear()
            self._devices[worker].copies.is_lost = True
            self._send(WorkerLost(now_s=self.now_s, worker=worker, reason="simulated"))

        self.at(at_s, gone)
        self.at(at_s + back_after_s, lambda: self.join(number))

    def add(self, client: Client) -> SessionId:
        """A client that will open a stream."""
        session = SessionId(f"s{len(self.streams):06}")
        self.streams[session] = Stream(client, Playback(client.buffer * self.geometry.block_s))
        self.at(client.begins_s, lambda: self._open(session))
        return session

    def run(self, until_s: float) -> None:
        """Let everything happen up to `until_s`."""
        while self._agenda and self._agenda[0][0] <= until_s:
            self.now_s, _, action = heapq.heappop(self._agenda)
            action()
        self.now_s = until_s

    # --- figures ------------------------------------------------------------------------------------------------------

    @property
    def limit_blocks_per_s(self) -> float:
        """G / (forwards per block × mean forward time): what the devices could do at most."""
        rates = (1 / self.hardware.stragglers.get(f"denoise-{number}", 1.0) for number in range(self.hardware.devices))
        return sum(rates) / (Graph(self.recipe).forwards_per_block * self.hardware.mean_forward_s)

    @property
    def share_of_limit(self) -> float:
        """Blocks emitted after the warm-up, as a share of the limit."""
        return self.blocks / (self.now_s - self.warmup_s) / self.limit_blocks_per_s

    @property
    def moves_per_hour(self) -> float:
        """How often lanes went from device to device."""
        return self.images.lanes_moved / self.now_s * 3600

    @property
    def moved_bytes_per_s(self) -> float:
        """What these moves sent between hosts."""
        return self.images.bytes_moved / self.now_s

    @property
    def utilisation(self) -> float:
        """Share of the time after the warm-up in which the denoise workers computed."""
        busy_s = sum(device.busy_s for name, device in self._devices.items() if name.startswith("denoise"))
        return busy_s / (self.now_s - self.warmup_s) / self.hardware.devices

    def late_share(self, pace: Pace = Pace.REALTIME) -> float:
        """Share of the blocks of REALTIME streams that came too late."""
        live = [stream for stream in self.streams.values() if stream.client.pace is pace]
        return sum(stream.late for stream in live) / max(1, sum(stream.counted for stream in live))

    def latency_s(self, percent: int, pace: Pace = Pace.REALTIME) -> float:
        """A percentile of the block latency."""
        ordered = sorted(self.latencies_s[pace])
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0

    @property
    def decision_us(self) -> float:
        """Median CPU time of one decision of the scheduler."""
        return 1e6 * statistics.median(self.decision_s) if self.decision_s else 0.0

    # --- machinery ----------------------------------------------------------------------------------------------------

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Do something at this time, or now if it has passed."""
        self._number += 1
        heapq.heappush(self._agenda, (max(time_s, self.now_s), self._number, action))

    def _send(self, event: Event) -> None:
        if isinstance(event, OpDone):
            began_s = time.thread_time()
            effects = self.scheduler.handle(event)
            self.decision_s.append(time.thread_time() - began_s)
        else:
            effects = self.scheduler.handle(event)
        for effect in effects:
            self._perform(effect)

    def _tick(self) -> None:
        self._send(Tick(now_s=self.now_s))
        self.at(self.now_s + _TICK_S, self._tick)

    def _join(self, name: str, role: Role, capacity: int, op_s: float) -> None:
        worker = WorkerId(name)
        generation = self._devices[worker].generation + 1 if worker in self._devices else 0
        busy_s = self._devices[worker].busy_s if worker in self._devices else 0.0
        lanes = SimulatedLanes(self.geometry, pages=capacity if role is Role.DENOISE else 0)
        copies = Copies(self.images, worker, FakeWorker(lanes, self.images.transit))
        self._devices[worker] = Device(op_s, copies, busy_s=busy_s, generation=generation)
        known_s = op_s if self.hardware.calibrated else 0.0
        depths = self.hardware.depths
        depth = depths.layers if role is Role.DENOISE else depths.frames
        ability = Ability(capacity=capacity, forward_s=known_s, replay_depth=depth)
        self._send(WorkerJoined(now_s=self.now_s, worker=worker, role=role, ability=ability))

    def _open(self, session: SessionId) -> None:
        stream = self.streams[session]
        blocks = stream.client.blocks
        self._send(
            Open(
                now_s=self.now_s,
                session=session,
                prompt="p",
                seed=1,
                pace=stream.client.pace,
                window=stream.client.window,
                picture_limit=None if blocks is None else self.geometry.first_picture(blocks),
                settings=_SETTINGS,
            )
        )

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Dispatch():
                self._later(lambda: self._arrive(effect))
            case PrepareStream() | EncodeText() | Forget():
                if (answer := self._devices[effect.worker].copies.worker.perform(effect)) is not None:
                    assert not isinstance(answer, Done)
                    self._report(effect.worker, answer)
            case Emit():
                self._emitted(self.streams[effect.session], effect)
            case Refused():
                self._refused(effect)
            case Closed():
                self._closed(effect)
            case Recovered():
                self.recovered_s.append(effect.seconds)
            case _ if isinstance(effect, ImageOrder):
                order = effect
                self._later(lambda: self._devices[order.worker].copies.order(order))

    def _report(self, worker: WorkerId, answer: Report) -> None:
        event = event_of(answer, worker, self.now_s)
        self._later(lambda: self._send(event))

    def _later(self, action: Callable[[], None]) -> None:
        self.at(self.now_s + self.hardware.link_s, action)

    def _arrive(self, dispatch: Dispatch) -> None:
        device = self._devices[dispatch.worker]
        device.queue.append(dispatch)
        if len(device.queue) == 1:
            self._begin(dispatch.worker)

    def _begin(self, worker: WorkerId) -> None:
        device = self._devices[worker]
        order, generation = device.queue[0].work, device.generation
        for work in () if isinstance(order, DecodeWork) else order:
            if work.kind is Kind.DENOISE and work.step == 0 and work.returns is not Returns.NOTHING:
                self._began_s.setdefault((work.session, work.block), self.now_s)
        seconds = device.op_s
        if self.hardware.jitter:
            seconds *= max(0.5, self._random.gauss(1.0, self.hardware.jitter))
        if self.hardware.hiccups and self._random.random() < self.hardware.hiccups:
            seconds *= 3
        if self.now_s >= self.warmup_s:
            device.busy_s += seconds
        self.at(self.now_s + seconds, lambda: self._finish(worker, generation, seconds))

    def _finish(self, worker: WorkerId, generation: int, seconds: float) -> None:
        device = self._devices[worker]
        if device.generation != generation:
            return
        dispatch = device.queue.popleft()
        for work in () if isinstance(dispatch.work, DecodeWork) else dispatch.work:
            if work.kind is Kind.DENOISE and work.times.next_sigma is None:
                began_s = self._began_s.pop((work.session, work.block), None)  # None: it was done once, for a lost one
                if began_s is not None and self.now_s >= self.warmup_s:
                    self.latencies_s[self.streams[work.session].client.pace].append(self.now_s - began_s)

        def report() -> None:
            if self._devices[worker].generation == generation:
                self._send(OpDone(now_s=self.now_s, worker=worker, sequence=dispatch.sequence, seconds=seconds))

        if device.queue:
            self._begin(worker)
        self._later(report)

    # --- clients ------------------------------------------------------------------------------------------------------

    def _emitted(self, stream: Stream, emit: Emit) -> None:
        """A segment leaves: count it, judge it by the client's screen, acknowledge it when it is consumed."""
        shown_s = self.now_s
        stream.emitted += 1
        if stream.client.pace is Pace.REALTIME:
            offset_s = emit.first_picture / self.geometry.pictures_per_s
            lateness_s = stream.playback.lateness_s(self.now_s, offset_s)
            if self.now_s >= self.warmup_s:
                stream.counted += 1
                stream.late += lateness_s > 1e-9
            shown_s = stream.playback.shown_s(offset_s)
        if self.now_s >= self.warmup_s:
            self.blocks += 1
        session, block = emit.session, emit.block
        self.at(
            shown_s + self.hardware.link_s, lambda: self._send(Ack(now_s=self.now_s, session=session, segment=block))
        )

    def _refused(self, effect: Refused) -> None:
        stream = self.streams[effect.session]
        stream.refusals.append(effect.problem.message)
        retry_s = getattr(effect.problem.about, "retry_after_s", None)
        if retry_s is not None and len(stream.refusals) <= stream.client.patience:
            self.at(self.now_s + retry_s, lambda: self._open(effect.session))

    def _closed(self, effect: Closed) -> None:
        stream = self.streams[effect.session]
        stream.ending, stream.closed_s = effect.ending, self.now_s
        if effect.ending is Ending.COMPLETED and stream.client.reopens:
            self.at(self.now_s + 1.0, lambda: self._reopen(stream.client))

    def _reopen(self, client: Client) -> None:
        session = SessionId(f"s{len(self.streams):06}")
        self.streams[session] = Stream(client, Playback(client.buffer * self.geometry.block_s))
        self._open(session)

    def end(self, session: SessionId, *, at_s: float) -> None:
        """The client closes its stream at `at_s`."""
        self.at(at_s, lambda: self._send(Close(now_s=self.now_s, session=session, ending=Ending.CLIENT)))
