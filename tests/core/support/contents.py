"""What the pages and decoder slots of a cell must hold when an op reads them, by what was computed before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from benchmarks.places import standing
from benchmarks.recaches import Recached, read_by, recached
from benchmarks.stories import again, read_in, told
from longtake.core.effects import PrepareStream
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.cues import Back, CueChange, CueEffect
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Op
from longtake.core.recipe.sources import source
from longtake.core.work import ForwardWork, FromLane, PageId, SessionId, WorkerId
from workers.messages import Decode, Forward
from workers.simulated.arithmetic import HASH_BYTES, REACH, decoded, first_state, folded
from workers.simulated.fake import FakeWorker

SMALLEST = Geometry(width=16, height=16, fps=Fraction(16), latent_channels=1, blocks=BlockPlan(frames=3))
"""Of the latents that fake workers exchange, so that they cost little."""


@dataclass
class Contents:
    """Remembers what every op has left, and compares it with what the next ones find."""

    graph_of: Callable[[SessionId], Graph]
    fakes: dict[WorkerId, FakeWorker]
    vague: set[SessionId] = field(default_factory=set)
    """Sessions that are, or are being, told that they are no longer what they would have been."""
    memories: dict[tuple[SessionId, int, int], list[bytes]] = field(default_factory=dict)
    """(session, lane, block): what the pages of the memory must hold as a block is denoised, if it was folded."""
    parents: dict[SessionId, tuple[SessionId, int]] = field(default_factory=dict)
    """Of a fork: its parent and the first block of its own."""
    sealed: dict[tuple[SessionId, int, int], dict[int, bytes]] = field(default_factory=dict)
    """(session, lane, frame): what the frame's page held when sealed (0), and since the recache before a block."""
    left: dict[tuple[SessionId, int, int], tuple[Op, bytes]] = field(default_factory=dict)
    """The same of blocks that step together, after each of their ops, and which one it was."""
    recaches: dict[SessionId, set[int]] = field(default_factory=dict)
    """The blocks of a session's own cues before which its lanes are renewed."""
    cuts: dict[SessionId, dict[int, int | None]] = field(default_factory=dict)
    """The cuts of a session's own cues, each with the shot that the story goes back to there."""
    states: dict[tuple[SessionId, int], bytes] = field(default_factory=dict)
    """(session, block): what the blocks before leave in the decoder."""
    outputs: dict[tuple[SessionId, int, int], bytes] = field(default_factory=dict)
    """(session, lane, block): what was denoised last."""

    def told(self, session: SessionId, block: int, does: CueEffect) -> None:
        """A cue for this block does so much beside changing the prompt; of two the later counts."""
        recaches, cuts = self.recaches.setdefault(session, set()), self.cuts.setdefault(session, {})
        if block in recaches:  # what was made for it was lost since, or no cue could take its place
            recaches.discard(block)
            for made in (made for (owner, _, _), made in self.sealed.items() if owner == session):
                made.pop(block, None)
            self.sealed = {key: made for key, made in self.sealed.items() if made}  # a fork has the rest of its parent
        cuts.pop(block, None)
        if does is CueChange.RECACHE and block:
            recaches.add(block)
        if (does is CueChange.CUT or isinstance(does, Back)) and block:
            cuts[block] = does.shot if isinstance(does, Back) else None

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

    def check_replay(self, order: Decode | Forward, renewal: int | None = None) -> None:
        """What is done once more makes no pictures and puts nothing out; what it reads is not whole yet.

        It may be a part of the renewal before a block.
        """
        if isinstance(order, Decode):
            assert order.work.picture_count == 0, "a segment is made twice"
        else:
            assert not (order.work.returns.are_sent or order.work.returns.are_kept)
            assert not isinstance(order.work.input, FromLane), "it starts from what was lost"
            work = order.work
            passed = self.passed(work.session, work.block + 1 if renewal is None else renewal)
            if renewal is None or work.block < 0:
                self.check_places(work, self._read(work))
            else:
                self.check_places(work, self._renewal(work, renewal, passed).reads[work.block])

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
        name = f"{work.kind}({work.step}, {work.block})"
        recaches = self.passed(work.session, work.block + 1)
        recipe = self.graph_of(work.session).recipe
        self._check_frames(worker, work, self._read(work), dict(self.own_frames(work)))
        made = recached(recipe, recaches[-1], recaches[:-1]).frames if recaches else ()
        for frame in set(read_by(recipe, work.block, recaches)) & set(made):
            assert self._made(work.session, work.lane, frame)[0] == recaches[-1], f"{frame} is of the prompt before"
        if isinstance(work.input, FromLane):
            found, right = self.fakes[worker].lanes.memory.output(work), (work.session, work.lane, work.block)
            assert self.outputs.get(right, found) == found, f"{name} starts from another block"  # unless it failed

    def check_renewal(self, worker: WorkerId, works: Sequence[ForwardWork], block: int) -> None:
        """What is committed anew before `block` reads what the paper says, of which nothing is older than that.

        `works` are one forward: several if they read one another.
        """
        recipe = self.graph_of(works[0].session).recipe
        if works[0].block < 0:  # the reference reads itself alone
            self._check_frames(worker, works[0], read_by(recipe, -1, []), dict(self.own_frames(works[0])))
            assert len(works) == 1
            return
        right = self._renewal(works[0], block, self.passed(works[0].session, block))
        mates = {frame: page for work in works for frame, page in self.own_frames(work)}
        for work in works:
            self._check_frames(worker, work, right.reads[work.block], mates)
            for frame in set(right.reads[work.block]) & set(right.frames) - mates.keys():
                assert block in self.sealed[work.session, work.lane, frame], f"frame {frame} is of the prompt before"
        assert len(works) == 1 or {work.block * recipe.blocks.frames for work in works} <= set(right.frames)

    def _read(self, work: ForwardWork) -> list[int]:
        """What the block of a forward is to read, in order."""
        recipe = self.graph_of(work.session).recipe
        if recipe.cues.cut:
            return read_in(recipe, work.block, self.story(work.session, work.block + 1))
        return read_by(recipe, work.block, self.passed(work.session, work.block + 1))

    def _renewal(self, work: ForwardWork, block: int, passed: Sequence[int]) -> Recached:
        """What is committed anew before a block of its session."""
        recipe = self.graph_of(work.session).recipe
        if not recipe.cues.cut:
            return recached(recipe, block, passed)
        made = again(recipe, block, self.story(work.session, block + 1))
        assert made is not None, f"nothing is to be made anew before block {block}"
        return made

    def story(self, session: SessionId, before: int) -> list[tuple[int, int | None]]:
        """The cuts before this block, of a session or whom it was forked from."""
        own = {block: target for block, target in self.cuts.get(session, {}).items() if block < before}
        if session in self.parents:
            parent, first = self.parents[session]
            own |= dict(self.story(parent, min(first, before)))
        return sorted(own.items())

    def passed(self, session: SessionId, before: int) -> list[int]:
        """The blocks before this one before which a session, or whom it was forked from, was renewed."""
        own = {block for block in self.recaches.get(session, ()) if block < before}
        if session in self.parents:
            parent, first = self.parents[session]
            own |= set(self.passed(parent, min(first, before)))
        return sorted(own)

    def _made(self, session: SessionId, lane: int, frame: int) -> tuple[int, bytes]:
        """When the page of a frame was sealed or renewed last, as in `sealed`, and what it must hold now."""
        before = 1 << 60
        while (session, lane, frame) not in self.sealed or min(self.sealed[session, lane, frame]) >= before:
            session, first = self.parents[session]
            before = min(before, first)
        made = self.sealed[session, lane, frame]
        newest = max(block for block in made if block < before)
        return newest, made[newest]

    def _check_frames(
        self, worker: WorkerId, work: ForwardWork, frames: Sequence[int], own: Mapping[int, PageId]
    ) -> None:
        pages, name = self.fakes[worker].lanes.pages, f"{work.kind}({work.step}, {work.block})"
        assert len(frames) == len(work.pages.reads), f"{name} reads {len(work.pages.reads)} pages, should read {frames}"
        for frame, page in zip(frames, work.pages.reads, strict=True):
            if frame in own:
                assert page == own[frame], f"{name} reads page {page} in place of its own frame {frame}"
                continue
            if work.session in self.vague or page in {fold.write for fold in work.folds}:
                continue
            right = pages[page].tobytes() == self._left_in(work, frame, name)
            assert right, f"{name} reads page {page}, should read frame {frame} of lane {work.lane}"
        self._check_folds(worker, work, frames)
        self.check_places(work, frames)

    def _check_folds(self, worker: WorkerId, work: ForwardWork, frames: Sequence[int]) -> None:
        """What is folded before a forward is all that the paper folds there, into the pages of the memory."""
        if not work.folds:
            return
        pages, recipe = self.fakes[worker].lanes.pages, self.graph_of(work.session).recipe
        read = dict(zip(frames, work.pages.reads, strict=True))
        memory = range(recipe.sink_frames, recipe.sink_frames + recipe.context.memory_frames)
        assert [fold.write for fold in work.folds] == [read[frame] for frame in memory]
        found = [one_of([pages[page].tobytes() for page in fold.reads]) for fold in work.folds]
        right = self._memory(work.session, work.lane, work.block)
        assert found == right or work.session in self.vague, f"other pages than those of the paper: {work.folds}"

    def _left_in(self, work: ForwardWork, frame: int, name: str) -> bytes:
        """What the page of a frame must hold for a forward.

        A block that steps together with others may not be finished: it is as its op of this iteration left it.
        """
        graph = self.graph_of(work.session)
        memory = self._memory(work.session, work.lane, work.block)
        if frame in graph.recipe.window.memory_slots and memory:
            return memory[frame - graph.recipe.sink_frames]
        if graph.joint is None:
            return self._made(work.session, work.lane, frame)[1]
        block = graph.blocks.block_of(frame)
        op, left = self.left[self.writer(work.session, block), work.lane, frame]
        wanted = source(graph.recipe, work.op, block)
        assert op == wanted, f"{name} reads what {op} has left, should read {wanted}"
        return left

    def _memory(self, session: SessionId, lane: int, block: int) -> list[bytes]:
        """What the pages of the memory must hold as a block is denoised; nothing if they hold plain frames.

        By the paper: the memory before and the frames that the window has no room for, in groups of k.
        """
        recipe, key = self.graph_of(session).recipe, (session, lane, block)
        if key in self.memories or not recipe.memory.folds:
            return self.memories.get(key, [])
        size, sinks, m = recipe.window_frames or 0, recipe.sink_frames, recipe.context.memory_frames
        own = recipe.blocks.own(block)
        if own.stop <= size:
            return []
        before = self._memory(session, lane, block - 1)
        oldest = own.start - (size - sinks - m) if before else sinks
        leaving = range(oldest, own.stop - (size - sinks - m))
        contents = [*before, *(self._made(session, lane, frame)[1] for frame in leaving)]
        k = recipe.memory.fold_frames
        assert len(contents) == m * k
        self.memories[key] = [one_of(contents[start : start + k]) for start in range(0, m * k, k)]
        return self.memories[key]

    def renewed(self, worker: WorkerId, work: ForwardWork, block: int) -> None:
        """Remember what was committed anew before `block`."""
        for frame, page in self.own_frames(work):
            made = self.sealed.setdefault((work.session, work.lane, frame), {})
            made[block] = self.fakes[worker].lanes.pages[page].tobytes()

    def check_places(self, work: ForwardWork, seen: Sequence[int]) -> None:
        """A forward that is to read `seen` must place frames as the papers say; what it lacks of them changes none."""
        graph = self.graph_of(work.session)
        own = graph.blocks.own(work.block) if work.block >= 0 else read_by(graph.recipe, -1, [])
        right = standing(graph.recipe, own, seen)
        if graph.recipe.cues.cut:
            right = told(self.story(work.session, 1 << 60)).standing(graph.recipe, own, seen)
        name = f"{work.kind}({work.step}, {work.block})"
        assert [*work.positions] == right.queries, f"{name} has its queries at {work.positions}, not {right.queries}"
        assert [*work.key_positions] == right.keys, f"{name} stores its keys at {work.key_positions}, not {right.keys}"
        assert len(work.read_turns) == (len(work.pages.reads) if right.read else 0), f"{name} turns other pages"
        rest = iter(right.read)
        assert all(place in rest for place in work.read_turns), f"{name} reads at {work.read_turns}, not {right.read}"
        read = dict(zip(work.pages.reads, work.read_turns, strict=False))
        assert [read.get(page) for page in work.pages.writes] == (right.queries if read else [None] * len(own))
        weights = [*zip(*work.bias.rows(work.positions), strict=True)]
        assert len(weights) == (len(work.pages.reads) if right.weights else 0), f"{name} weighs other pages"
        others = iter([*zip(*right.weights, strict=True)])
        assert all(each in others for each in weights), f"{name} weighs by {work.bias}, not {right.weights}"

    def done(self, worker: WorkerId, work: ForwardWork) -> None:
        """Remember what a forward has left in its lane and sealed."""
        if work.returns.are_kept:
            self.outputs[work.session, work.lane, work.block] = self.fakes[worker].lanes.memory.output(work)
        if self.graph_of(work.session).joint is not None:
            for page, frame in zip(work.pages.writes, self.graph_of(work.session).blocks.own(work.block), strict=True):
                content = self.fakes[worker].lanes.pages[page].tobytes()
                self.left[work.session, work.lane, frame] = work.op, content
        if self.graph_of(work.session).sealing_op(work.lane, work.block) == Op(work.kind, work.step, work.block):
            self.renewed(worker, work, 0)

    def own_frames(self, work: ForwardWork) -> Iterator[tuple[int, PageId]]:
        """The latent frames of a forward's own block, each with its page."""
        graph = self.graph_of(work.session)
        own = graph.blocks.own(work.block) if work.block >= 0 else read_by(graph.recipe, -1, [])
        return zip(own, work.pages.writes, strict=True)


def one_of(contents: Sequence[bytes]) -> bytes:
    """What pages with these contents become together."""
    pages = np.frombuffer(b"".join(contents), np.uint8).reshape(len(contents), -1, HASH_BYTES)
    return folded(pages).tobytes()
