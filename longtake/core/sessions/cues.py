"""Cues: from the wish for another prompt to the first segment that shows it."""

from __future__ import annotations

from longtake.core.effects import (
    CueAccepted,
    CueApplied,
    CueSuperseded,
    Effect,
    Emit,
    EncodeText,
    Forget,
    Notice,
    RequestRefused,
)
from longtake.core.errors import CallerFault, InvalidField
from longtake.core.events import Cue, CueRequest, Event, TextEncoded
from longtake.core.limits import Limits
from longtake.core.recipe.graph import Kind, Op
from longtake.core.sessions.session import NOWHERE, Session, State
from longtake.core.work import ConditioningRef, CueId


def cue_of(event: Event) -> CueId | None:
    """The cue that an event asks for, if it does."""
    return event.request.cue if isinstance(event, Cue) else None


def ask(session: Session, request: CueRequest, limits: Limits) -> list[Effect]:
    """Have the text of a cue encoded, when the session has a place; CallerFault if the cue cannot be any more."""
    if session.timeline.pending_count >= limits.max_pending_cues:
        raise InvalidField(
            "cue", session.timeline.pending_count + 1, f"at most {limits.max_pending_cues} cues not yet shown"
        )
    session.target_block(request)  # refuse at once what is already too late
    version = session.timeline.ask(request)
    return [] if session.place is NOWHERE else [_encode(session, version, request.prompt)]


def encode(session: Session) -> list[Effect]:
    """Have every prompt encoded whose text is not known: those in use, and those of cues that wait for it."""
    prompts = session.prompts()
    return [_encode(session, version, prompts[version]) for version in sorted(prompts.keys() - session.encoded)]


def _encode(session: Session, version: int, prompt: str) -> EncodeText:
    ref = ConditioningRef(session=session.id, version=version)
    return EncodeText(worker=session.place.decoder, conditioning=ref, prompt=prompt)


def text_encoded(session: Session, event: TextEncoded) -> list[Effect]:
    """Note that a text is known; a cue that waited for it takes its block.

    Cues that came with Open take theirs when all of them are known, so that none can come too late.
    """
    version = event.conditioning.version
    session.encoded.add(version)
    opening = session.state is State.OPENING
    if not opening and version not in session.timeline.waiting:
        return []  # it was known before the session was parked
    effects: list[Effect] = [Notice(session=session.id, text=event.notice)] if event.notice else []
    return effects if opening else effects + accept(session, version)


def accept(session: Session, version: int) -> list[Effect]:
    """Give a cue its block, or say why it cannot have it."""
    request = session.timeline.waiting[version]
    try:
        block = session.target_block(request)
    except CallerFault as error:
        del session.timeline.waiting[version]
        return [RequestRefused(session=session.id, cue=request.cue, error=error)]
    effects: list[Effect] = [CueAccepted(session=session.id, cue=request.cue, block=block)]
    earlier = session.timeline.take(version, block=block)
    if earlier is not None and earlier.cue is not None:
        effects.append(CueSuperseded(session=session.id, cue=earlier.cue, by=request.cue, block=block))
    return effects


def shown(session: Session, block: int, *, now_s: float) -> list[Effect]:
    """The segment of `block` leaves; before it, the receipt of a cue that it is the first to show."""
    geometry = session.geometry
    slack_s = session.flow.slack_s(block, now_s=now_s, geometry=geometry)
    session.flow = session.flow.played(block, now_s=now_s, geometry=geometry)
    turn = session.timeline.turn_at(block)
    emit = Emit(
        session=session.id,
        block=block,
        first_picture=geometry.first_picture(block),
        picture_count=session.picture_count(block),
        prompt_version=turn.version,
        slack_s=slack_s,
    )
    if turn.block == block and turn.cue is not None:
        return [CueApplied(session=session.id, cue=turn.cue, block=block), emit]
    return [emit]


def op_done(session: Session, op: Op, *, now_s: float) -> list[Effect]:
    """An op of the session is done: its segment leaves, and prompts that nothing reads any more are dropped."""
    session.done[op.kind, op.step] += 1
    effects = shown(session, op.block, now_s=now_s) if op.kind is Kind.DECODE else []
    for version in session.forget_prompts():
        session.encoded.discard(version)
        session.conditioned -= {(worker, version) for worker in session.place.workers}
        effects += [Forget(worker=worker, session=session.id, version=version) for worker in session.place.workers]
    return effects
