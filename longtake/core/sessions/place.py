"""The place of a session: the workers, pages and decoder slot that it holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from longtake.core.pages import PageTable
from longtake.core.work import SlotId, WorkerId

_GONE = WorkerId("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Homes:
    """Workers for the lanes of a session and for its decoder slot."""

    lanes: tuple[WorkerId, ...]
    decoder: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The classes (`Ability.numerics`) of the workers that a session's state was made by; None: there is none yet."""

    lanes: str | None = None
    decoder: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a session holds on the workers, from admission to its end."""

    lanes: tuple[WorkerId, ...]
    """Worker of each lane."""
    tables: tuple[PageTable, ...]
    """Page table of each lane."""
    decoder: WorkerId
    slot: SlotId

    def with_lane(self, lane: int, worker: WorkerId, table: PageTable) -> Place:
        """The place after a lane has moved."""
        lanes, tables = list(self.lanes), list(self.tables)
        lanes[lane], tables[lane] = worker, table
        return replace(self, lanes=tuple(lanes), tables=tuple(tables))

    @property
    def workers(self) -> tuple[WorkerId, ...]:
        """Every worker that holds something of the session, each once, in order."""
        return tuple(worker for worker in dict.fromkeys((*self.lanes, self.decoder)) if worker != _GONE)

    def has_on(self, worker: WorkerId) -> bool:
        """Whether this worker, which is not lost, holds something of the session."""
        return worker == self.decoder or worker in self.lanes

    @property
    def lost_lanes(self) -> tuple[int, ...]:
        """The lanes that were with a lost worker."""
        return tuple(lane for lane, worker in enumerate(self.lanes) if worker == _GONE)

    @property
    def has_lost_slot(self) -> bool:
        """Whether the decoder slot was with a lost worker."""
        return bool(self.lanes) and self.decoder == _GONE

    def without(self, lost: WorkerId) -> Place:
        """What is left when a worker is lost: one that joins later under its name holds nothing of this."""
        lanes = tuple(_GONE if worker == lost else worker for worker in self.lanes)
        return replace(self, lanes=lanes, decoder=_GONE if self.decoder == lost else self.decoder)


NOWHERE = Place(lanes=(), tables=(), decoder=_GONE, slot=SlotId(-1))
"""The place of a session that holds nothing: queued or parked."""
