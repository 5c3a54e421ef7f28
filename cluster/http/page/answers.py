"""What a browser is told, as JSON: events of a stream, sessions, the model, and what went wrong in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import grpc

from cluster.http.page.frames import WrongFrame
from longtake.client.endings import in_words
from longtake.client.errors import ClientError
from longtake.client.events import (
    ClosedEvent,
    CueAcceptedEvent,
    CueAppliedEvent,
    CueSupersededEvent,
    MovedEvent,
    NoticeEvent,
    OpenedEvent,
    Reading,
    ReconnectingEvent,
    RecoveredEvent,
    RequestRefusedEvent,
    ResumedEvent,
    RetryingEvent,
    SegmentEvent,
    SkippedEvent,
    StreamEvent,
)
from longtake.core.errors import InvalidField, InvalidFields
from longtake.v1 import longtake_pb2 as pb

Json = Mapping[str, object]

HTTP_STATUSES: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}
"""The HTTP status for each of these; all others are 500."""
_CODES = {int(code.value[0]): code.name for code in grpc.StatusCode}
WAITING: Mapping[pb.Hold, str] = {
    pb.HOLD_DETACHED: "Whoever this stream belongs to is away. It waits, and goes on when they come back.",
    pb.HOLD_PAUSE: "Whoever this stream belongs to has paused it.",
    pb.HOLD_DRAIN: "The server shuts down.",
    pb.HOLD_PLACE: "The stream waits for a place.",
}
"""Why an observer may wait for long, and what of it counts most."""


def waiting_sentence(session: pb.Session) -> str:
    """Why nothing comes of a stream for now; empty if that is nothing to speak of."""
    return next((text for hold, text in WAITING.items() if hold in session.holds), "")


def event_message(event: StreamEvent, *, watching: bool = False) -> Json:
    """What is told of an event, to who only watches or to who began the stream.

    The bytes of a header or a segment follow in a message of their own.
    """
    match event:
        case OpenedEvent():
            return _opened(event)
        case SegmentEvent():
            return {
                "type": "segment",
                "index": event.index,
                "start_s": float(event.start_s),
                "duration_s": float(event.duration_s),
                "prompt_version": event.prompt_version,
                "shot": event.shot,
            }
        case CueAcceptedEvent() | CueAppliedEvent():
            kind = "cue_accepted" if isinstance(event, CueAcceptedEvent) else "cue_applied"
            return {
                "type": kind, "id": event.cue_id, "block": event.block, "start_s": float(event.start_s),
                "prompt": event.prompt, "reading": _reading(event.reading),
            }  # fmt: skip
        case CueSupersededEvent():
            return {"type": "cue_superseded", "id": event.cue_id, "by": event.by_cue_id, "block": event.block}
        case RequestRefusedEvent():
            return _refused(event)
        case NoticeEvent() | RetryingEvent() | ReconnectingEvent() | MovedEvent():
            return {"type": "notice", "text": event.text}
        case RecoveredEvent():
            return {"type": "recovered", "text": event.text}
        case ResumedEvent():
            return {"type": "resumed", "text": event.text, "resume_token": event.resume_token.hex()}
        case SkippedEvent():
            return {"type": "skipped", "first": event.first, "count": event.count}
        case ClosedEvent():
            return {
                "type": "closed", "ending": event.ending, "reason": event.reason,
                "sentence": _as_sentence(in_words(event, watching=watching)), "segments": event.segments,
            }  # fmt: skip


def _as_sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:].removesuffix('.')}."


def _opened(event: OpenedEvent) -> Json:
    return {
        "type": "opened",
        "session_id": event.session_id,
        "seed": str(event.seed),
        "media_type": event.media_type,
        "width": event.width,
        "height": event.height,
        "fps": float(event.fps),
        "window": event.window,
        "pictures": event.pictures,
        "segment": event.segment,
        "continuity": event.continuity,
        "resume_token": event.resume_token.hex(),
        "recipe": event.recipe,
        "prompt": event.prompt,
        "reading": _reading(event.reading),
    }


def _reading(reading: Reading | None) -> Json | None:
    return None if reading is None else asdict(reading)


def _refused(event: RequestRefusedEvent) -> Json:
    return {
        "type": "refused",
        "id": event.cue_id,
        "code": _CODES.get(event.code, "UNKNOWN"),
        "sentence": event.message,
        "field": event.field,
        "earliest_block": event.earliest_block,
    }


def ops_message(spans: Sequence[pb.OpSpan]) -> Json:
    """Ops that are done."""
    return {"type": "ops", "ops": [_op(span) for span in spans]}


def _op(span: pb.OpSpan) -> Json:
    return {
        "kind": _word(pb.OpKind.Name(span.kind)),
        "step": span.step,
        "block": span.block,
        "worker": span.worker_id,
        "batch": span.batch,
        "dispatched_at_s": span.dispatched_at_s,
        "done_at_s": span.done_at_s,
        "seconds": span.seconds,
    }


def error_message(error: ClientError) -> Json:
    """What went wrong, in one sentence that names the field and what is allowed."""
    violations = "; ".join(f"{violation.field}: {violation.description}" for violation in error.violations)
    least = error.facts.get("least")
    return {
        "type": "error", "code": error.code.name, "sentence": violations or error.message,
        "retry_after_s": error.retry_after_s, "fast_instead": error.facts.get("fast_instead") == "true",
        "least": None if least is None else int(least),
    }  # fmt: skip


def refused_frame(error: WrongFrame) -> Json:
    """A later frame with fields that the service would not understand; the stream goes on."""
    return {
        "type": "refused",
        "id": error.id,
        "code": grpc.StatusCode.INVALID_ARGUMENT.name,
        "sentence": str(error),
        "field": error.field,
        "earliest_block": None,
    }


def invalid_message(error: InvalidField | InvalidFields) -> Json:
    """The same message for a frame that did not get as far as the service."""
    return {"type": "error", "code": grpc.StatusCode.INVALID_ARGUMENT.name, "sentence": str(error)}


def session_json(session: pb.Session) -> Json:
    """An open session."""
    return {
        "session_id": session.session_id,
        "state": _word(pb.SessionState.Name(session.state)),
        "prompt": session.current_prompt,
        "seed": str(session.seed),
        "pace": _word(pb.Pace.Name(session.pace)),
        "window": session.window,
        "blocks_begun": session.blocks_begun,
        "segments_sent": session.segments_sent,
        "segments_acknowledged": session.segments_acknowledged,
        "cues_pending": session.cues_pending,
        "tenant": session.tenant,
        "slack_s": session.slack_s if session.HasField("slack_s") else None,
        "pictures_sent": session.pictures_sent,
        "age_s": session.age_s,
        "attached": session.attached,
        "waiting": waiting_sentence(session),
    }


def model_json(model: pb.GetModelResponse) -> Json:
    """What is served, as far as a page shows it."""
    video, limits = model.video, model.limits
    return {
        "name": model.name,
        "width": video.width,
        "height": video.height,
        "fps": video.fps_numerator / video.fps_denominator,
        "first_block_pictures": model.first_block_pictures,
        "block_pictures": model.block_pictures,
        "steps": list(model.recipe.steps),
        "level": _word(pb.Level.Name(model.recipe.level)),
        "recipes": [_recipe(each) for each in model.recipes],
        "prompt_help": model.prompt_help,
        "vocabulary": [{"name": group.name, "words": list(group.words)} for group in model.vocabulary],
        "max_prompt_bytes": limits.max_prompt_bytes,
        "max_window": limits.max_window,
        "max_sessions": limits.max_sessions,
    }


def _recipe(named: pb.NamedRecipe) -> Json:
    """A recipe that the page can offer, and what its timeline must know of it."""
    return {
        "name": named.name,
        "help": named.help,
        "proven": named.proven,
        "relative_cost": named.relative_cost,
        "latency_s": named.latency_s,
        "steps": list(named.recipe.steps),
        "level": _word(pb.Level.Name(named.recipe.level)),
        "cut": named.recipe.cut,
        "max_given_pictures": named.max_given_pictures,
        "reference_frames": named.recipe.reference_frames,
        "first_block_pictures": named.first_block_pictures,
        "block_pictures": named.block_pictures,
    }


def _word(constant: str) -> str:
    """The last word of a constant's name, for instance `running` of SESSION_STATE_RUNNING."""
    return constant.rsplit("_", 1)[-1].lower()
