"""What the pages and decoder slots of a cell must hold when an op reads them, by what was computed before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from benchmarks.places import standing
from longtake.core.effects import PrepareStream
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Op
from longtake.core.recipe.sources import source
from longtake.core.work import ForwardWork, FromLane, SessionId, WorkerId
from workers.messages import Decode, Forward
from workers.simulated.arithmetic import REACH, decoded, first_state
from workers.simulated.fake import FakeWorker

SMALLEST = Geometry(width=16, height=16, fps=Fraction(16), latent_channels=1, blocks=BlockPlan(frames=3))
"""Of the latents that fake workers exchange, so that they cost little."""


@dataclass
class Contents:
    """Remembers what every op has left, and compares it with what the next ones find."""

    graph_of: Callable[[SessionId], Graph]
    fakes: dict[WorkerId, FakeWorker]
    parents: dict[SessionId, tuple[SessionId, int]] = field(default_factory=dict)
    """Of a fork: its parent and the first block of its own."""
    sealed: dict[tuple[SessionId, int, int], bytes] = field(default_factory=dict)
    """(session, lane, frame): what the frame's page held when it was sealed."""
    left: dict[tuple[SessionId, int, int], tuple[Op, bytes]] = field(default_factory=dict)
    """The same of blocks that step together, after each of their ops, and which one it was."""
    states: dict[tuple[SessionId, int], bytes] = field(default_factory=dict)
    """(session, block): what the blocks before leave in the decoder."""
    outputs: dict[tuple[SessionId, int, int], bytes] = field(default_factory=dict)
    """(session, lane, block): what was denoised last."""

    def writer(self, session: SessionId, block: int) -> SessionId:
        """Who computed a block of a session: it, or whom it was forked from."""
        while session in self.parents and block < self.parents[session][1]:
            session = self.parents[session][0]
        return session

    def state_before(self, session: SessionId, block: int) -> bytes:
        """What all blocks before must have left in the session's decoder; empty if they are not decoded yet."""
        return self.states.get((self.writer(session, block - 1), block), b"") if block else first_state(REACH)

    def check_state(self, worker: WorkerId, order: Decode) -> None:
        """A decode must find the state that the blocks before have left."""
        work, before = order.work, self.state_before(order.work.session, order.work.block)
        held = self.fakes[worker].states.get(work.slot)
        if work.picture_count:  # else a part of it may be left out
            assert held == (work.session, before), f"slot {work.slot} does not hold what {work} needs"
        self.states[work.session, work.block + 1] = decoded(order.latents, before, SMALLEST)[1]

    def check_replay(self, order: Decode | Forward) -> None:
        """What is done once more makes no pictures and puts nothing out; what it reads is not whole yet."""
        if isinstance(order, Decode):
            assert order.work.picture_count == 0, "a segment is made twice"
        else:
            assert not (order.work.returns.are_sent or order.work.returns.are_kept)
            assert not isinstance(order.work.input, FromLane), "it starts from what was lost"
            self.check_places(order.work)

    def check_copy(self, order: PrepareStream) -> None:
        """A slot that a fork's is copied from must hold the state before the fork's first block."""
        parent, block = self.parents[order.session]
        assert order.origin is not None
        held = self.fakes[order.worker].states[order.origin]
        right = (parent, self.state_before(parent, block))
        assert held == right, f"slot {order.origin} is not before block {block} of {parent} when it is copied"

    def check_reads(self, worker: WorkerId, work: ForwardWork) -> None:
        """A forward must find exactly the window of its own lane, sealed, and its own pages in their places.

        What it starts from, if that lies in its lane, must be of its own block.
        """
        graph = self.graph_of(work.session)
        window, pages = graph.window, self.fakes[worker].lanes.pages
        own = dict(zip(graph.blocks.own(work.block), work.pages.writes, strict=True))
        frames, name = sorted(window.frames(work.block), key=window.order), f"{work.kind}({work.step}, {work.block})"
        assert len(frames) == len(work.pages.reads), f"{name} reads {len(work.pages.reads)} pages, should read {frames}"
        for frame, page in zip(frames, work.pages.reads, strict=True):
            if frame in own:
                assert page == own[frame], f"{name} reads page {page} in place of its own frame {frame}"
                continue
            block = graph.blocks.block_of(frame)
            writer = self.writer(work.session, block)
            left = self.sealed.get((writer, work.lane, frame))
            if graph.joint is not None:  # the block may not be finished: then it is what its op of this iteration left
                op, left = self.left[writer, work.lane, frame]
                wanted = source(graph.recipe, work.op, block)
                assert op == wanted, f"{name} reads what {op} has left, should read {wanted}"
            right = pages[page].tobytes() == left
            assert right, f"{name} reads page {page}, should read frame {frame} of lane {work.lane}"
        self.check_places(work)

        if isinstance(work.input, FromLane):
            found, right = self.fakes[worker].lanes.memory.output(work), (work.session, work.lane, work.block)
            assert self.outputs.get(right, found) == found, f"{name} starts from another block"  # unless it failed

    def check_places(self, work: ForwardWork) -> None:
        """A forward must place its frames as the papers say; what it lacks of its window changes no place."""
        graph = self.graph_of(work.session)
        own = graph.blocks.own(work.block)
        right = standing(graph.recipe, own, sorted(graph.window.frames(work.block), key=graph.window.order))
        name = f"{work.kind}({work.step}, {work.block})"
        assert [*work.positions] == right.queries, f"{name} has its queries at {work.positions}, not {right.queries}"
        assert [*work.key_positions] == right.keys, f"{name} stores its keys at {work.key_positions}, not {right.keys}"
        assert len(work.read_turns) == (len(work.pages.reads) if right.read else 0), f"{name} turns other pages"
        rest = iter(right.read)
        assert all(place in rest for place in work.read_turns), f"{name} reads at {work.read_turns}, not {right.read}"
        read = dict(zip(work.pages.reads, work.read_turns, strict=False))
        assert [read.get(page) for page in work.pages.writes] == (right.queries if read else [None] * len(own))

    def done(self, worker: WorkerId, work: ForwardWork) -> None:
        """Remember what a forward has left in its lane and sealed."""
        if work.returns.are_kept:
            self.outputs[work.session, work.lane, work.block] = self.fakes[worker].lanes.memory.output(work)
        if self.graph_of(work.session).joint is not None:
            for page, frame in zip(work.pages.writes, self.graph_of(work.session).blocks.own(work.block), strict=True):
                content = self.fakes[worker].lanes.pages[page].tobytes()
                self.left[work.session, work.lane, frame] = work.op, content
        if self.graph_of(work.session).sealing_op(work.lane, work.block) == Op(work.kind, work.step, work.block):
            for page, frame in zip(work.pages.writes, self.graph_of(work.session).blocks.own(work.block), strict=True):
                self.sealed[work.session, work.lane, frame] = self.fakes[worker].lanes.pages[page].tobytes()
