"""From what the core tells a client to frames on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cluster.cell.outbox import ClientMessage, Moved, MovedAway, SegmentOut
from cluster.frontend.offer import CODECS, DECODERS, Offer
from cluster.frontend.requests import PACES
from cluster.net.statuses import STATUSES, number_of
from longtake.core.effects import (
    Closed,
    CueAccepted,
    CueApplied,
    CueSuperseded,
    Notice,
    Recovered,
    Refused,
    RequestRefused,
)
from longtake.core.endings import Ending
from longtake.core.errors import Declined, InternalFault, Missed, WrongValue
from longtake.core.fleet.worker import WorkerView
from longtake.core.flow import Pace
from longtake.core.openings import Opened
from longtake.core.recipe.context import Level
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions.holds import Hold
from longtake.core.sessions.life import State
from longtake.core.sessions.views import SessionView
from longtake.core.work import Continuity, DecoderKind, Role
from longtake.v1 import longtake_pb2 as pb

MOVED = "another call goes on with the session"
FRAME_OVERHEAD_BYTES = 1024
"""More than all fields of a Segment beside its data take."""

WIRE_PACES: dict[Pace, pb.Pace] = {pace: number for number, pace in PACES.items() if number != pb.PACE_UNSPECIFIED}
WIRE_ENDINGS: dict[Ending, pb.Ending] = {
    Ending.COMPLETED: pb.ENDING_COMPLETED,
    Ending.CLIENT: pb.ENDING_CLIENT,
    Ending.OPERATOR: pb.ENDING_OPERATOR,
    Ending.DRAINED: pb.ENDING_DRAINED,
    Ending.LOST: pb.ENDING_LOST,
    Ending.FAILED: pb.ENDING_FAILED,
    Ending.ACCESS: pb.ENDING_ACCESS,
    Ending.QUOTA: pb.ENDING_QUOTA,
    Ending.ABANDONED: pb.ENDING_ABANDONED,
    Ending.MOVED: pb.ENDING_MOVED,
    Ending.ORPHANED: pb.ENDING_ORPHANED,
}
WIRE_CONTINUITIES: dict[Continuity, pb.Continuity] = {
    Continuity.EXACT: pb.CONTINUITY_EXACT,
    Continuity.APPROXIMATE: pb.CONTINUITY_APPROXIMATE,
    Continuity.RESTARTED: pb.CONTINUITY_RESTARTED,
}
WIRE_STATES: dict[State, pb.SessionState] = {
    State.QUEUED: pb.SESSION_STATE_QUEUED,
    State.OPENING: pb.SESSION_STATE_OPENING,
    State.RUNNING: pb.SESSION_STATE_RUNNING,
    State.PAUSED: pb.SESSION_STATE_PAUSED,
    State.PARKING: pb.SESSION_STATE_PARKED,
    State.PARKED: pb.SESSION_STATE_PARKED,
    State.RESTORING: pb.SESSION_STATE_RESTORING,
    State.FINISHING: pb.SESSION_STATE_FINISHING,
    State.CLOSING: pb.SESSION_STATE_CLOSING,
    State.CLOSED: pb.SESSION_STATE_CLOSING,
}
WIRE_HOLDS: dict[Hold, pb.Hold] = {
    Hold.MOVING: pb.HOLD_MOVING,
    Hold.SHARING: pb.HOLD_SHARING,
    Hold.PLACE: pb.HOLD_PLACE,
    Hold.CONDITION: pb.HOLD_CONDITION,
    Hold.RESTORING: pb.HOLD_RESTORING,
    Hold.PAUSE: pb.HOLD_PAUSE,
    Hold.DRAIN: pb.HOLD_DRAIN,
    Hold.CREDIT: pb.HOLD_CREDIT,
    Hold.PLAYBACK: pb.HOLD_PLAYBACK,
    Hold.DETACHED: pb.HOLD_DETACHED,
}
WIRE_ROLES: dict[Role, pb.WorkerRole] = {
    Role.DENOISE: pb.WORKER_ROLE_DENOISE,
    Role.DECODE: pb.WORKER_ROLE_DECODE,
    Role.TEXT: pb.WORKER_ROLE_TEXT,
}
WIRE_DECODERS: dict[DecoderKind, pb.Decoder] = {decoder: number for number, decoder in DECODERS.items()}
_CUE_RULES: dict[CueRule, pb.CueRule] = {
    CueRule.SWAP: pb.CUE_RULE_SWAP,
    CueRule.WINDOW: pb.CUE_RULE_RECACHE_WINDOW,
    CueRule.JOINT: pb.CUE_RULE_RECACHE_JOINT,
    CueRule.FULL: pb.CUE_RULE_RECACHE_FULL,
}
WIRE_LEVELS: dict[Level, pb.Level] = {
    Level.CLEAN: pb.LEVEL_CLEAN,
    Level.OUTPUT: pb.LEVEL_OUTPUT,
    Level.INPUT: pb.LEVEL_INPUT,
    Level.STAGGERED: pb.LEVEL_STAGGERED,
}


class Speaker:
    """Puts the messages of one session into frames."""

    def __init__(self, offer: Offer, resume_token: bytes = b"") -> None:
        """`resume_token` is what the session's own client is told that it can go on with."""
        self._offer = offer
        self._resume_token = resume_token
        self._part_bytes = offer.wire.max_message_bytes - FRAME_OVERHEAD_BYTES

    def stream_frames(self, message: ClientMessage) -> Iterator[pb.StreamResponse]:
        """The frames for the session's own client; a segment may need several."""
        match message:
            case Opened():
                yield pb.StreamResponse(opened=self._granted(message))
            case SegmentOut():
                for part in self._parts(message):
                    yield pb.StreamResponse(segment=part)
            case CueAccepted():
                yield pb.StreamResponse(cue_accepted=self._accepted(message))
            case CueApplied():
                yield pb.StreamResponse(cue_applied=self._applied(message))
            case CueSuperseded(cue=cue, by=by, block=block):
                yield pb.StreamResponse(cue_superseded=pb.CueSuperseded(cue_id=cue, by_cue_id=by, block=block))
            case RequestRefused():
                yield pb.StreamResponse(request_refused=_refused(message))
            case Recovered():
                yield pb.StreamResponse(recovered=_recovered(message))
            case Notice(text=text):
                yield pb.StreamResponse(notice=pb.Notice(text=text))
            case Closed() | Moved() | MovedAway():
                yield from _last(message)
            case Refused(problem=problem):
                raise Declined(problem)

    def watch_frames(self, message: ClientMessage) -> Iterator[pb.WatchResponse]:
        """The frames for an observer, who is not told what its client and the server negotiate."""
        match message:
            case Opened():
                yield pb.WatchResponse(opened=self._opened(message))
            case SegmentOut():
                for part in self._parts(message):
                    yield pb.WatchResponse(segment=part)
            case CueApplied():
                yield pb.WatchResponse(cue_applied=self._applied(message))
            case Recovered():
                yield pb.WatchResponse(recovered=_recovered(message))
            case Notice(text=text):
                yield pb.WatchResponse(notice=pb.Notice(text=text))
            case Closed():
                yield from (pb.WatchResponse(closed=closed) for closed in _closed(message))
            case Refused(problem=problem):
                raise Declined(problem)
            case CueAccepted() | CueSuperseded() | RequestRefused() | Moved() | MovedAway():
                return

    def _granted(self, message: Opened) -> pb.Opened:
        """With what only the session's own client is told."""
        opened = self._opened(message)
        opened.resume_token = self._resume_token
        opened.segment = message.segment
        opened.continuity = WIRE_CONTINUITIES[message.continuity]
        if message.picture_limit is not None:
            opened.pictures = message.picture_limit
        return opened

    def _opened(self, message: Opened) -> pb.Opened:
        recipe = self._offer.recipe_named(message.recipe)
        return pb.Opened(
            session_id=message.session,
            seed=message.seed,
            recipe=recipe.name,
            recipe_digest=recipe.recipe.digest,
            header=message.header,
            media_type=message.media_type,
            video=_video(self._offer),
            window=message.window,
            timescale=self._offer.geometry.fps.numerator,
            pace=WIRE_PACES[message.pace],
            decoder=WIRE_DECODERS[message.decoder],
            prompt=message.prompt,
            reading=self._reading(message.prompt),
            given_segments=message.given_segments,
        )

    def _parts(self, message: SegmentOut) -> Iterator[pb.Segment]:
        emit, data = message.emit, message.data
        if not data:
            raise InternalFault(f"segment {emit.block} is empty")
        tick = self._offer.geometry.fps.denominator
        starts = range(0, len(data), self._part_bytes)
        for part, start in enumerate(starts):
            yield pb.Segment(
                index=emit.block,
                first_picture=emit.first_picture,
                picture_count=emit.picture_count,
                pts_ticks=emit.first_picture * tick,
                duration_ticks=emit.picture_count * tick,
                prompt_version=emit.prompt_version,
                part=part,
                part_count=len(starts),
                data=data[start : start + self._part_bytes],
                keyframe=True,
                steps=emit.steps,
                shot=emit.shot,
            )

    def _accepted(self, message: CueAccepted) -> pb.CueAccepted:
        return pb.CueAccepted(
            cue_id=message.cue, block=message.block, pts_ticks=self._ticks(message.first_picture),
            prompt=message.prompt, reading=self._reading(message.prompt), shot=message.shot,
        )  # fmt: skip

    def _applied(self, message: CueApplied) -> pb.CueApplied:
        return pb.CueApplied(
            cue_id=message.cue, block=message.block, pts_ticks=self._ticks(message.first_picture),
            prompt=message.prompt, reading=self._reading(message.prompt),
        )  # fmt: skip

    def _reading(self, prompt: str) -> pb.PromptReading | None:
        """What the model takes a prompt for that was let in."""
        found = self._offer.read_prompt(prompt)
        if found is None:
            return None
        return pb.PromptReading(understood=found.understood, ignored=found.ignored, defaulted=found.defaulted)

    def _ticks(self, picture: int) -> int:
        return picture * self._offer.geometry.fps.denominator


def recipe_message(recipe: Recipe) -> pb.Recipe:
    """A recipe as the protocol shows it."""
    return pb.Recipe(
        digest=recipe.digest,
        steps=recipe.steps.ladder,
        shift=recipe.steps.shift,
        level=WIRE_LEVELS[recipe.level],
        frames_per_block=recipe.blocks.frames,
        window_frames=recipe.window_frames or 0,
        sink_frames=recipe.sink_frames,
        first_frames=recipe.blocks.first_frames or 0,
        commit_step=recipe.context.commit_step,
        commit_label=recipe.context.commit_label,
        lag=recipe.context.lag,
        both_ways=recipe.context.both_ways,
        usual_steps=recipe.steps.usual,
        first_steps=recipe.steps.first,
        first_blocks=recipe.steps.first_blocks,
        shed=[pb.StepList(steps=entries) for entries in recipe.steps.shed],
        cue_rule=_CUE_RULES[recipe.cues.change],
        keep_sinks=recipe.cues.keep_sinks,
        memory_frames=recipe.context.memory_frames,
        fold_frames=recipe.memory.fold_frames,
        cut=recipe.cues.cut,
        shot_frames=recipe.context.shot_frames,
        shot_offset=recipe.positions.shot_offset,
        reference_frames=recipe.context.reference_frames,
        reference_lead=recipe.positions.reference_lead,
        reference_stride=recipe.positions.reference_stride if recipe.positions.reference_lead else 0,
        slope=recipe.positions.slope,
    )


def model_response(offer: Offer, recipes: Iterable[pb.NamedRecipe] = ()) -> pb.GetModelResponse:
    """What GetModel answers; `recipes` are those of the offer, with what they cost now."""
    recipe, geometry, limits, wire = offer.recipe, offer.geometry, offer.limits, offer.wire
    return pb.GetModelResponse(
        name=offer.name,
        video=_video(offer),
        first_block_pictures=geometry.pictures(0),
        block_pictures=geometry.pictures(1),
        recipe=recipe_message(recipe),
        recipes=recipes,
        max_given_pictures=offer.max_given_pictures(""),
        prompt_help=offer.prompt_help,
        vocabulary=[pb.WordGroup(name=name, words=words) for name, words in offer.vocabulary.items()],
        codecs=[
            pb.CodecOption(
                codec=codec,
                min_quality=range_.min_quality,
                max_quality=range_.max_quality,
                default_quality=range_.default_quality,
            )
            for codec, range_ in CODECS.items()
        ],
        decoders=[WIRE_DECODERS[decoder] for decoder in offer.decoders],
        limits=pb.Limits(
            max_sessions=limits.max_sessions,
            max_watchers=wire.max_watchers,
            default_window=limits.default_window,
            max_window=limits.max_window,
            max_prompt_bytes=wire.max_prompt_bytes,
            max_cues=limits.max_pending_cues,
            max_message_bytes=wire.max_message_bytes,
            max_queued=limits.max_queued,
            detached_s=limits.detached_s,
        ),
    )


def session_message(view: SessionView) -> pb.Session:
    """An open session as the protocol shows it."""
    return pb.Session(
        session_id=view.session,
        state=WIRE_STATES[view.state],
        prompt=view.prompt,
        seed=view.seed,
        pace=WIRE_PACES[view.pace],
        window=view.window,
        blocks_begun=view.blocks_begun,
        segments_sent=view.segments_sent,
        segments_acknowledged=view.segments_acknowledged,
        cues_pending=view.cues_pending,
        holds=[WIRE_HOLDS[hold] for hold in view.holds],
        attached=view.attached,
        current_prompt=view.shown,
        current_prompt_block=view.shown_from,
    )


def worker_message(view: WorkerView) -> pb.Worker:
    """A worker as the protocol shows it."""
    return pb.Worker(
        worker_id=view.worker,
        role=WIRE_ROLES[view.role],
        capacity=view.ability.capacity,
        free=view.free,
        sessions=view.sessions,
        in_flight=view.in_flight,
        ready=view.ready,
        dispatched=view.dispatched,
        op_s=view.op_s,
        reserved=view.reserved,
        chain_length=view.ability.chain_length,
        numerics=view.ability.numerics,
    )


def _video(offer: Offer) -> pb.Video:
    geometry = offer.geometry
    return pb.Video(
        width=geometry.width,
        height=geometry.height,
        fps_numerator=geometry.fps.numerator,
        fps_denominator=geometry.fps.denominator,
    )


def _refused(message: RequestRefused) -> pb.RequestRefused:
    problem, about = message.problem, message.problem.about
    return pb.RequestRefused(
        code=number_of(STATUSES[problem.kind]),
        message=problem.message,
        field=about.field if isinstance(about, WrongValue) else "",
        allowed=about.allowed if isinstance(about, WrongValue) else "",
        cue_id=message.cue or "",
        earliest_block=about.earliest_block if isinstance(about, Missed) else None,
    )


def _recovered(message: Recovered) -> pb.Recovered:
    return pb.Recovered(
        continuity=WIRE_CONTINUITIES[message.continuity],
        segment=message.from_block,
        seconds=message.seconds,
    )


def _last(message: Closed | Moved | MovedAway) -> Iterator[pb.StreamResponse]:
    """What comes at the end of a call."""
    if isinstance(message, MovedAway):
        moved = pb.Moved(address=message.address, resume_token=message.token, session_id=message.name)
        yield pb.StreamResponse(moved=moved)
    else:
        yield from (pb.StreamResponse(closed=closed) for closed in _closed(message))


def _closed(message: Closed | Moved) -> tuple[pb.Closed, ...]:
    """The last frame; none if the session has not ended but was kept: then the call does as if it had broken."""
    if isinstance(message, Moved):
        return (pb.Closed(ending=pb.ENDING_MOVED, reason=MOVED, segments=message.segments),)
    if message.ending is Ending.KEPT:
        return ()
    return (pb.Closed(ending=WIRE_ENDINGS[message.ending], reason=message.reason, segments=message.segments),)
