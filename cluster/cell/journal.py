"""The bytes behind the core's references: latents and text features, as long as anything is computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from longtake.core.effects import Inherit, Trim
from longtake.core.errors import InternalFault
from longtake.core.parts import EncodePictures
from longtake.core.work import ConditioningRef, LatentRef, SessionId, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPictures:
    """What a client gives a stream that it opens: files of pictures."""

    given: tuple[bytes, ...] = ()
    """What it begins with."""
    references: tuple[bytes, ...] = ()
    """What it looks at."""

    @property
    def all(self) -> tuple[bytes, ...]:
        """Both."""
        return self.given + self.references


@dataclass(slots=True, kw_only=True)
class _Gift:
    """The pictures of a session that has not begun, and their latents as far as they are here."""

    pictures: GivenPictures
    encoder: WorkerId | None = None
    """Who encodes them; what another has made of them is not kept."""
    parts: dict[int, bytes] = field(default_factory=dict)
    """The latent frames."""


NOTHING_GIVEN = GivenPictures()
"""What most streams are given."""


class Journal:
    """Bytes of open sessions by reference. What arrives for a session that was dropped is not kept."""

    def __init__(self) -> None:
        self._sessions: dict[SessionId, _Entry] = {}
        self._gifts: dict[SessionId, _Gift] = {}

    def begin(self, session: SessionId) -> None:
        """Keep bytes for `session` from now on; harmless if it does already."""
        self._sessions.setdefault(session, _Entry())

    def drop(self, session: SessionId) -> None:
        """Free everything of `session`."""
        self.begun(session)
        self._sessions.pop(session, None)

    def put_latents(self, ref: LatentRef, data: bytes, version: int = 0) -> bool:
        """Keep the latents of one block, as they enter `ref.step`, made with this version of the conditioning.

        Returns whether they are what an engine before made of the same: True where nothing is known.
        """
        entry = self._sessions.get(ref.session)
        if entry is None:
            return True
        key = (ref.block, ref.step)
        is_known = entry.found.pop(key, None) == version
        same = not is_known or entry.latents[key] == data
        entry.latents[key] = data
        return same

    def give(self, session: SessionId, pictures: GivenPictures) -> None:
        """Keep the pictures of a session that is about to be opened until it is."""
        if pictures.all:
            self._gifts[session] = _Gift(pictures=pictures)

    def pictures(self, order: EncodePictures) -> tuple[bytes, ...]:
        """Those of a part that is to be encoded; the first one begins anew. InternalFault if none were given."""
        gift = self._gifts.get(order.session)
        if gift is None:
            raise InternalFault(f"journal: the pictures that {order.session} was given are missing")
        if not order.part:
            gift.encoder, gift.parts = order.worker, {}
        found = gift.pictures.references if order.is_reference else gift.pictures.given
        return found[order.pictures.start : order.pictures.stop]

    def put_part(self, session: SessionId, worker: WorkerId, part: int, data: bytes) -> dict[int, bytes]:
        """Keep one latent frame of what a session was given; returns those that are here, by their numbers."""
        gift = self._gifts.get(session)
        if gift is None or gift.encoder != worker:
            return {}
        gift.parts[part] = data
        return gift.parts

    def begun(self, session: SessionId) -> None:
        """Free the pictures of a session that has begun with what they were encoded to, or that is not to be."""
        self._gifts.pop(session, None)

    def adopt(
        self, session: SessionId, latents: Mapping[tuple[int, int], bytes], versions: Mapping[tuple[int, int], int]
    ) -> None:
        """Keep the latents that an engine before has left, by block and step, with the versions of their conditioning.

        What is computed again is compared with them once.
        """
        self.begin(session)
        entry = self._sessions[session]
        entry.latents.update(latents)
        entry.found.update(versions)

    def latents_of(self, session: SessionId) -> dict[tuple[int, int], bytes]:
        """All latents of a session, by block and step; to look at."""
        return dict(self._entry(session).latents)

    def found_in(self, session: SessionId) -> dict[tuple[int, int], int]:
        """Of which of these an engine before has left them, with the versions of their conditioning."""
        return dict(self._entry(session).found)

    def latents(self, ref: LatentRef) -> bytes:
        """InternalFault if they are not here."""
        entry = self._entry(ref.session)
        if (ref.block, ref.step) not in entry.latents:
            raise InternalFault(f"journal: latents of block {ref.block}, step {ref.step} of {ref.session} are missing")
        return entry.latents[ref.block, ref.step]

    def trim(self, effect: Trim) -> None:
        """Free what nothing of a session will be computed from any more."""
        entry = self._sessions.get(effect.session)
        if entry is None:
            return
        for version in effect.versions:
            entry.conditioning.pop(version, None)
        for step, floor in enumerate(effect.floors, start=1):
            first = max(entry.floors.get(step, 0), effect.sinks)
            if floor - first > len(entry.latents):  # as in a session that comes from elsewhere
                gone = [block for block, entered in entry.latents if entered == step and first <= block < floor]
            else:
                gone = list(range(first, floor))
            if entry.held != effect.held:
                for start, end in entry.held:
                    gone += range(max(start, effect.sinks), min(end, first))
            for block in gone:
                if not any(start <= block < end for start, end in effect.held):
                    entry.latents.pop((block, step), None)
                    entry.found.pop((block, step), None)
            entry.floors[step] = max(floor, entry.floors.get(step, 0))
        entry.held = effect.held

    def inherit(self, effect: Inherit) -> None:
        """Share with a fork what it may be rebuilt from: the same bytes, freed with the last session that has them."""
        parent, child = self._sessions.get(effect.parent), self._sessions.get(effect.session)
        if parent is None or child is None:
            return
        for (block, step), data in parent.latents.items():
            if block < effect.before:
                child.latents[block, step] = data
        for theirs, own in effect.versions:
            if theirs in parent.conditioning:
                child.conditioning[own] = parent.conditioning[theirs]

    def put_conditioning(self, ref: ConditioningRef, data: bytes) -> None:
        """Keep the text features of one version."""
        if ref.session in self._sessions:
            self._sessions[ref.session].conditioning[ref.version] = data

    def conditioning(self, ref: ConditioningRef) -> bytes:
        """InternalFault if they are not here."""
        entry = self._entry(ref.session)
        if ref.version not in entry.conditioning:
            raise InternalFault(f"journal: conditioning version {ref.version} of {ref.session} is missing")
        return entry.conditioning[ref.version]

    @property
    def size_bytes(self) -> int:
        """The bytes that are held for all sessions together."""
        return sum(self.sizes_bytes().values())

    def sizes_bytes(self) -> dict[str, int]:
        """The same by content."""
        entries = self._sessions.values()
        return {
            "latents": sum(sum(map(len, entry.latents.values())) for entry in entries),
            "conditioning": sum(sum(map(len, entry.conditioning.values())) for entry in entries),
            "pictures": sum(sum(map(len, (*gift.pictures.all, *gift.parts.values()))) for gift in self._gifts.values()),
        }

    @property
    def sessions(self) -> tuple[SessionId, ...]:
        """Sessions that something is kept for."""
        return tuple(self._sessions)

    def _entry(self, session: SessionId) -> _Entry:
        if session not in self._sessions:
            raise InternalFault(f"journal: session {session} is not open")
        return self._sessions[session]


class _Entry:
    def __init__(self) -> None:
        self.latents: dict[tuple[int, int], bytes] = {}
        self.conditioning: dict[int, bytes] = {}
        self.found: dict[tuple[int, int], int] = {}
        """Of what an engine before has left and was not computed again: with which version it was made."""
        self.floors: dict[int, int] = {}
        """For each step, the block up to which latents that enter it were freed."""
        self.held: tuple[tuple[int, int], ...] = ()
        """The blocks, first and end, whose latents were not freed with the others."""
