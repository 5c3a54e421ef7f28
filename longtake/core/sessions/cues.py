"""Cues: from the wish for another prompt to the block that takes it."""

from __future__ import annotations

from dataclasses import replace

from longtake.core.effects import CueAccepted, CueSuperseded, Effect, Forget, Notice, RequestRefused
from longtake.core.errors import CallerFault, InvalidField
from longtake.core.events import CueRequest, TextEncoded
from longtake.core.limits import Limits
from longtake.core.sessions import scenes
from longtake.core.sessions.place import NOWHERE
from longtake.core.sessions.session import Session
from longtake.core.work import ConditioningRef, CueId

TextsWanted = dict[ConditioningRef, str]
"""Prompts whose texts are not known, by what is to be made of each."""


def ask(session: Session, request: CueRequest, limits: Limits) -> TextsWanted:
    """Note a cue; its text is wanted if the session has a slot. CallerFault if the cue comes too late."""
    if session.cues_pending >= limits.max_pending_cues:
        raise InvalidField("cue", session.cues_pending + 1, f"at most {limits.max_pending_cues} cues not yet shown")
    block = session.target_block(request)  # refuse at once what is already too late
    scenes.check_back(session, session.graph.recipe.cues.of(request.change), block)
    version = note(session, request)
    has_slot = session.place is not NOWHERE and not session.place.has_lost_slot
    return {_ref(session, version): request.prompt} if has_slot else {}


def note(session: Session, request: CueRequest) -> int:
    """Note a cue that waits for its text; returns its version. InvalidField if the recipe cannot do what it asks."""
    change = session.graph.recipe.cues.of(request.change)
    return session.prompts.ask(replace(request, change=change))


def repeated(session: Session, request: CueRequest) -> list[Effect] | None:
    """The answer to a cue that was asked for before, so that nothing changes; None if it is a new one.

    While it waits for its text it will be answered anyway.
    """
    if session.prompts.is_waiting(request):
        return []
    turn = session.prompts.answer_to(request)
    return None if turn is None else [_accepted(session, request.cue, turn.block, turn.prompt)]


def unknown(session: Session) -> TextsWanted:
    """Every prompt whose text is not known: those in use, and those of cues that wait for it."""
    texts = session.prompt_texts()
    return {_ref(session, version): texts[version] for version in sorted(texts.keys() - session.prompts.encoded)}


def _ref(session: Session, version: int) -> ConditioningRef:
    return ConditioningRef(session=session.id, version=version)


def text_encoded(session: Session, event: TextEncoded) -> list[Effect]:
    """Note that a text is known; a cue that waited for it takes its block.

    Cues that came with Open take theirs when all of them are known, so that none can come too late; those of a frozen
    session when it is thawed.
    """
    version = event.conditioning.version
    session.prompts.encoded.add(version)
    opening = not session.is_opened
    if not opening and version not in session.prompts.waiting:
        return []  # it was known before the session was parked
    effects: list[Effect] = [Notice(session=session.id, text=event.notice)] if event.notice else []
    return effects if opening or session.is_frozen else effects + accept(session, version)


def thaw(session: Session) -> list[Effect]:
    """The session is frozen no more: give the cues whose texts became known meanwhile their blocks, in order."""
    session.is_frozen = False
    known = sorted(session.prompts.waiting.keys() & session.prompts.encoded)
    return [effect for version in known for effect in accept(session, version)]


def accept(session: Session, version: int) -> list[Effect]:
    """Give a cue its block, or say why it cannot have it."""
    request = session.prompts.waiting[version]
    try:
        block = session.target_block(request)
        scenes.check_back(session, request.change, block)
    except CallerFault as error:
        del session.prompts.waiting[version]
        return [RequestRefused(session=session.id, cue=request.cue, problem=error.problem)]
    earlier = session.prompts.take(version, block=block)
    session.story.retell(session.graph.shots, session.prompts.turns, block)
    effects: list[Effect] = [_accepted(session, request.cue, block, request.prompt)]
    if earlier is not None and earlier.cue is not None:
        effects.append(CueSuperseded(session=session.id, cue=earlier.cue, by=request.cue, block=block))
    return effects


def told_again(session: Session, segment: int) -> list[Effect]:
    """What was said of cues that are in effect from `segment` on or later, to a client that may not have heard it."""
    turns = (turn for turn in session.prompts.turns if turn.block >= segment)
    return [_accepted(session, turn.cue, turn.block, turn.prompt) for turn in turns if turn.cue is not None]


def _accepted(session: Session, cue: CueId, block: int, prompt: str) -> CueAccepted:
    picture = session.geometry.first_picture(block)
    shot = session.story.at(block)
    number = shot.number if block and shot.first == block else None
    return CueAccepted(session=session.id, cue=cue, block=block, first_picture=picture, prompt=prompt, shot=number)


def forget(session: Session) -> list[Effect]:
    """Have the workers drop the texts that they need no more; the journal keeps them for as long as its latents."""
    stale = session.prompts.unread_before(session.progress.oldest_block)
    return [Forget(worker=worker, session=session.id, version=version) for worker, version in stale]
