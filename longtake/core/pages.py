"""Page accounting: which page of a worker holds which latent frame of which lane.

Theory of operation. A worker's pool is a number of pages; the core alone decides what each of them holds, workers only
execute page ids. A lane keeps the K/V of its sinks and of a sliding window that includes the block in flight, so it
needs as many pages for ever as its window has slots: they are reserved when its session is admitted, which is why no op
can run out of memory later. Which frame lives in which slot is the window's rule (recipe/window.py). Which page lies in
a slot is free, and may change from block to block: a lane claims the pages of a block before its first op writes them.

Forks. A fork at a block boundary shares the sealed pages of its parent's window. A shared page is never written: the
table that is about to write its slot takes a spare page into the slot instead and leaves the shared one to the others,
nothing is copied. So that the spare is there when it is needed, every further sharer of a page brings one when it
comes: a page with k sharers has k - 1 spares, whoever of them writes first takes one, and the last needs none, it owns
the page. A sharer that goes takes a spare with it. Pages that are never written again (sinks, and all of a stream
without a window) need no spare. So a fork costs the pages of its ring, shared or not, and can no more run out of memory
than any other lane.

Spare block. A table may have F pages beside its slots (F = frames of a block). Then a claim puts these into the
block's slots, and what lay there becomes the spare block of the next claim: so a block may be written while the one
before it is still read, or in the same forward.

Renewals. A lane may commit blocks of its window anew (recipe/renewals.py), so pages of sinks may be written again, and
they may be other frames from then on. Shared pages are left to the others as in a claim.

Memory. Where what leaves the window is folded (recipe/memory.py), the first claim of a block, and no other, says of
which pages into which: those in the slots of the block are read for the last time. There is no spare block there.

Shots. Where a cue may cut, the window is that of one shot (recipe/window.py). When a lane comes to a block with another
one (`enter`), the pages of what is in sight before and behind go to the slots that they have then; those of what is out
of sight take the slots that are left, so they are written next. Nothing is copied.

Rebuilding. A table whose lane is built again from the journal knows from which block on its pages were written
(`rebuilt_from`, and the blocks of the sinks before): a block reads no others, because what lies there is somebody
else's. It reads fewer pages than it would in a stream that was never disturbed, until its window holds nothing older.

A page is reused only after every dispatched op that names it has reported. The scheduler keeps that rule by closing a
session's lanes only when none of its ops is in flight, and a table by holding a shared page that it has left until so
many further claims as its worker can have dispatches: by then the ops before the first have reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, TypeVar

from longtake.core.errors import InternalFault, Lack, NoCapacity
from longtake.core.numbers import FreeNumbers
from longtake.core.recipe.window import Window
from longtake.core.work import FoldWork, PageId, Pages

_Each = TypeVar("_Each")


class _Held(NamedTuple):
    """What a table held when a block was the last one claimed."""

    window: Window
    pages: tuple[PageId, ...]
    written: frozenset[int] | None


@dataclass(slots=True)
class PageTable:
    """The pages of one lane, by slot of its window."""

    window: Window
    pages: tuple[PageId, ...]
    spare: tuple[PageId, ...] = ()
    """Pages of the spare block, or none."""
    claimed: int = 0
    """The pages of all blocks before this one have been claimed."""
    before: _Held | None = None
    """What it held before the last claim."""
    left: tuple[tuple[PageId, ...], ...] = ()
    """Pages of the last claims that this table shared and has left to other tables, oldest first."""
    rebuilt_from: int = 0
    """The pages of blocks before this one were never written, but for those of the first `rebuilt_lead` blocks."""
    rebuilt_lead: int = 0
    written: frozenset[int] | None = None
    """Where there is a shelf, and the table is rebuilt: the frames that were written; None if all are that are read."""
    _slots_of: int = -1
    _slots: tuple[int, ...] = ()
    """The slots of the own frames of block `_slots_of`."""

    def reads(self, block: int) -> tuple[PageId, ...]:
        """All pages that `block` attends to, in canonical order, its own among them.

        The block is the last one claimed, or the one before it, or where blocks step together any that is not finished.
        """
        window, pages, _ = self._state_at(block)
        if window.behind or window.has_gaps:
            return tuple([pages[slot] for slot in window.in_order(self._written(block))])
        return self.read_of(pages[: window.count(block)], block)

    def window_at(self, block: int) -> Window:
        """By which window such a block reads."""
        return self._state_at(block).window

    def read_of(self, by_slot: tuple[_Each, ...], block: int) -> tuple[_Each, ...]:
        """Of what there is for each page that `block` would read, in canonical order, what belongs to those it does."""
        if not by_slot or not self._lacks(block):
            return by_slot
        window = self.window if self.written is None else self._state_at(block).window
        frames, there = sorted(window.frames(block), key=window.order), set(self._written(block))
        return tuple(each for frame, each in zip(frames, by_slot, strict=True) if frame in there)

    def of(self, frames: Iterable[int], block: int) -> Pages:
        """What `block`, the last one begun, names that reads these frames, of different slots, its own among them."""
        reads = tuple(self.pages[slot] for slot in self.window.in_order(frames))
        return Pages(reads=reads, writes=tuple(self.pages[slot] for slot in self.window.own_slots(block)))

    def move_sinks(self, window: Window) -> None:
        """The lane reads other frames as its sinks from now on."""
        if window != self.window:
            self.window, self._slots_of = window, -1

    def enter(self, window: Window, block: int) -> None:
        """The lane comes to `block`, whose shot is in sight by this window: what both see goes to its new slots."""
        if window == self.window:
            return
        old, pages = self.window, self.pages
        seen = self._written(block - 1 if self.written is None else self.claimed - 1)
        stays = [frame for frame in seen if frame in set(window.frames(block))]
        to = {window.slot(frame): pages[old.slot(frame)] for frame in stays}
        others = iter([page for page in pages if page not in set(to.values())])
        self.pages = tuple([to[slot] if slot in to else next(others) for slot in range(len(pages))])
        self.window, self._slots_of = window, -1
        if self.written is not None:
            self.written = frozenset(stays)

    def renew(self, window: Window, before: int, blocks: Iterable[int]) -> None:
        """These blocks are committed anew, because of the cue at the block that they come before."""
        if not window.has_gaps:
            self.move_sinks(window)
            return
        self.enter(window, before)
        for block in blocks:
            self.note_written(block)

    def note_written(self, block: int) -> None:
        """Note that this block is about to be written, if it is known of a table what was."""
        if self.written is not None:
            self.written |= set(self.window.blocks.own(block))

    def count_in(self, window: Window, block: int) -> int:
        """How many pages `block` attends to, if it is in sight by this window, which the lane may not have entered."""
        if self.written is None:
            return window.count(block)
        return len(set(window.frames(block)) & (self.written | set(window.blocks.own(block))))

    def count(self, block: int) -> int:
        """How many pages `block` attends to."""
        return len(self._written(block)) if self._lacks(block) else self.window.count(block)

    def _state_at(self, block: int) -> _Held:
        """What it held when `block` was the last one claimed."""
        if block + 1 >= self.claimed or self.window.behind or self.before is None:  # there each block has its own slots
            return _Held(self.window, self.pages, self.written)
        return self.before

    def _lacks(self, block: int) -> bool:
        """Whether some of the frames that `block` would attend to were never written."""
        window, _, written = self._state_at(block)
        if written is not None:
            return not written.issuperset(window.frames(block))
        start = self.rebuilt_from
        return start > 0 and self.window.oldest(block) < self.window.blocks.first_frame(start)

    def _written(self, block: int) -> Sequence[int]:
        """The frames that `block` would attend to, as far as they were written, its own among them."""
        start, lead, blocks = self.rebuilt_from, self.rebuilt_lead, self.window.blocks
        window, _, written = self._state_at(block)
        if written is not None:
            return [frame for frame in window.frames(block) if frame in written]
        if not start:
            return window.frames(block)
        moved = self.window.sink_frames if self.window.sinks_from else range(0)
        frames = self.window.frames(block)
        return [frame for frame in frames if frame < 0 or frame in moved or not lead <= blocks.block_of(frame) < start]

    def writes(self, block: int) -> tuple[PageId, ...]:
        """The pages of the block's own frames, in frame order; to be claimed first."""
        window, pages, _ = self._state_at(block)
        if self._slots_of != block:  # asked by the claim, by each denoise op and by each commit of a block
            self._slots_of, self._slots = block, window.own_slots(block)
        return tuple([pages[slot] for slot in self._slots])

    def kept(self, block: int) -> tuple[PageId, ...]:
        """The pages of the kept slots: what a copy of this lane at the boundary before `block` must hold, in order."""
        return tuple(self.pages[slot] for slot in self.window.kept_slots(block))

    def put(self, pages: tuple[PageId, ...], block: int) -> None:
        """Put `pages` into the slots of the block's own frames."""
        self.pages = self._with(pages, block)

    def _with(self, pages: tuple[PageId, ...], block: int) -> tuple[PageId, ...]:
        changed = list(self.pages)
        for slot, page in zip(self.window.own_slots(block), pages, strict=False):
            changed[slot] = page
        return tuple(changed)


@dataclass(slots=True)
class PagePool:
    """The pages of one worker: free, spare to a shared page, or mapped as often as their count says."""

    size: int
    claims_in_flight: int = 2
    """The most dispatches that the worker can have: one running and one queued, more in a chain of workers."""
    _free: FreeNumbers = field(init=False)
    _mapped: Counter[PageId] = field(init=False, default_factory=Counter)
    """How many tables have the page: in a slot, in their spare block, or as one that they have left."""
    _spares: dict[PageId, list[PageId]] = field(init=False, default_factory=dict)
    """The spares of each page that several tables share and that will be written again: one fewer than its tables."""

    def __post_init__(self) -> None:
        self._free = FreeNumbers(self.size)

    @property
    def free_count(self) -> int:
        return len(self._free)

    def allocate(self, window: Window, *, spare: int = 0) -> PageTable:
        """A table of fresh pages, `spare` more for a spare block; NoCapacity if there are not so many."""
        pages = self._take(window.slots + spare)
        self._mapped.update(pages)
        return PageTable(window, pages[: window.slots], spare=pages[window.slots :])

    def claim(self, table: PageTable, block: int, window: Window | None = None) -> tuple[FoldWork, ...]:
        """Make sure that only this table has the pages of the block's own frames; does nothing the second time.

        `block` is the one after the last one claimed, or that one again; its shot is in sight by `window`, if the lane
        has several. Returns what is to be folded before anything is written to those pages.
        """
        if block < table.claimed:
            return ()
        was = _Held(table.window, table.pages, table.written)
        if window is not None:
            table.enter(window, block)
            table.note_written(block)
        gone = max(0, len(table.left) - self.claims_in_flight + 1)
        for pages in table.left[:gone]:
            self._unmap_all(pages)
        memory = table.window.folded_before(block, range(table.rebuilt_lead, table.rebuilt_from))
        before, folded = table.writes(block), table.pages[memory.start : memory.stop]
        left = self._unshare(table, (*memory, *table.window.own_slots(block)))
        if spare := list(table.spare):
            own = list(table.writes(block))
            for index in [index for index, page in enumerate(before) if page not in left]:
                own[index], spare[index] = spare[index], own[index]
            table.put(tuple(own), block)
            table.spare = tuple(spare)
        table.claimed = block + 1
        table.before, table.left = was, (*table.left[gone:], tuple(left))
        return FoldWork.of((*folded, *before), table.pages[memory.start : memory.stop])

    def renew(self, table: PageTable, blocks: Iterable[int]) -> None:
        """Make sure that only this table has the pages of these blocks; no op that names any of them is in flight."""
        slots = {slot for block in blocks for slot in table.window.own_slots(block)}
        self._unmap_all(self._unshare(table, sorted(slots)))

    def fork(self, table: PageTable, block: int) -> PageTable:
        """Another table with the same contents, for a lane that goes on at `block`, the next one.

        It takes the pages of its ring, whether it shares them (spares) or not; NoCapacity if there are not so many.
        """
        if table.claimed > block:
            raise InternalFault(f"a lane is forked at block {block}, but blocks before {table.claimed} are begun")
        shared = table.window.kept_slots(block)
        fresh = [slot for slot in range(len(table.pages)) if slot not in set(shared)]
        ring = [slot for slot in shared if not table.window.is_lasting(slot)]
        taken = self._take(len(fresh) + len(ring) + len(table.spare))
        own = taken[len(ring) :]
        self._mapped.update(own)
        for slot, spare in zip(ring, taken, strict=False):
            self._spares.setdefault(table.pages[slot], []).append(spare)
        pages = list(table.pages)
        for slot, page in zip(fresh, own, strict=False):
            pages[slot] = page
        self._mapped.update(table.pages[slot] for slot in shared)
        return PageTable(table.window, tuple(pages), spare=own[len(fresh) :], claimed=block)

    def release(self, table: PageTable) -> None:
        """Give a table back; a page becomes free when its last table goes."""
        for pages in table.left:
            self._unmap_all(pages)
        for page in (*reversed(table.spare), *reversed(table.pages)):
            spares = self._spares.get(page)
            if spares:
                self._free.give_back(spares.pop())
                if not spares:
                    del self._spares[page]
            self._unmap(page)

    def check(self, tables: list[PageTable]) -> None:
        """State the invariants against all tables that exist: InternalFault names the first one broken."""
        in_slots = Counter(chain.from_iterable(table.pages for table in tables))
        counted = in_slots.copy()
        for table in tables:
            counted.update(chain(table.spare, *table.left))
        if dict(counted) != dict(self._mapped):  # as counters they would be compared one by one, slowly
            raise InternalFault(f"pages are mapped {dict(self._mapped)} but tables hold {dict(counted)}")
        for page, spares in self._spares.items():
            if len(spares) != in_slots[page] - 1 or not spares:
                raise InternalFault(f"page {page} has {in_slots[page]} sharers and {len(spares)} spares")
        unmapped = [*self._free, *(page for spares in self._spares.values() for page in spares)]
        distinct = set(unmapped)
        if len(distinct) != len(unmapped) or not distinct.isdisjoint(counted):
            raise InternalFault("a page is free or spare twice, or mapped as well")
        if distinct.union(counted) != set(range(self.size)):
            raise InternalFault("a page is neither free nor spare nor mapped")

    def _take(self, count: int) -> tuple[PageId, ...]:
        if count > len(self._free):
            raise NoCapacity(f"{count} pages are needed and {len(self._free)} of {self.size} are free", 1.0, Lack.PAGES)
        return tuple(PageId(self._free.take()) for _ in range(count))

    def _leave(self, page: PageId) -> PageId:
        """Take a spare in place of a shared page, which stays mapped until the table ceases to hold it."""
        spares = self._spares[page]
        spare = spares.pop()
        if not spares:
            del self._spares[page]
        self._mapped[spare] = 1
        return spare

    def _unshare(self, table: PageTable, slots: Iterable[int]) -> list[PageId]:
        """Leave the pages that lie in these slots and are shared, for spares; returns them."""
        shared = [slot for slot in slots if self._spares.get(table.pages[slot])]
        own = {slot: self._leave(table.pages[slot]) for slot in shared}
        left = [table.pages[slot] for slot in shared]
        table.pages = tuple([own.get(slot, page) for slot, page in enumerate(table.pages)]) if own else table.pages
        return left

    def _unmap_all(self, pages: Iterable[PageId]) -> None:
        for page in pages:
            self._unmap(page)

    def _unmap(self, page: PageId) -> None:
        if self._mapped[page] < 1:
            raise InternalFault(f"page {page} is released although it is free")
        self._mapped[page] -= 1
        if not self._mapped[page]:
            del self._mapped[page]
            self._free.give_back(page)
