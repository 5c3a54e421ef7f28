"""Page accounting: which page of a worker holds which latent frame of which lane.

Theory of operation. A worker's pool is a number of pages; the core alone decides what each of them holds, workers only
execute page ids. A lane keeps the K/V of its sinks and of a sliding window that includes the block in flight, so it
needs `Recipe.page_count` pages for ever: they are reserved when its session is admitted, which is why no op can run out
of memory later. Inside a lane, frame f lives in slot f (a sink) or sinks + (f - sinks) mod ring, where ring =
window - sinks. A
new frame therefore takes the slot of the one frame that has just left the window, nothing is ever moved, and the slots
in ascending order are the canonical order in which keys are presented to attention: mathematically the order is free,
bit for bit it is not (floating-point sums are not associative).

A page is reused only after every dispatched op that names it has reported. The scheduler keeps that rule by closing a
session's lanes only when none of its ops is in flight.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from longtake.core.errors import InternalFault, NoCapacity
from longtake.core.recipe import Recipe
from longtake.core.work import PageId


def window_frames(first_frame: int, recipe: Recipe) -> tuple[int, ...]:
    """The frames that the block starting at `first_frame` attends to, its own among them, ascending.

    All of its own F frames and every earlier frame g with g < k or g >= first + F - (W - k) (hiar_spec 2.2).
    """
    end = first_frame + recipe.frames_per_block
    if recipe.window_frames is None or end <= recipe.window_frames:
        return tuple(range(end))
    sinks = recipe.sink_frames
    oldest = max(sinks, end - (recipe.window_frames - sinks))
    return (*range(min(sinks, end)), *range(oldest, end))


def window_size(first_frame: int, recipe: Recipe) -> int:
    """How many pages the block starting at `first_frame` reads: the length of `window_frames`."""
    return min(first_frame + recipe.frames_per_block, recipe.page_count)


def slot_of(frame: int, recipe: Recipe) -> int:
    """The slot of a lane in which `frame` lives."""
    if frame < recipe.sink_frames or recipe.window_frames is None:
        return frame
    return recipe.sink_frames + (frame - recipe.sink_frames) % (recipe.window_frames - recipe.sink_frames)


@dataclass(slots=True)
class PageTable:
    """The pages of one lane, by slot."""

    pages: tuple[PageId, ...]

    def reads(self, first_frame: int, recipe: Recipe) -> tuple[PageId, ...]:
        """All pages that the block at `first_frame` attends to, in canonical order, its own among them."""
        slots = sorted(slot_of(frame, recipe) for frame in window_frames(first_frame, recipe))
        return tuple(self.pages[slot] for slot in slots)

    def writes(self, first_frame: int, recipe: Recipe) -> tuple[PageId, ...]:
        """The pages of the block's own frames, in frame order."""
        frames = range(first_frame, first_frame + recipe.frames_per_block)
        return tuple(self.pages[slot_of(frame, recipe)] for frame in frames)


@dataclass(slots=True)
class PagePool:
    """The pages of one worker: free, or mapped as often as their count says."""

    size: int
    _free: list[PageId] = field(init=False)
    _mapped: Counter[PageId] = field(init=False, default_factory=Counter)

    def __post_init__(self) -> None:
        # Taken from the end, so that a fresh pool hands out 0, 1, 2, … and a lane's pages lie in one run.
        self._free = [PageId(number) for number in reversed(range(self.size))]

    @property
    def free_count(self) -> int:
        return len(self._free)

    def allocate(self, count: int) -> PageTable:
        """A table of `count` fresh pages; NoCapacity if there are not so many."""
        if count > len(self._free):
            raise NoCapacity(f"{count} pages are needed and {len(self._free)} of {self.size} are free", 1.0)
        pages = tuple(self._free.pop() for _ in range(count))
        self._mapped.update(pages)
        return PageTable(pages)

    def share(self, table: PageTable) -> PageTable:
        """Another table over the same pages, for one that will only read them."""
        for page in table.pages:
            if self._mapped[page] < 1:
                raise InternalFault(f"page {page} is shared although it is free")
        self._mapped.update(table.pages)
        return PageTable(table.pages)

    def release(self, table: PageTable) -> None:
        """Give a table back; a page becomes free when its last table goes."""
        for page in reversed(table.pages):
            if self._mapped[page] < 1:
                raise InternalFault(f"page {page} is released although it is free")
            self._mapped[page] -= 1
            if not self._mapped[page]:
                del self._mapped[page]
                self._free.append(page)

    def check(self, tables: list[PageTable]) -> None:
        """State the invariants against all tables that exist: InternalFault names the first one broken."""
        counted = Counter(page for table in tables for page in table.pages)
        if counted != self._mapped:
            raise InternalFault(f"pages are mapped {dict(self._mapped)} but tables hold {dict(counted)}")
        free = set(self._free)
        if len(free) != len(self._free) or free & counted.keys():
            raise InternalFault("a page is free twice, or free and mapped at once")
        if free | counted.keys() != set(range(self.size)):
            raise InternalFault("a page is neither free nor mapped")
