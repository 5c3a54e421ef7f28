"""Retention: which latents of a session the journal keeps, so that whatever is lost of its state can be computed again.

Theory of operation. A lane is nothing but pages, and the K/V of layer l in a page depends on what the pages of the
blocks before it held of layer l - 1. With H past blocks in the window and L layers, the pages of a lane at a boundary
are the same bits again once the ops that seal them were run again for the last H L blocks, each from the latents that
it started from (one block less is not enough; shared reference recovery.md has the measurements). The state of a
decoder is the same again after the latent frames that it depends on. So for each step the journal keeps the latents
that enter it from the slowest chain that reads them on, and as many blocks before as a rebuild would need; x0 back from
the first segment that the client has not acknowledged, so that it can be made again; and all of the blocks of the
sinks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from longtake.core.adoption import runs_of
from longtake.core.limits import Recover
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.joint import Joint
from longtake.core.recipe.ops import Kind, Op, Readers
from longtake.core.recipe.shots import REMEMBERED_SHOTS, cuts
from longtake.core.sessions.progress import Progress
from longtake.core.sessions.prompts import Turn, recaches
from longtake.core.sessions.replay import Stretch
from longtake.core.work import Continuity


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """How far back that which workers hold remembers (`Ability.replay_depth`)."""

    layers: int = 0
    """Layers of the model, for a lane."""
    frames: int = 0
    """Latent frames, for a decoder slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """From which blocks on something is kept of a session; what belongs to its sinks is kept beside."""

    latents: tuple[int, ...]
    """Of those that enter step 1 to S, in this order."""
    texts: int
    """Of the prompts, because a replayed op reads the text of its block; it may start from noise."""

    def lowered(self, blocks: int) -> Floors:
        """The same with so many blocks more."""
        return Floors(
            latents=tuple(max(0, floor - blocks) for floor in self.latents), texts=max(0, self.texts - blocks)
        )

    def raised(self, other: Floors) -> Floors:
        """What is kept if everything before the other floors is dropped."""
        latents = tuple(map(max, self.latents, other.latents))
        return Floors(latents=latents, texts=max(self.texts, other.texts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is kept of the past, however long ago that is.

    It is what a recache has made that every later block reads, which is sinks that have moved; or the first blocks of
    shots.
    """

    turns: tuple[Turn, ...] = ()
    """Their prompts."""
    blocks: tuple[tuple[int, int], ...] = ()
    """Their blocks, as ranges (first, end), as far as they are not kept for another reason."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What is kept of the sessions of one recipe."""

    graph: Graph
    depths: Depths
    rewind_blocks: int = 0
    """So many blocks more than a rebuild needs."""
    recover: Recover = Recover.EXACT

    @cached_property
    def lane_blocks(self) -> int:
        """Blocks before its boundary that a lane is rebuilt from: the H L that it depends on, or H alone."""
        blocks = self.graph.recipe.history_blocks * self._layers
        return max(1, blocks) if self.graph.shots.can_cut else blocks  # the last one, for what is in sight of it

    @property
    def _layers(self) -> int:
        return self.depths.layers if self.recover is Recover.EXACT else min(1, self.depths.layers)

    @cached_property
    def shots_back(self) -> int:
        """Shots before its own from whose first blocks a lane is rebuilt: what they saw of one another, layer by layer,
        as with the blocks of a window."""
        return self.graph.shots.room * self._layers

    def continuity(self, first: Stretch) -> Continuity:
        """What a lane is worth whose window was rebuilt from these blocks on.

        What lies there from the beginning of the stream, or after a renewal, depends on nothing before. A memory
        depends on all that was folded into it since the beginning.
        """
        forgets = not self.graph.recipe.memory.folds
        is_whole = not first.blocks.start or (forgets and (self.recover is Recover.EXACT or first.renewal is not None))
        return Continuity.EXACT if is_whole else Continuity.APPROXIMATE

    def held(self, turns: Sequence[Turn], kept: Floors) -> Held:
        """What is kept, beside what these floors say, of recaches whose blocks are past."""
        renewing = self.graph.renewing
        if self.graph.shots.can_cut:
            return self._shots(turns, kept)
        made = [turn for turn in recaches(turns) if turn.block <= kept.texts + renewing.reach]
        turn = next((turn for turn in reversed(made) if renewing.writes_sinks(turn.block)), None)
        if turn is None or not renewing.moved(turn.block).sinks_from:
            return Held(turns=() if turn is None else (turn,))
        return Held(turns=(turn,), blocks=((renewing.renewal(turn.block, 0).blocks.start, turn.block),))

    def _shots(self, turns: Sequence[Turn], kept: Floors) -> Held:
        """The same of first blocks of shots: those that a lane is rebuilt from, or that a cue may go back to."""
        begin = [turn for turn in turns if not turn.block or cuts(turn.change)]
        past = [turn for turn in begin if turn.block <= kept.texts][-(self._most_shots + 1) :]
        held = (*past, *(turn for turn in begin if turn.block > kept.texts))
        return Held(turns=held, blocks=runs_of(turn.block for turn in held))

    @property
    def _most_shots(self) -> int:
        """Shots that are kept beside the one that the oldest block which is kept for another reason belongs to."""
        return REMEMBERED_SHOTS + self.shots_back if self.graph.shots.can_cut else 0

    @cached_property
    def slot_blocks(self) -> int:
        """Blocks before the next segment that the state of a decoder depends on."""
        return -(-self.depths.frames // self.graph.blocks.frames)

    def floors(self, progress: Progress, *, acknowledged: int, forks: Iterable[int] = ()) -> Floors:
        """From which blocks on something is kept.

        `acknowledged` is the last segment that the client has; `forks` are the first blocks of forks that still depend
        on the session: what comes before them is wanted by those as well.
        """
        first = min(forks, default=None)
        done = progress.done if first is None else [min(done, first) for done in progress.done]
        return self._needed(done, acknowledged).lowered(self.rewind_blocks)

    def oldest_segment(self, kept: Floors) -> int:
        """The first segment that can be made again, if so much is kept."""
        return kept.latents[-1] + self.slot_blocks if kept.latents[-1] else 0

    def oldest_fork(self, kept: Floors) -> int:
        """The first block at which a stream can be rebuilt, lanes and slot, if so much is kept of it."""
        oldest, sinks = 0, self.graph.lasting_blocks
        for floor, readers in zip(kept.latents, self._readers, strict=True):
            depth = self._depth(readers)
            if depth and floor > (sinks if self._seals(readers) else 0):
                oldest = max(oldest, floor + depth)
        return max(oldest, kept.texts + self._lane_reach) if kept.texts > sinks else oldest

    def found(self, kept: Sequence[Sequence[tuple[int, int]]], done: Sequence[int], *, acknowledged: int) -> Floors:
        """From which blocks on everything is there of a stream that is done so far: `frontier` has said so.

        Prompts are there of all blocks.
        """
        needed = self._needed(done, acknowledged).latents
        starts = zip(kept, needed, strict=True)
        return Floors(latents=tuple(_start(runs, floor) for runs, floor in starts), texts=0)

    def frontier(
        self, kept: Sequence[Sequence[tuple[int, int]]], *, acknowledged: int, turns: Sequence[Turn] = ()
    ) -> tuple[int, ...]:
        """How far each chain may count as done, if the latents that enter step 1, 2, … are there of these blocks.

        `turns` are the prompts of the stream.

        Everything can be rebuilt from there. The lanes of a pipeline may stand at different blocks, as they did when
        the latents were made. As in a new stream if nothing that is there suffices.
        """
        for most in sorted({end for runs in kept for _, end in runs}, reverse=True):
            done = self._reached(kept, most, acknowledged)
            if self.graph.joint is not None:
                done = self._between(self.graph.joint, done)
            if self._suffices(kept, done, acknowledged, turns):
                return tuple(done)
        return self.graph.begun

    def _reached(self, kept: Sequence[Sequence[tuple[int, int]]], most: int, acknowledged: int) -> list[int]:
        """How far each chain has come by what it put out, up to block `most`; no step is ahead of the one before.

        Where blocks step together only finished latents outlive the step that they enter: that they are there says that
        all steps before were done.
        """
        put_out: list[int] = []
        for step, runs in enumerate(kept, start=1):
            sent = self.graph.chains[self.graph.first + step - 1].returns.are_sent
            end = max((min(end, most) for start, end in runs if start < most), default=0) if sent else most
            put_out.append(max(end, min(most, self.graph.given_blocks)))
        if self.graph.joint is not None:
            put_out = list(accumulate(reversed(put_out), max))[::-1]
        ends = list(accumulate(put_out, min))
        if any(not chain.returns.are_sent and chain.kind is Kind.DENOISE for chain in self.graph.chains):
            ends = [ends[-1]] * len(ends)  # of a block in the middle of its steps nothing is known
        done = [ends[max(chain.entered_step, chain.step + 1) - 1] for chain in self.graph.chains]
        if ends[-1] < self.graph.clean_blocks:  # the first blocks are committed from x0
            done = [
                min(end, ends[-1]) if number in self.graph.sealing else end for number, end in enumerate(done)
            ]  # fmt: skip
        done[self.graph.decodes] = min(ends[-1], acknowledged + 1)
        return done

    def _between(self, joint: Joint, done: list[int]) -> list[int]:
        """The last point between two iterations at which no more is done of blocks that step together.

        At the end of a stream it is one before the last block began, because where that is is not known here.
        """
        steps = [done[chain] for chain in self.graph.in_lane[0][: self.graph.step_count]]
        iteration = min(joint.iteration(step, count) for step, count in enumerate(steps))
        for step, chain in enumerate(self.graph.in_lane[0]):  # the commit comes behind the last step
            done[chain] = joint.begun(iteration, step)
        done[self.graph.decodes] = min(done[self.graph.decodes], done[self.graph.last])
        return done

    def _suffices(
        self, kept: Sequence[Sequence[tuple[int, int]]], done: list[int], acknowledged: int, turns: Sequence[Turn]
    ) -> bool:
        """Whether all latents are there that rebuilds, and what is to be done next, start from."""
        floors = self._needed(done, acknowledged)
        held = self.held(turns, floors).blocks
        for step, (runs, floor, readers) in enumerate(zip(kept, floors.latents, self._readers, strict=True), start=1):
            made = done[self.graph.number_of(Op(Kind.DENOISE, step - 1, 0))]
            sealed = [done[chain] for chain in readers if chain in self.graph.sealing]
            sinks = min([self.graph.lasting_blocks, *sealed]) if sealed else 0
            first = 0 if step == self.graph.step_count else self.graph.given_blocks
            is_there = covers(runs, max(first, floor), made) and covers(runs, first, sinks)
            again = all(covers(runs, max(first, start), self._end(end, sealed)) for start, end in held)
            if not (is_there and (not sealed or again)):
                return False
        return covers(kept[-1], 0, self.graph.given_blocks)

    def _end(self, end: int, sealed: Sequence[int]) -> int:
        """How far what is held up to `end` must be there, if lanes have come so far: of shots what has begun."""
        return min(end, *sealed) if self.graph.shots.can_cut and sealed else end

    def _needed(self, done: Sequence[int], acknowledged: int) -> Floors:
        """What is needed when so much of each chain is done."""
        shown = min(done[self.graph.decodes], acknowledged + 1)
        latents = tuple(self._floor(readers, done, shown) for readers in self._readers)
        oldest = min(done[chain] - self.lane_blocks for chain in self.graph.sealing)
        if oldest < self.graph.clean_blocks:  # every lane starts from x0 there
            latents = (*latents[:-1], max(0, min(latents[-1], oldest)))
        if self.graph.renewing.moves_sinks:  # every lane may have to make sinks again that the slowest has
            latents = (min(latents),) * len(latents)
        return Floors(latents=latents, texts=max(0, min(*latents, oldest)))

    def most_latents(self, window: int) -> int:
        """The most latents of one session that are kept at a time, if it may run `window` segments ahead."""
        sinks, ahead = self.graph.lasting_blocks, window + _UNDER_WAY + self.rewind_blocks
        held = self.graph.renewing.reach if self.graph.renewing.moves_sinks else self._most_shots
        first = self.graph.clean_blocks - (-self.graph.window.references // self.graph.blocks.most)
        return first + sum(sinks + held + ahead + self._depth(readers) for readers in self._readers)

    def _depth(self, readers: Readers) -> int:
        """How many blocks back a rebuild needs what these chains start from."""
        lane, slot = self._seals(readers), self._decodes(readers)
        return max(self._lane_reach if lane else 0, self.slot_blocks if slot else 0)

    @property
    def _lane_reach(self) -> int:
        """The same of a lane: where its pages remember a renewal, that goes further back."""
        return self.lane_blocks + self.graph.renewing.reach

    @cached_property
    def _readers(self) -> tuple[Readers, ...]:
        """The readers of what enters step 1 to S."""
        found = (self.graph.readers(step) for step in range(1, self.graph.step_count + 1))
        return tuple(readers for readers in found if readers is not None)

    def _floor(self, readers: Readers, done: Sequence[int], shown: int) -> int:
        wanted = [done[readers.further]]
        if self._decodes(readers):
            wanted.append(shown - self.slot_blocks)
        wanted += [done[chain] - self._lane_reach for chain in readers if chain in self.graph.sealing]
        return max(0, min(wanted))

    def _seals(self, readers: Readers) -> bool:
        return any(chain in self.graph.sealing for chain in readers)

    def _decodes(self, readers: Readers) -> bool:
        return readers.further == self.graph.decodes


def covers(runs: Sequence[tuple[int, int]], first: int, end: int) -> bool:
    """Whether all blocks from `first` up to `end` are in one of these ranges."""
    return first >= end or any(start <= first and end <= stop for start, stop in runs)


def _start(runs: Sequence[tuple[int, int]], block: int) -> int:
    """From which block on all up to `block` are in one of these ranges."""
    return next((start for start, end in runs if start <= block <= end), block)


_UNDER_WAY = 3
"""Blocks between the last segment that was acknowledged and the slowest chain, and one that waits to be dropped."""
