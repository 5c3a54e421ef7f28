"""The fleet: all workers of a cell by role, ordered by load, and how fast each is against the others.

Theory of operation. Every change of what a worker holds, or of its time beyond noise, re-enters it in the order of its
role: a few binary searches, whatever the size of the cell. How slow a worker is, is the moving average of its forwards'
times over what the fleet takes for as many ops (an op costs less in a larger batch, which says nothing about the
device), against the median of the fleet. A worker counts as one of the usual ones until it is clearly off that median
(`_ODD`), and again when it is clearly back (`_EVEN`): the averages jitter by per cents, and lanes that moved because of
that would never rest. For admission, where too high a load makes streams late, the worker's own time counts always.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort

from longtake.core.errors import Lack
from longtake.core.fleet.load import Demand, Demands, Rates
from longtake.core.fleet.placement import Ranking
from longtake.core.fleet.room import Room
from longtake.core.fleet.worker import Worker
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from longtake.core.sessions.retention import Depths, Retention
from longtake.core.sessions.session import Session
from longtake.core.work import DecoderKind, Role, WorkerId

_NOTICED = 0.01
"""When a worker's time changes by this share, it is entered anew."""
_ODD = 0.15
"""From this relative distance to the median on, a worker counts as slow (or fast)."""
_EVEN = 0.08
"""Once it is as near to the median as this, it counts as one of the usual workers again."""
_MEMORY = 256
"""Forwards of one batch size over which the fleet's time is averaged."""


class _Figures:
    """One figure of each worker, and their median."""

    def __init__(self) -> None:
        self._sorted: list[float] = []
        self._filed: dict[WorkerId, float] = {}

    @property
    def median(self) -> float:
        """The median, of two middle ones the lower; 0 if there are no figures."""
        return self._sorted[(len(self._sorted) - 1) // 2] if self._sorted else 0.0

    def differs(self, worker: WorkerId, figure: float) -> bool:
        """Whether the figure differs noticeably from the one that was put last."""
        filed = self._filed.get(worker, 0.0)
        return abs(figure - filed) > _NOTICED * filed

    def put(self, worker: WorkerId, figure: float) -> None:
        self.drop(worker)
        self._filed[worker] = figure
        insort(self._sorted, figure)

    def drop(self, worker: WorkerId) -> None:
        figure = self._filed.pop(worker, None)
        if figure is not None:
            del self._sorted[bisect_left(self._sorted, figure)]


class _Average:
    """A moving average."""

    def __init__(self) -> None:
        self.value = 0.0
        self._count = 0

    def fold(self, value: float) -> None:
        self._count = min(self._count + 1, _MEMORY)
        self.value += (value - self.value) / self._count


class RoleFleet:
    """The workers of one role."""

    def __init__(self, ops_per_s: float, ranking: Ranking) -> None:
        """`ops_per_s` are the ops of one lane or slot of the default recipe in a second of its stream."""
        self.ranking = ranking
        self._ops_per_s = ops_per_s
        self._op_times = _Figures()
        self._slowness = _Figures()
        self._usual: dict[tuple[int, float], _Average] = {}
        """The usual time of a dispatch, by its number of ops and what one of them costs."""
        self._odd: set[WorkerId] = set()
        self._new: dict[WorkerId, Worker] = {}
        """Workers of which too little is known to call them slow."""
        self._assumed_s = 0.0
        """The time that workers of unknown time were last assumed to need."""
        self._gone_s: dict[str, float] = {}
        """When the last worker of a class was lost."""

    def join(self, worker: Worker) -> None:
        """Add a new worker; what it said of its time counts as a measurement."""
        timing = worker.timing
        self._gone_s.pop(worker.numerics, None)
        if timing.op_s:
            usual = self._usual.setdefault((1, 1.0), _Average())
            usual.fold(timing.op_s)
            timing.slowness = timing.op_s / usual.value
        self.enter(worker)

    def enter(self, worker: Worker) -> None:
        """Enter the worker anew after something about it has changed."""
        timing = worker.timing
        if timing.op_s and self._op_times.differs(worker.id, timing.op_s):
            self._op_times.put(worker.id, timing.op_s)
        if timing.is_trusted:
            self._new.pop(worker.id, None)
            if self._slowness.differs(worker.id, timing.slowness):
                self._slowness.put(worker.id, timing.slowness)
        else:
            self._new[worker.id] = worker
        self._rank(worker)
        usual_s = self._op_times.median
        if self._new and abs(usual_s - self._assumed_s) > _NOTICED * self._assumed_s:
            self._assumed_s = usual_s
            for new in self._new.values():
                self._rank(new)

    def measured(self, worker: Worker, seconds: float, ops: int, cost: float = 1.0) -> None:
        """Take note of how long a dispatch of `ops` ops took the worker, each of them of this cost (see Timing)."""
        usual = self._usual.get((ops, cost))
        if usual is None:
            usual = self._usual[ops, cost] = _Average()
        timing = worker.timing
        timing.fold(seconds, ops, cost=cost, usual_s=usual.value)
        if seconds > 0:
            usual.fold(seconds)
        known = timing.is_trusted and (worker.id in self._new or self._slowness.differs(worker.id, timing.slowness))
        if known or self._op_times.differs(worker.id, timing.op_s):
            self.enter(worker)

    def expects(self, numerics: str, *, since_s: float) -> bool:
        """Whether there is a worker of this class, or there was one at this time or later."""
        return numerics in self.ranking.classes or self._gone_s.get(numerics, -math.inf) > since_s

    def drop(self, worker: Worker, *, now_s: float) -> None:
        """The worker has gone."""
        self.ranking.drop(worker.id)
        if worker.numerics not in self.ranking.classes:
            self._gone_s[worker.numerics] = now_s
        self._op_times.drop(worker.id)
        self._slowness.drop(worker.id)
        self._odd.discard(worker.id)
        self._new.pop(worker.id, None)

    def _rank(self, worker: Worker) -> None:
        usual_s = self._op_times.median
        own_s = worker.timing.op_s or usual_s
        weight = self._weight(worker)
        realtime, fast = worker.load.time(realtime=True), worker.load.time(realtime=False)
        self.ranking.put(
            worker.id,
            Room(
                free=worker.free,
                lanes=worker.load.total,
                realtime=realtime if own_s else 0,  # of no time nothing is reserved
                fast=fast if own_s else fast + realtime,
                lane_share=self._ops_per_s * own_s,
                even_share=self._ops_per_s * usual_s * weight,
                weight=weight,
                numerics=worker.numerics,
            ),
        )

    def _weight(self, worker: Worker) -> float:
        """How many times as long as usual the worker takes: 1 unless it is clearly off."""
        usual = self._slowness.median
        slowness = worker.timing.slowness
        if not worker.timing.is_trusted or not usual:
            self._odd.discard(worker.id)
            return 1.0
        off = abs(slowness / usual - 1)
        if off > _ODD:
            self._odd.add(worker.id)
        elif off < _EVEN:
            self._odd.discard(worker.id)
        return slowness / usual if worker.id in self._odd else 1.0


class Fleet:
    """All workers of a cell that have something to place on them, by role."""

    def __init__(self, graph: Graph, geometry: Geometry, limits: Limits) -> None:
        """`graph` is that of the cell's default recipe, in whose lanes loads are counted."""
        self._limits = limits
        self._demands: dict[tuple[Graph, DecoderKind], Demands] = {}
        self._tiny_cost: float | None = None
        """The time of a decode by the tiny decoder over that of a full one, as the first decode worker measured it.

        It stays, because what a session takes of its workers must be what it gives back.
        """
        self._shape_costs: dict[tuple[int, int], float] | None = None
        """The same of forwards by their shapes, over that of the cell's default recipe."""
        self._op_costs: dict[Graph, tuple[float, float]] = {}
        self._own = graph
        self._depths = Depths()
        self._retentions: dict[Graph, Retention] = {}
        self._rates = Rates.of(graph, geometry, limits.admit_at.load)
        pages = self._pages(graph)
        self._peers = {
            Role.DENOISE: RoleFleet(self._rates.lane_ops_per_s, Ranking(lack=Lack.PAGES, least=pages)),
            Role.DECODE: RoleFleet(self._rates.blocks_per_s, Ranking(lack=Lack.SLOTS)),
        }

    def ranking(self, role: Role) -> Ranking:
        """The workers of `role`, by load."""
        return self._peers[role].ranking

    def reserved(self, worker: Worker) -> float:
        """The share of its time that is reserved, as admission counts it; 0 where nothing can be reserved."""
        return self.ranking(worker.role).room(worker.id).taken if worker.role in self._peers else 0.0

    def share(self, session: Session, role: Role) -> float:
        """The share of its time that a lane of the session (or its slot) takes of the worker that it takes least of; 0
        while no time is known."""
        ranking, demands = self.ranking(role), self.demands(session)
        time = (demands.lane if role is Role.DENOISE else demands.slot).time
        return min([ranking.room(worker).lane_share for worker in ranking.workers], default=0.0) * time

    def demands(self, session: Session) -> Demands:
        """What the lanes and the slot of a session take of their workers."""
        graph, decoder = session.graph, session.request.settings.decoder
        known = self._demands.get((graph, decoder))
        if known is None:
            own = Rates.of(graph, session.geometry, self._limits.admit_at.load)
            pages = self._pages(graph)
            forward, decode = self.op_costs(graph)
            lane = Demand(units=pages, time=forward * own.lane_ops_per_s / self._rates.lane_ops_per_s)
            slot = Demand(time=self._cost(decoder) * decode * own.blocks_per_s / self._rates.blocks_per_s)
            known = self._demands[graph, decoder] = Demands(lane=lane, slot=slot)
        return known

    def op_costs(self, graph: Graph) -> tuple[float, float]:
        """The time of a forward and of a decode of a block of this recipe, over those of the cell's default one.

        That of a forward is measured. A decode, with the encoding, takes time in proportion to its pictures.
        """
        known = self._op_costs.get(graph)
        if known is None:
            forward = 1.0 if graph is self._own else (self._shape_costs or {}).get(graph.recipe.shape, 1.0)
            known = self._op_costs[graph] = forward, graph.blocks.frames / self._own.blocks.frames
        return known

    def cost(self, session: Session, role: Role) -> float:
        """The time of an op of the session on a worker of this role over that of one of the cell's default recipe."""
        forward, decode = self.op_costs(session.graph)
        return forward if role is Role.DENOISE else decode * self._cost(session.request.settings.decoder)

    def relative_cost(self, graph: Graph, geometry: Geometry) -> float:
        """Time of the denoise workers for a second of a stream of this recipe, over that of the default one."""
        forward, _ = self.op_costs(graph)
        own_s = self._own.forwards_per_block * self._rates.blocks_per_s
        return forward * graph.forwards_per_block / geometry.divided(graph.blocks).block_s / own_s

    def serve(self, graph: Graph) -> None:
        """There may be sessions of this recipe as well."""
        self.ranking(Role.DENOISE).may_need(self._pages(graph))

    def _pages(self, graph: Graph) -> int:
        """Pages of a lane; nothing is left to fuse where blocks step together, nor where a fold comes between them."""
        is_alone = graph.joint is not None or graph.window.memory > 0
        return graph.window.slots + (0 if is_alone else self._limits.spare_pages(graph.blocks))

    def retention(self, graph: Graph) -> Retention:
        """Which latents are kept of sessions with this recipe."""
        known = self._retentions.get(graph)
        if known is None:
            limits = self._limits
            known = Retention(
                graph=graph, depths=self._depths, rewind_blocks=limits.rewind_blocks, recover=limits.recover
            )
            self._retentions[graph] = known
        return known

    def journal_bytes(self, session: Session) -> int:
        """The most memory that the latents take which a session may be rebuilt from."""
        return self.retention(session.graph).most_latents(session.flow.window) * session.geometry.latent_bytes

    def _cost(self, decoder: DecoderKind) -> float:
        """The time of a block's decode over that of a full one."""
        return (self._tiny_cost or 1.0) if decoder is DecoderKind.TINY else 1.0

    def joined(self, worker: Worker) -> None:
        """The worker is new."""
        if worker.role is Role.DECODE and self._tiny_cost is None:
            ability = worker.joined.ability
            self._tiny_cost = ability.tiny_s / ability.forward_s if ability.tiny_s and ability.forward_s else 1.0
            self._demands.clear()  # nobody has a place yet
        if worker.role is Role.DENOISE and self._shape_costs is None:
            own_s, shapes = worker.joined.ability.forward_s, worker.joined.ability.shape_s
            self._shape_costs = {(each.frames, each.pages): each.seconds / own_s for each in shapes if own_s}
            self._op_costs.clear()
            self._demands.clear()
        self._note_depth(worker)
        if worker.role in self._peers:
            self._peers[worker.role].join(worker)

    def _note_depth(self, worker: Worker) -> None:
        """Note how far back the worker remembers; of those that differ, the furthest counts."""
        depth = worker.joined.ability.replay_depth
        layers = depth if worker.role is Role.DENOISE else 0
        frames = depth if worker.role is Role.DECODE else 0
        depths = Depths(layers=max(layers, self._depths.layers), frames=max(frames, self._depths.frames))
        if depths != self._depths:
            self._depths = depths
            self._retentions.clear()

    def changed(self, *workers: Worker) -> None:
        """What these workers hold has changed."""
        for worker in workers:
            self._peers[worker.role].enter(worker)

    def measured(
        self,
        worker: Worker,
        seconds: float,
        ops: int,
        decoder: DecoderKind = DecoderKind.FULL,
        graph: Graph | None = None,
    ) -> None:
        """The worker has reported how long a dispatch of so many ops took; `decoder` counts if it was a decode.

        They are of the recipe with this graph, by default of the cell's own.
        """
        forward, decode = self.op_costs(graph or self._own)
        cost = self._cost(decoder) * decode if worker.role is Role.DECODE else forward
        self._peers[worker.role].measured(worker, seconds, ops, cost)

    def expects(self, role: Role, numerics: str, *, now_s: float) -> bool:
        """Whether there is a worker of this class, or one may be waited for that was lost (`Limits.exact_wait_s`)."""
        return self._peers[role].expects(numerics, since_s=now_s - self._limits.exact_wait_s)

    def lost(self, worker: Worker, *, now_s: float) -> None:
        """The worker has gone."""
        if worker.role in self._peers:
            self._peers[worker.role].drop(worker, now_s=now_s)
