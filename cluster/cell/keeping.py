"""What an engine keeps of its sessions: bytes in memory and, where there is a journal on disk, what must outlive it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from cluster.cell.attached import WorkerReport
from cluster.cell.durability import Durability, Released, Told
from cluster.cell.journal import Journal
from cluster.journal.writer import Reached
from longtake.core.adoption import Adopted, AdoptFailed, StepsSettled
from longtake.core.effects import DropJournal, Inherit, Refused, Trim
from longtake.core.errors import Unavailable
from longtake.core.openings import Opened
from longtake.core.sessions.session import Session
from longtake.core.work import ForwardWork, LatentRef, SessionId, WorkerId
from workers.messages import Encoded, GivenEncoded

Kept = Adopted | AdoptFailed | Trim | Inherit | DropJournal | StepsSettled
"""What is to be kept, or no more."""

_log = logging.getLogger("longtake.journal")


class Keeping:
    """Keeps memory and disk together. On the engine's loop; never waits."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.durability: Durability | None = None
        """The way to the journal on disk; None if there is none."""
        self.is_adopting = False
        """Whether sessions of a server before are still to be taken over."""
        self.adopted = 0
        """How many sessions were taken over."""
        self.divergences = 0
        """How often what was computed again was not what an engine before had made."""

    def check(self) -> None:
        """Unavailable while no stream may be opened and no cue be taken, because that could not be promised."""
        if self.durability is not None:
            self.durability.check()

    def check_adopted(self) -> None:
        """Unavailable while a stream that is asked for may still be on disk only."""
        if self.is_adopting:
            raise Unavailable("the server takes over the streams of the one before; try again")

    # --- what is told -----------------------------------------------------------------------------------------------

    def holds(self, told: Told) -> bool:
        """Whether a client is to be told this later, by `reached` or `tick`."""
        if isinstance(told, Refused | Opened):
            self._journal.begun(told.session)
        return self.durability is not None and self.durability.holds(told)

    def reached(self, reached: Reached) -> Released:
        """The journal on disk has come further."""
        return Released() if self.durability is None else self.durability.reached(reached)

    def tick(self, now_s: float) -> Released:
        """Time has passed: try again what the disk did not take."""
        return Released() if self.durability is None else self.durability.tick(now_s)

    # --- what is kept -----------------------------------------------------------------------------------------------

    def latents(self, work: ForwardWork, data: bytes) -> bool:
        """Keep what an op sent. Returns whether it is what an engine before made of the same, if that is known."""
        ref, version = LatentRef(session=work.session, block=work.block, step=work.enters), work.conditioning.version
        same = self._journal.put_latents(ref, data, version)
        self.divergences += not same
        if self.durability is not None:
            self.durability.latents(ref, version, data)
        return same

    def heard(self, worker: WorkerId, report: WorkerReport, sessions: Mapping[SessionId, Session]) -> str:
        """Keep the tensors that a worker sends with a report; returns what is wrong with them, if anything is."""
        if isinstance(report, Encoded):
            self._journal.put_conditioning(report.conditioning, report.tensor)
        session = sessions.get(report.session) if isinstance(report, GivenEncoded) else None
        if isinstance(report, GivenEncoded) and session is not None and session.is_to_encode and not report.unfit:
            return self._take_part(worker, session, report)
        return ""

    def _take_part(self, worker: WorkerId, session: Session, report: GivenEncoded) -> str:
        """Keep a latent frame of what a client gave; with the last one, all are latents as others are."""
        frame_bytes = 4 * math.prod(session.geometry.block_shape[1:])
        if len(report.latents) != frame_bytes:
            return f"it reported {len(report.latents)} bytes of latents of given pictures, not {frame_bytes}"
        count = session.request.given_frames + session.graph.window.references
        if report.part >= count:
            return f"it reported part {report.part} of {count} that were given"
        frames = self._journal.put_part(session.id, worker, report.part, report.latents)
        if all(part in frames for part in range(count)):
            self._take_given(session, [frames[part] for part in range(count)])
            frames.clear()
        return ""

    def _take_given(self, session: Session, frames: list[bytes]) -> None:
        """Keep the latents of what a client gave, which nothing could make again: of finished blocks that its session
        begins with, and of the reference."""
        graph, given = session.graph, {}
        for block in range(graph.given_blocks):
            own = graph.blocks.own(block)
            ref = LatentRef(session=session.id, block=block, step=graph.step_count)
            given[ref] = b"".join(frames[own.start : own.stop])
        if references := frames[session.request.given_frames :]:
            given[LatentRef(session=session.id, block=0, step=graph.step_count + 1)] = b"".join(references)
        for ref, data in given.items():
            self._journal.put_latents(ref, data)
        if self.durability is not None:
            self.durability.given(session.id, given)

    def acknowledged(self, session: SessionId, segment: int) -> None:
        """A client has consumed a segment."""
        if self.durability is not None:
            self.durability.acknowledged(session, segment)

    def changed(self, session: SessionId) -> None:
        """What is to be known of a session beside its cues has changed."""
        if self.durability is not None:
            self.durability.changed(session)

    def perform(self, effect: Kept, *, now_s: float) -> None:
        """Keep what is needed still, under the names by which it is needed."""
        match effect:
            case Adopted():
                self.adopted += 1
                floors, sinks, held = effect.floors, effect.sinks, effect.held
                self._journal.trim(Trim(session=effect.session, floors=floors, sinks=sinks, held=held))
                return
            case AdoptFailed():
                _log.warning("session %s is not taken in: %s", effect.session, effect.problem.message)
                self._journal.drop(effect.session)
                return
            case Trim():
                self._journal.trim(effect)
            case Inherit():
                self._journal.inherit(effect)
            case DropJournal():
                self._journal.drop(effect.session)
        if self.durability is not None:
            self.durability.perform(effect, self._journal, now_s=now_s)
