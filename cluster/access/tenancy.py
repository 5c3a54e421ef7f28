"""Which tenant each session belongs to, what tenants have used of their quotas, and the audit lines of sessions."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.access.audit import Audit, Entry
from cluster.access.callers import Call, current_call
from cluster.access.identity import Access
from cluster.access.owners import Owners
from cluster.net.statuses import STATUSES
from longtake.core.adoption import Adopted, AdoptFailed
from longtake.core.effects import Closed, CueAccepted, DropJournal, Effect, Refused, RequestRefused, Worked
from longtake.core.endings import Ending
from longtake.core.errors import LongtakeError, NotAuthenticated, Problem, QuotaUsed
from longtake.core.events import Ack, Event, FrameRefused, Open, Pause, Play
from longtake.core.openings import AttachRefused, ClientAway, Opened, Resumed
from longtake.core.quotas import Ledger
from longtake.core.work import ConnectionNumber, SessionId

EXPIRED = "what the caller showed has expired or was taken back"


class Tenancy:
    """A recorder of the engine that the front end asks before it lets a call do something."""

    def __init__(self, access: Access, audit: Audit) -> None:
        self.access = access
        self.audit = audit
        self.ledger = Ledger()
        self.owners = Owners()
        self._calls: dict[SessionId, Call] = {}
        """The call of each session that is open or about to be; of one whose client is away the last it had."""
        self._arrivals: dict[ConnectionNumber, Call] = {}
        """The calls that are about to go on with a session."""
        self._streams: dict[SessionId, str] = {}
        """The sessions that count as streams, with the tenants that they are counted for."""
        self._away: dict[SessionId, None] = {}
        """The sessions whose clients are away."""

    def owner(self, session: SessionId) -> str | None:
        """The tenant of a session; None if nobody who came through the front end opened it."""
        return self.owners.tenant(session)

    # --- what calls do ----------------------------------------------------------------------------------------------

    def begin(self, request: Open) -> bytes:
        """The present call opens a session; returns the token that resumes it. QuotaUsed if its tenant may not."""
        call = current_call()
        tenant, prompts = call.caller.tenant, 1 + len(request.cues)
        self.ledger.open(tenant, self.access.quota(tenant), prompts, self.access.now_s())
        call.session, call.forks = request.session, request.fork is not None
        self._calls[request.session], self._streams[request.session] = call, tenant
        return self.owners.add(request.session, tenant)

    def take_in(self, session: SessionId, tenant: str) -> bytes:
        """The present call brings a session of a tenant, or, if there is none of that name, of the caller's own.

        Returns the token that resumes it. QuotaUsed if the tenant may not have it.
        """
        tenant = tenant if self.access.knows(tenant) else current_call().caller.tenant
        self.ledger.open(tenant, self.access.quota(tenant), 0, self.access.now_s())
        self._streams[session] = tenant
        return self.owners.add(session, tenant)

    def resume(self, token: bytes, cursor: int | None) -> tuple[SessionId, bytes]:
        """The session that the present call may go on with, and its next token; UnknownToken if there is none."""
        return self.owners.resume(token, current_call().caller.tenant, cursor)

    def arrive(self, connection: ConnectionNumber) -> None:
        """The present call is about to go on with a session."""
        self._arrivals[connection] = current_call()

    def cue(self) -> None:
        """The present call asks for another prompt; QuotaUsed if its tenant may not."""
        tenant = current_call().caller.tenant
        try:
            self.ledger.ask(tenant, self.access.quota(tenant), 1, self.access.now_s())
        except QuotaUsed as error:
            self.refused(current_call(), "cue", error)
            raise

    def sent(self, call: Call, count_bytes: int) -> None:
        """Charge the bytes that go to the caller."""
        self.ledger.charge_bytes(call.caller.tenant, count_bytes, self.access.now_s())

    def objection(self, call: Call) -> LongtakeError | None:
        """Why a stream of answers may not begin or go on; None if it may."""
        if not self.access.holds(call.caller):
            return NotAuthenticated("expired", EXPIRED)
        tenant = call.caller.tenant
        return self.ledger.used_up(tenant, self.access.quota(tenant), self.access.now_s())

    def left_behind(self) -> list[tuple[SessionId, Call]]:
        """The sessions whose clients are away and could not come back: what they showed does not hold any more."""
        away = [(session, self._calls[session]) for session in self._away]
        return [(session, call) for session, call in away if not self.access.holds(call.caller)]

    def refused(self, call: Call, action: str, error: LongtakeError) -> None:
        """Note that a call of a known caller was refused something."""
        self.audit.refused(_entry(call, action, outcome=_outcome(error.problem), session=call.session))

    def note_end(self, call: Call, error: LongtakeError) -> None:
        """Note that a stream is made to end."""
        self.audit.write(_entry(call, "end", outcome=_outcome(error.problem), session=call.session))

    def refresh(self) -> None:
        """Read the tenants file again if it has changed."""
        tenants = self.access.refresh()
        if tenants is not None:
            self.ledger.keep(tenants)

    # --- what the engine did ----------------------------------------------------------------------------------------

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """Take note of device time, and of what callers achieved."""
        if isinstance(event, FrameRefused):  # what is worth a line was noted when the call asked
            return
        if isinstance(event, Pause | Play) and not any(isinstance(effect, RequestRefused) for effect in effects):
            self._note(event.session, type(event).__name__.lower())
        if isinstance(event, Ack):
            self.owners.acknowledged(event.session, event.segment)
        for effect in effects:
            self._take(effect, event.now_s)

    def _take(self, effect: Effect, now_s: float) -> None:
        match effect:
            case Worked():
                self._charge(effect)
            case Opened():
                self._note(effect.session, _opening(self._calls.get(effect.session)))
            case CueAccepted():
                self._note(effect.session, "cue")
            case RequestRefused(cue=cue):
                action = "request" if cue is None else "cue"
                self._note(effect.session, action, outcome=_outcome(effect.problem))
            case Refused():
                action = _opening(self._calls.get(effect.session))
                self._note(effect.session, action, outcome=_outcome(effect.problem))
                self._ended(effect.session)
                self.owners.forget(effect.session)
            case ClientAway():
                self._note(effect.session, "detached")
                self._away[effect.session] = None
            case Resumed():
                self._resumed(effect)
            case AttachRefused():
                call = self._arrivals.pop(effect.connection, None)
                if call is not None:
                    outcome = _outcome(effect.problem)
                    self.audit.refused(_entry(call, "resume", session=effect.session, outcome=outcome))
            case Closed() | DropJournal() | Adopted() | AdoptFailed():
                self._come_or_gone(effect, now_s)
            case _:
                pass

    def _come_or_gone(self, effect: Closed | DropJournal | Adopted | AdoptFailed, now_s: float) -> None:
        match effect:
            case Closed():
                self._note(effect.session, "closed", detail=effect.ending.value)
                if effect.ending is Ending.MOVED:
                    self.owners.moved(effect.session)
                self._ended(effect.session)
            case DropJournal():
                self.owners.ended(effect.session, now_s)
            case Adopted():
                self._adopted(effect.session)
            case AdoptFailed():
                self._ended(effect.session)
                self.owners.forget(effect.session)

    def _resumed(self, effect: Resumed) -> None:
        call, before = self._arrivals.pop(effect.connection, None), self._calls.get(effect.session)
        self._away.pop(effect.session, None)
        if call is None:
            return
        if before is not None:  # whatever becomes of that call now, the session is not its any more
            before.session = None
        call.session = effect.session
        self._calls[effect.session] = call
        self._note(effect.session, "resume")

    def _ended(self, session: SessionId) -> None:
        self._away.pop(session, None)
        self._calls.pop(session, None)
        tenant = self._streams.pop(session, None)
        if tenant is not None:
            self.ledger.close(tenant)

    def _adopted(self, session: SessionId) -> None:
        """A stream of the server before counts here, too."""
        tenant = self.owners.tenant(session)
        if tenant is not None and session not in self._streams:
            self.ledger.take_over(tenant, self.access.now_s())
            self._streams[session] = tenant

    def _charge(self, fact: Worked) -> None:
        """Charge the time of a dispatch, which its ops share equally."""
        if not fact.seconds:
            return
        now_s = self.access.now_s()
        for ticket in fact.ops:
            tenant = self.owner(ticket.session)
            if tenant is not None:
                self.ledger.charge_device(tenant, fact.seconds / fact.batch, now_s)

    def _note(self, session: SessionId, action: str, *, outcome: str = "OK", detail: str = "") -> None:
        call = self._calls.get(session)
        if call is not None:
            self.audit.write(_entry(call, action, session=session, outcome=outcome, detail=detail))


def _entry(call: Call, action: str, *, session: SessionId | None, outcome: str = "OK", detail: str = "") -> Entry:
    return Entry(
        caller=call.caller,
        peer=call.peer,
        method=call.method,
        action=action,
        session=session or "",
        outcome=outcome,
        detail=detail,
    )


def _opening(call: Call | None) -> str:
    return "fork" if call is not None and call.forks else "open"


def _outcome(problem: Problem) -> str:
    return STATUSES[problem.kind].name
