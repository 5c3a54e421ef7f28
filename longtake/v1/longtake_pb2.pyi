import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Pace(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACE_UNSPECIFIED: _ClassVar[Pace]
    PACE_REALTIME: _ClassVar[Pace]
    PACE_FAST: _ClassVar[Pace]

class Codec(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODEC_UNSPECIFIED: _ClassVar[Codec]
    CODEC_H264: _ClassVar[Codec]
    CODEC_MJPEG: _ClassVar[Codec]
    CODEC_RAW: _ClassVar[Codec]

class Decoder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECODER_UNSPECIFIED: _ClassVar[Decoder]
    DECODER_FULL: _ClassVar[Decoder]
    DECODER_TINY: _ClassVar[Decoder]

class Ending(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENDING_UNSPECIFIED: _ClassVar[Ending]
    ENDING_COMPLETED: _ClassVar[Ending]
    ENDING_CLIENT: _ClassVar[Ending]
    ENDING_OPERATOR: _ClassVar[Ending]
    ENDING_DRAINED: _ClassVar[Ending]
    ENDING_LOST: _ClassVar[Ending]
    ENDING_FAILED: _ClassVar[Ending]
    ENDING_ACCESS: _ClassVar[Ending]
    ENDING_QUOTA: _ClassVar[Ending]
    ENDING_MOVED: _ClassVar[Ending]
    ENDING_ABANDONED: _ClassVar[Ending]
    ENDING_ORPHANED: _ClassVar[Ending]

class Continuity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTINUITY_UNSPECIFIED: _ClassVar[Continuity]
    CONTINUITY_EXACT: _ClassVar[Continuity]
    CONTINUITY_APPROXIMATE: _ClassVar[Continuity]
    CONTINUITY_RESTARTED: _ClassVar[Continuity]

class SessionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_STATE_UNSPECIFIED: _ClassVar[SessionState]
    SESSION_STATE_OPENING: _ClassVar[SessionState]
    SESSION_STATE_RUNNING: _ClassVar[SessionState]
    SESSION_STATE_PAUSED: _ClassVar[SessionState]
    SESSION_STATE_FINISHING: _ClassVar[SessionState]
    SESSION_STATE_CLOSING: _ClassVar[SessionState]
    SESSION_STATE_QUEUED: _ClassVar[SessionState]
    SESSION_STATE_PARKED: _ClassVar[SessionState]
    SESSION_STATE_RESTORING: _ClassVar[SessionState]

class Hold(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOLD_UNSPECIFIED: _ClassVar[Hold]
    HOLD_MOVING: _ClassVar[Hold]
    HOLD_SHARING: _ClassVar[Hold]
    HOLD_PLACE: _ClassVar[Hold]
    HOLD_CONDITION: _ClassVar[Hold]
    HOLD_RESTORING: _ClassVar[Hold]
    HOLD_PAUSE: _ClassVar[Hold]
    HOLD_DRAIN: _ClassVar[Hold]
    HOLD_CREDIT: _ClassVar[Hold]
    HOLD_PLAYBACK: _ClassVar[Hold]
    HOLD_DETACHED: _ClassVar[Hold]

class WorkerRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER_ROLE_UNSPECIFIED: _ClassVar[WorkerRole]
    WORKER_ROLE_DENOISE: _ClassVar[WorkerRole]
    WORKER_ROLE_DECODE: _ClassVar[WorkerRole]
    WORKER_ROLE_TEXT: _ClassVar[WorkerRole]

class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEVEL_UNSPECIFIED: _ClassVar[Level]
    LEVEL_CLEAN: _ClassVar[Level]
    LEVEL_OUTPUT: _ClassVar[Level]
    LEVEL_INPUT: _ClassVar[Level]
    LEVEL_STAGGERED: _ClassVar[Level]

class Change(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANGE_UNSPECIFIED: _ClassVar[Change]
    CHANGE_SWAP: _ClassVar[Change]
    CHANGE_RECACHE: _ClassVar[Change]
    CHANGE_CUT: _ClassVar[Change]

class CueRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CUE_RULE_UNSPECIFIED: _ClassVar[CueRule]
    CUE_RULE_SWAP: _ClassVar[CueRule]
    CUE_RULE_RECACHE_WINDOW: _ClassVar[CueRule]
    CUE_RULE_RECACHE_JOINT: _ClassVar[CueRule]
    CUE_RULE_RECACHE_FULL: _ClassVar[CueRule]

class OpKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OP_KIND_UNSPECIFIED: _ClassVar[OpKind]
    OP_KIND_DENOISE: _ClassVar[OpKind]
    OP_KIND_COMMIT: _ClassVar[OpKind]
    OP_KIND_DECODE: _ClassVar[OpKind]
PACE_UNSPECIFIED: Pace
PACE_REALTIME: Pace
PACE_FAST: Pace
CODEC_UNSPECIFIED: Codec
CODEC_H264: Codec
CODEC_MJPEG: Codec
CODEC_RAW: Codec
DECODER_UNSPECIFIED: Decoder
DECODER_FULL: Decoder
DECODER_TINY: Decoder
ENDING_UNSPECIFIED: Ending
ENDING_COMPLETED: Ending
ENDING_CLIENT: Ending
ENDING_OPERATOR: Ending
ENDING_DRAINED: Ending
ENDING_LOST: Ending
ENDING_FAILED: Ending
ENDING_ACCESS: Ending
ENDING_QUOTA: Ending
ENDING_MOVED: Ending
ENDING_ABANDONED: Ending
ENDING_ORPHANED: Ending
CONTINUITY_UNSPECIFIED: Continuity
CONTINUITY_EXACT: Continuity
CONTINUITY_APPROXIMATE: Continuity
CONTINUITY_RESTARTED: Continuity
SESSION_STATE_UNSPECIFIED: SessionState
SESSION_STATE_OPENING: SessionState
SESSION_STATE_RUNNING: SessionState
SESSION_STATE_PAUSED: SessionState
SESSION_STATE_FINISHING: SessionState
SESSION_STATE_CLOSING: SessionState
SESSION_STATE_QUEUED: SessionState
SESSION_STATE_PARKED: SessionState
SESSION_STATE_RESTORING: SessionState
HOLD_UNSPECIFIED: Hold
HOLD_MOVING: Hold
HOLD_SHARING: Hold
HOLD_PLACE: Hold
HOLD_CONDITION: Hold
HOLD_RESTORING: Hold
HOLD_PAUSE: Hold
HOLD_DRAIN: Hold
HOLD_CREDIT: Hold
HOLD_PLAYBACK: Hold
HOLD_DETACHED: Hold
WORKER_ROLE_UNSPECIFIED: WorkerRole
WORKER_ROLE_DENOISE: WorkerRole
WORKER_ROLE_DECODE: WorkerRole
WORKER_ROLE_TEXT: WorkerRole
LEVEL_UNSPECIFIED: Level
LEVEL_CLEAN: Level
LEVEL_OUTPUT: Level
LEVEL_INPUT: Level
LEVEL_STAGGERED: Level
CHANGE_UNSPECIFIED: Change
CHANGE_SWAP: Change
CHANGE_RECACHE: Change
CHANGE_CUT: Change
CUE_RULE_UNSPECIFIED: CueRule
CUE_RULE_SWAP: CueRule
CUE_RULE_RECACHE_WINDOW: CueRule
CUE_RULE_RECACHE_JOINT: CueRule
CUE_RULE_RECACHE_FULL: CueRule
OP_KIND_UNSPECIFIED: OpKind
OP_KIND_DENOISE: OpKind
OP_KIND_COMMIT: OpKind
OP_KIND_DECODE: OpKind

class StreamRequest(_message.Message):
    __slots__ = ("open", "cue", "ack", "pause", "play", "close")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CUE_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    PLAY_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    open: Open
    cue: Cue
    ack: Ack
    pause: Pause
    play: Play
    close: Close
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., cue: _Optional[_Union[Cue, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., pause: _Optional[_Union[Pause, _Mapping]] = ..., play: _Optional[_Union[Play, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("opened", "segment", "cue_accepted", "cue_applied", "cue_superseded", "notice", "request_refused", "closed", "recovered", "moved")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    CUE_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    CUE_APPLIED_FIELD_NUMBER: _ClassVar[int]
    CUE_SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_REFUSED_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    segment: Segment
    cue_accepted: CueAccepted
    cue_applied: CueApplied
    cue_superseded: CueSuperseded
    notice: Notice
    request_refused: RequestRefused
    closed: Closed
    recovered: Recovered
    moved: Moved
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., segment: _Optional[_Union[Segment, _Mapping]] = ..., cue_accepted: _Optional[_Union[CueAccepted, _Mapping]] = ..., cue_applied: _Optional[_Union[CueApplied, _Mapping]] = ..., cue_superseded: _Optional[_Union[CueSuperseded, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., request_refused: _Optional[_Union[RequestRefused, _Mapping]] = ..., closed: _Optional[_Union[Closed, _Mapping]] = ..., recovered: _Optional[_Union[Recovered, _Mapping]] = ..., moved: _Optional[_Union[Moved, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("prompt", "seed", "pace", "window", "pictures", "duration", "codec", "quality", "cues", "resume_token", "cursor", "fork", "decoder", "recipe", "given", "references")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    CUES_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    FORK_FIELD_NUMBER: _ClassVar[int]
    DECODER_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    seed: int
    pace: Pace
    window: int
    pictures: int
    duration: _duration_pb2.Duration
    codec: Codec
    quality: int
    cues: _containers.RepeatedCompositeFieldContainer[Cue]
    resume_token: bytes
    cursor: int
    fork: Fork
    decoder: Decoder
    recipe: str
    given: _containers.RepeatedScalarFieldContainer[bytes]
    references: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, prompt: _Optional[str] = ..., seed: _Optional[int] = ..., pace: _Optional[_Union[Pace, str]] = ..., window: _Optional[int] = ..., pictures: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., codec: _Optional[_Union[Codec, str]] = ..., quality: _Optional[int] = ..., cues: _Optional[_Iterable[_Union[Cue, _Mapping]]] = ..., resume_token: _Optional[bytes] = ..., cursor: _Optional[int] = ..., fork: _Optional[_Union[Fork, _Mapping]] = ..., decoder: _Optional[_Union[Decoder, str]] = ..., recipe: _Optional[str] = ..., given: _Optional[_Iterable[bytes]] = ..., references: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Fork(_message.Message):
    __slots__ = ("session_id", "block", "own_clock")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    OWN_CLOCK_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    block: int
    own_clock: bool
    def __init__(self, session_id: _Optional[str] = ..., block: _Optional[int] = ..., own_clock: _Optional[bool] = ...) -> None: ...

class Cue(_message.Message):
    __slots__ = ("id", "prompt", "block", "time", "change", "back_to_shot")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    BACK_TO_SHOT_FIELD_NUMBER: _ClassVar[int]
    id: str
    prompt: str
    block: int
    time: _duration_pb2.Duration
    change: Change
    back_to_shot: int
    def __init__(self, id: _Optional[str] = ..., prompt: _Optional[str] = ..., block: _Optional[int] = ..., time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., change: _Optional[_Union[Change, str]] = ..., back_to_shot: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("segment",)
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    segment: int
    def __init__(self, segment: _Optional[int] = ...) -> None: ...

class Pause(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Play(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Video(_message.Message):
    __slots__ = ("width", "height", "fps_numerator", "fps_denominator")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FPS_NUMERATOR_FIELD_NUMBER: _ClassVar[int]
    FPS_DENOMINATOR_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    fps_numerator: int
    fps_denominator: int
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., fps_numerator: _Optional[int] = ..., fps_denominator: _Optional[int] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("session_id", "seed", "recipe_digest", "header", "media_type", "video", "window", "timescale", "pace", "pictures", "decoder", "resume_token", "segment", "continuity", "prompt", "reading", "recipe", "given_segments")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    RECIPE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    TIMESCALE_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    DECODER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    CONTINUITY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    READING_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    GIVEN_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    seed: int
    recipe_digest: str
    header: bytes
    media_type: str
    video: Video
    window: int
    timescale: int
    pace: Pace
    pictures: int
    decoder: Decoder
    resume_token: bytes
    segment: int
    continuity: Continuity
    prompt: str
    reading: PromptReading
    recipe: str
    given_segments: int
    def __init__(self, session_id: _Optional[str] = ..., seed: _Optional[int] = ..., recipe_digest: _Optional[str] = ..., header: _Optional[bytes] = ..., media_type: _Optional[str] = ..., video: _Optional[_Union[Video, _Mapping]] = ..., window: _Optional[int] = ..., timescale: _Optional[int] = ..., pace: _Optional[_Union[Pace, str]] = ..., pictures: _Optional[int] = ..., decoder: _Optional[_Union[Decoder, str]] = ..., resume_token: _Optional[bytes] = ..., segment: _Optional[int] = ..., continuity: _Optional[_Union[Continuity, str]] = ..., prompt: _Optional[str] = ..., reading: _Optional[_Union[PromptReading, _Mapping]] = ..., recipe: _Optional[str] = ..., given_segments: _Optional[int] = ...) -> None: ...

class PromptReading(_message.Message):
    __slots__ = ("understood", "ignored", "defaulted")
    UNDERSTOOD_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FIELD_NUMBER: _ClassVar[int]
    DEFAULTED_FIELD_NUMBER: _ClassVar[int]
    understood: _containers.RepeatedScalarFieldContainer[str]
    ignored: _containers.RepeatedScalarFieldContainer[str]
    defaulted: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, understood: _Optional[_Iterable[str]] = ..., ignored: _Optional[_Iterable[str]] = ..., defaulted: _Optional[_Iterable[str]] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("index", "first_picture", "picture_count", "pts_ticks", "duration_ticks", "prompt_version", "part", "part_count", "data", "keyframe", "steps", "shot")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FIRST_PICTURE_FIELD_NUMBER: _ClassVar[int]
    PICTURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PTS_TICKS_FIELD_NUMBER: _ClassVar[int]
    DURATION_TICKS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    PART_COUNT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    KEYFRAME_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SHOT_FIELD_NUMBER: _ClassVar[int]
    index: int
    first_picture: int
    picture_count: int
    pts_ticks: int
    duration_ticks: int
    prompt_version: int
    part: int
    part_count: int
    data: bytes
    keyframe: bool
    steps: int
    shot: int
    def __init__(self, index: _Optional[int] = ..., first_picture: _Optional[int] = ..., picture_count: _Optional[int] = ..., pts_ticks: _Optional[int] = ..., duration_ticks: _Optional[int] = ..., prompt_version: _Optional[int] = ..., part: _Optional[int] = ..., part_count: _Optional[int] = ..., data: _Optional[bytes] = ..., keyframe: _Optional[bool] = ..., steps: _Optional[int] = ..., shot: _Optional[int] = ...) -> None: ...

class CueAccepted(_message.Message):
    __slots__ = ("cue_id", "block", "pts_ticks", "prompt", "reading", "shot")
    CUE_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    PTS_TICKS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    READING_FIELD_NUMBER: _ClassVar[int]
    SHOT_FIELD_NUMBER: _ClassVar[int]
    cue_id: str
    block: int
    pts_ticks: int
    prompt: str
    reading: PromptReading
    shot: int
    def __init__(self, cue_id: _Optional[str] = ..., block: _Optional[int] = ..., pts_ticks: _Optional[int] = ..., prompt: _Optional[str] = ..., reading: _Optional[_Union[PromptReading, _Mapping]] = ..., shot: _Optional[int] = ...) -> None: ...

class CueApplied(_message.Message):
    __slots__ = ("cue_id", "block", "pts_ticks", "prompt", "reading")
    CUE_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    PTS_TICKS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    READING_FIELD_NUMBER: _ClassVar[int]
    cue_id: str
    block: int
    pts_ticks: int
    prompt: str
    reading: PromptReading
    def __init__(self, cue_id: _Optional[str] = ..., block: _Optional[int] = ..., pts_ticks: _Optional[int] = ..., prompt: _Optional[str] = ..., reading: _Optional[_Union[PromptReading, _Mapping]] = ...) -> None: ...

class CueSuperseded(_message.Message):
    __slots__ = ("cue_id", "by_cue_id", "block")
    CUE_ID_FIELD_NUMBER: _ClassVar[int]
    BY_CUE_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    cue_id: str
    by_cue_id: str
    block: int
    def __init__(self, cue_id: _Optional[str] = ..., by_cue_id: _Optional[str] = ..., block: _Optional[int] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class RequestRefused(_message.Message):
    __slots__ = ("code", "message", "field", "allowed", "cue_id", "earliest_block")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    CUE_ID_FIELD_NUMBER: _ClassVar[int]
    EARLIEST_BLOCK_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    field: str
    allowed: str
    cue_id: str
    earliest_block: int
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., allowed: _Optional[str] = ..., cue_id: _Optional[str] = ..., earliest_block: _Optional[int] = ...) -> None: ...

class Recovered(_message.Message):
    __slots__ = ("continuity", "segment", "seconds")
    CONTINUITY_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    continuity: Continuity
    segment: int
    seconds: float
    def __init__(self, continuity: _Optional[_Union[Continuity, str]] = ..., segment: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class Closed(_message.Message):
    __slots__ = ("ending", "reason", "segments")
    ENDING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    ending: Ending
    reason: str
    segments: int
    def __init__(self, ending: _Optional[_Union[Ending, str]] = ..., reason: _Optional[str] = ..., segments: _Optional[int] = ...) -> None: ...

class Moved(_message.Message):
    __slots__ = ("address", "resume_token", "session_id")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    address: str
    resume_token: bytes
    session_id: str
    def __init__(self, address: _Optional[str] = ..., resume_token: _Optional[bytes] = ..., session_id: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("session_id", "from_segment")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_SEGMENT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    from_segment: int
    def __init__(self, session_id: _Optional[str] = ..., from_segment: _Optional[int] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("opened", "segment", "cue_applied", "skipped", "notice", "closed", "recovered")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    CUE_APPLIED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    segment: Segment
    cue_applied: CueApplied
    skipped: Skipped
    notice: Notice
    closed: Closed
    recovered: Recovered
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., segment: _Optional[_Union[Segment, _Mapping]] = ..., cue_applied: _Optional[_Union[CueApplied, _Mapping]] = ..., skipped: _Optional[_Union[Skipped, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., closed: _Optional[_Union[Closed, _Mapping]] = ..., recovered: _Optional[_Union[Recovered, _Mapping]] = ...) -> None: ...

class Skipped(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("name", "video", "first_block_pictures", "block_pictures", "recipe", "prompt_help", "vocabulary", "codecs", "limits", "decoders", "recipes", "max_given_pictures")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    FIRST_BLOCK_PICTURES_FIELD_NUMBER: _ClassVar[int]
    BLOCK_PICTURES_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_HELP_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    CODECS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    DECODERS_FIELD_NUMBER: _ClassVar[int]
    RECIPES_FIELD_NUMBER: _ClassVar[int]
    MAX_GIVEN_PICTURES_FIELD_NUMBER: _ClassVar[int]
    name: str
    video: Video
    first_block_pictures: int
    block_pictures: int
    recipe: Recipe
    prompt_help: str
    vocabulary: _containers.RepeatedCompositeFieldContainer[WordGroup]
    codecs: _containers.RepeatedCompositeFieldContainer[CodecOption]
    limits: Limits
    decoders: _containers.RepeatedScalarFieldContainer[Decoder]
    recipes: _containers.RepeatedCompositeFieldContainer[NamedRecipe]
    max_given_pictures: int
    def __init__(self, name: _Optional[str] = ..., video: _Optional[_Union[Video, _Mapping]] = ..., first_block_pictures: _Optional[int] = ..., block_pictures: _Optional[int] = ..., recipe: _Optional[_Union[Recipe, _Mapping]] = ..., prompt_help: _Optional[str] = ..., vocabulary: _Optional[_Iterable[_Union[WordGroup, _Mapping]]] = ..., codecs: _Optional[_Iterable[_Union[CodecOption, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., decoders: _Optional[_Iterable[_Union[Decoder, str]]] = ..., recipes: _Optional[_Iterable[_Union[NamedRecipe, _Mapping]]] = ..., max_given_pictures: _Optional[int] = ...) -> None: ...

class NamedRecipe(_message.Message):
    __slots__ = ("name", "recipe", "relative_cost", "latency_s", "help", "proven", "first_block_pictures", "block_pictures", "max_given_pictures")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_COST_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    HELP_FIELD_NUMBER: _ClassVar[int]
    PROVEN_FIELD_NUMBER: _ClassVar[int]
    FIRST_BLOCK_PICTURES_FIELD_NUMBER: _ClassVar[int]
    BLOCK_PICTURES_FIELD_NUMBER: _ClassVar[int]
    MAX_GIVEN_PICTURES_FIELD_NUMBER: _ClassVar[int]
    name: str
    recipe: Recipe
    relative_cost: float
    latency_s: float
    help: str
    proven: bool
    first_block_pictures: int
    block_pictures: int
    max_given_pictures: int
    def __init__(self, name: _Optional[str] = ..., recipe: _Optional[_Union[Recipe, _Mapping]] = ..., relative_cost: _Optional[float] = ..., latency_s: _Optional[float] = ..., help: _Optional[str] = ..., proven: _Optional[bool] = ..., first_block_pictures: _Optional[int] = ..., block_pictures: _Optional[int] = ..., max_given_pictures: _Optional[int] = ...) -> None: ...

class WordGroup(_message.Message):
    __slots__ = ("name", "words")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    words: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., words: _Optional[_Iterable[str]] = ...) -> None: ...

class Recipe(_message.Message):
    __slots__ = ("digest", "steps", "shift", "level", "frames_per_block", "window_frames", "sink_frames", "first_frames", "commit_step", "commit_label", "lag", "both_ways", "cue_rule", "keep_sinks", "cut", "shot_frames", "shot_offset", "memory_frames", "fold_frames", "usual_steps", "first_steps", "first_blocks", "shed", "reference_frames", "reference_lead", "reference_stride", "slope")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SHIFT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_BLOCK_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FRAMES_FIELD_NUMBER: _ClassVar[int]
    SINK_FRAMES_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAMES_FIELD_NUMBER: _ClassVar[int]
    COMMIT_STEP_FIELD_NUMBER: _ClassVar[int]
    COMMIT_LABEL_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    BOTH_WAYS_FIELD_NUMBER: _ClassVar[int]
    CUE_RULE_FIELD_NUMBER: _ClassVar[int]
    KEEP_SINKS_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    SHOT_FRAMES_FIELD_NUMBER: _ClassVar[int]
    SHOT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FRAMES_FIELD_NUMBER: _ClassVar[int]
    FOLD_FRAMES_FIELD_NUMBER: _ClassVar[int]
    USUAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEPS_FIELD_NUMBER: _ClassVar[int]
    FIRST_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    SHED_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FRAMES_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_LEAD_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_STRIDE_FIELD_NUMBER: _ClassVar[int]
    SLOPE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    steps: _containers.RepeatedScalarFieldContainer[int]
    shift: float
    level: Level
    frames_per_block: int
    window_frames: int
    sink_frames: int
    first_frames: int
    commit_step: int
    commit_label: float
    lag: int
    both_ways: bool
    cue_rule: CueRule
    keep_sinks: bool
    cut: bool
    shot_frames: int
    shot_offset: int
    memory_frames: int
    fold_frames: int
    usual_steps: _containers.RepeatedScalarFieldContainer[int]
    first_steps: _containers.RepeatedScalarFieldContainer[int]
    first_blocks: int
    shed: _containers.RepeatedCompositeFieldContainer[StepList]
    reference_frames: int
    reference_lead: int
    reference_stride: int
    slope: float
    def __init__(self, digest: _Optional[str] = ..., steps: _Optional[_Iterable[int]] = ..., shift: _Optional[float] = ..., level: _Optional[_Union[Level, str]] = ..., frames_per_block: _Optional[int] = ..., window_frames: _Optional[int] = ..., sink_frames: _Optional[int] = ..., first_frames: _Optional[int] = ..., commit_step: _Optional[int] = ..., commit_label: _Optional[float] = ..., lag: _Optional[int] = ..., both_ways: _Optional[bool] = ..., cue_rule: _Optional[_Union[CueRule, str]] = ..., keep_sinks: _Optional[bool] = ..., cut: _Optional[bool] = ..., shot_frames: _Optional[int] = ..., shot_offset: _Optional[int] = ..., memory_frames: _Optional[int] = ..., fold_frames: _Optional[int] = ..., usual_steps: _Optional[_Iterable[int]] = ..., first_steps: _Optional[_Iterable[int]] = ..., first_blocks: _Optional[int] = ..., shed: _Optional[_Iterable[_Union[StepList, _Mapping]]] = ..., reference_frames: _Optional[int] = ..., reference_lead: _Optional[int] = ..., reference_stride: _Optional[int] = ..., slope: _Optional[float] = ...) -> None: ...

class StepList(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, steps: _Optional[_Iterable[int]] = ...) -> None: ...

class CodecOption(_message.Message):
    __slots__ = ("codec", "min_quality", "max_quality", "default_quality")
    CODEC_FIELD_NUMBER: _ClassVar[int]
    MIN_QUALITY_FIELD_NUMBER: _ClassVar[int]
    MAX_QUALITY_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_QUALITY_FIELD_NUMBER: _ClassVar[int]
    codec: Codec
    min_quality: int
    max_quality: int
    default_quality: int
    def __init__(self, codec: _Optional[_Union[Codec, str]] = ..., min_quality: _Optional[int] = ..., max_quality: _Optional[int] = ..., default_quality: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_sessions", "max_watchers", "default_window", "max_window", "max_prompt_bytes", "max_cues", "max_message_bytes", "max_queued", "detached_s")
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_WATCHERS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_WINDOW_FIELD_NUMBER: _ClassVar[int]
    MAX_WINDOW_FIELD_NUMBER: _ClassVar[int]
    MAX_PROMPT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_CUES_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_FIELD_NUMBER: _ClassVar[int]
    DETACHED_S_FIELD_NUMBER: _ClassVar[int]
    max_sessions: int
    max_watchers: int
    default_window: int
    max_window: int
    max_prompt_bytes: int
    max_cues: int
    max_message_bytes: int
    max_queued: int
    detached_s: float
    def __init__(self, max_sessions: _Optional[int] = ..., max_watchers: _Optional[int] = ..., default_window: _Optional[int] = ..., max_window: _Optional[int] = ..., max_prompt_bytes: _Optional[int] = ..., max_cues: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_queued: _Optional[int] = ..., detached_s: _Optional[float] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "state", "prompt", "seed", "pace", "window", "blocks_begun", "segments_sent", "segments_acknowledged", "cues_pending", "tenant", "slack_s", "pictures_sent", "age_s", "holds", "attached", "current_prompt", "current_prompt_block", "recipe")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_BEGUN_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_SENT_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    CUES_PENDING_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SLACK_S_FIELD_NUMBER: _ClassVar[int]
    PICTURES_SENT_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    CURRENT_PROMPT_FIELD_NUMBER: _ClassVar[int]
    CURRENT_PROMPT_BLOCK_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    state: SessionState
    prompt: str
    seed: int
    pace: Pace
    window: int
    blocks_begun: int
    segments_sent: int
    segments_acknowledged: int
    cues_pending: int
    tenant: str
    slack_s: float
    pictures_sent: int
    age_s: float
    holds: _containers.RepeatedScalarFieldContainer[Hold]
    attached: bool
    current_prompt: str
    current_prompt_block: int
    recipe: str
    def __init__(self, session_id: _Optional[str] = ..., state: _Optional[_Union[SessionState, str]] = ..., prompt: _Optional[str] = ..., seed: _Optional[int] = ..., pace: _Optional[_Union[Pace, str]] = ..., window: _Optional[int] = ..., blocks_begun: _Optional[int] = ..., segments_sent: _Optional[int] = ..., segments_acknowledged: _Optional[int] = ..., cues_pending: _Optional[int] = ..., tenant: _Optional[str] = ..., slack_s: _Optional[float] = ..., pictures_sent: _Optional[int] = ..., age_s: _Optional[float] = ..., holds: _Optional[_Iterable[_Union[Hold, str]]] = ..., attached: _Optional[bool] = ..., current_prompt: _Optional[str] = ..., current_prompt_block: _Optional[int] = ..., recipe: _Optional[str] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session_id", "reason")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    reason: str
    def __init__(self, session_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("workers", "sessions", "max_sessions", "draining", "uptime_s", "cell", "totals", "forwards_per_block", "drains_in_s", "draining_for_s", "limit_blocks_per_s", "limited_by", "stages", "engine_busy_s", "sessions_queued", "sessions_late", "reservable")
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    CELL_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    FORWARDS_PER_BLOCK_FIELD_NUMBER: _ClassVar[int]
    DRAINS_IN_S_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FOR_S_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BLOCKS_PER_S_FIELD_NUMBER: _ClassVar[int]
    LIMITED_BY_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    ENGINE_BUSY_S_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_QUEUED_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_LATE_FIELD_NUMBER: _ClassVar[int]
    RESERVABLE_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedCompositeFieldContainer[Worker]
    sessions: int
    max_sessions: int
    draining: bool
    uptime_s: float
    cell: str
    totals: _containers.RepeatedCompositeFieldContainer[PaceTotals]
    forwards_per_block: int
    drains_in_s: float
    draining_for_s: float
    limit_blocks_per_s: float
    limited_by: str
    stages: _containers.RepeatedCompositeFieldContainer[Stage]
    engine_busy_s: float
    sessions_queued: int
    sessions_late: int
    reservable: float
    def __init__(self, workers: _Optional[_Iterable[_Union[Worker, _Mapping]]] = ..., sessions: _Optional[int] = ..., max_sessions: _Optional[int] = ..., draining: _Optional[bool] = ..., uptime_s: _Optional[float] = ..., cell: _Optional[str] = ..., totals: _Optional[_Iterable[_Union[PaceTotals, _Mapping]]] = ..., forwards_per_block: _Optional[int] = ..., drains_in_s: _Optional[float] = ..., draining_for_s: _Optional[float] = ..., limit_blocks_per_s: _Optional[float] = ..., limited_by: _Optional[str] = ..., stages: _Optional[_Iterable[_Union[Stage, _Mapping]]] = ..., engine_busy_s: _Optional[float] = ..., sessions_queued: _Optional[int] = ..., sessions_late: _Optional[int] = ..., reservable: _Optional[float] = ...) -> None: ...

class Stage(_message.Message):
    __slots__ = ("role", "blocks_per_s")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_PER_S_FIELD_NUMBER: _ClassVar[int]
    role: WorkerRole
    blocks_per_s: float
    def __init__(self, role: _Optional[_Union[WorkerRole, str]] = ..., blocks_per_s: _Optional[float] = ...) -> None: ...

class PaceTotals(_message.Message):
    __slots__ = ("pace", "sessions", "blocks", "late_blocks", "pictures", "bytes", "opened", "refused", "least_slack_s")
    PACE_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    LATE_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    LEAST_SLACK_S_FIELD_NUMBER: _ClassVar[int]
    pace: Pace
    sessions: int
    blocks: int
    late_blocks: int
    pictures: int
    bytes: int
    opened: int
    refused: int
    least_slack_s: float
    def __init__(self, pace: _Optional[_Union[Pace, str]] = ..., sessions: _Optional[int] = ..., blocks: _Optional[int] = ..., late_blocks: _Optional[int] = ..., pictures: _Optional[int] = ..., bytes: _Optional[int] = ..., opened: _Optional[int] = ..., refused: _Optional[int] = ..., least_slack_s: _Optional[float] = ...) -> None: ...

class Worker(_message.Message):
    __slots__ = ("worker_id", "role", "capacity", "free", "sessions", "in_flight", "ready", "dispatched", "op_s", "busy_s", "ops", "chain_length", "host_memory_bytes", "passes", "numerics", "reserved")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    DISPATCHED_FIELD_NUMBER: _ClassVar[int]
    OP_S_FIELD_NUMBER: _ClassVar[int]
    BUSY_S_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    CHAIN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    HOST_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    role: WorkerRole
    capacity: int
    free: int
    sessions: int
    in_flight: int
    ready: int
    dispatched: int
    op_s: float
    busy_s: float
    ops: int
    chain_length: int
    host_memory_bytes: int
    passes: int
    numerics: str
    reserved: float
    def __init__(self, worker_id: _Optional[str] = ..., role: _Optional[_Union[WorkerRole, str]] = ..., capacity: _Optional[int] = ..., free: _Optional[int] = ..., sessions: _Optional[int] = ..., in_flight: _Optional[int] = ..., ready: _Optional[int] = ..., dispatched: _Optional[int] = ..., op_s: _Optional[float] = ..., busy_s: _Optional[float] = ..., ops: _Optional[int] = ..., chain_length: _Optional[int] = ..., host_memory_bytes: _Optional[int] = ..., passes: _Optional[int] = ..., numerics: _Optional[str] = ..., reserved: _Optional[float] = ...) -> None: ...

class WatchOpsRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class WatchOpsResponse(_message.Message):
    __slots__ = ("ops",)
    OPS_FIELD_NUMBER: _ClassVar[int]
    ops: _containers.RepeatedCompositeFieldContainer[OpSpan]
    def __init__(self, ops: _Optional[_Iterable[_Union[OpSpan, _Mapping]]] = ...) -> None: ...

class OpSpan(_message.Message):
    __slots__ = ("kind", "step", "block", "worker_id", "batch", "dispatched_at_s", "done_at_s", "seconds")
    KIND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    DISPATCHED_AT_S_FIELD_NUMBER: _ClassVar[int]
    DONE_AT_S_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    kind: OpKind
    step: int
    block: int
    worker_id: str
    batch: int
    dispatched_at_s: float
    done_at_s: float
    seconds: float
    def __init__(self, kind: _Optional[_Union[OpKind, str]] = ..., step: _Optional[int] = ..., block: _Optional[int] = ..., worker_id: _Optional[str] = ..., batch: _Optional[int] = ..., dispatched_at_s: _Optional[float] = ..., done_at_s: _Optional[float] = ..., seconds: _Optional[float] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("grace", "end_streams")
    GRACE_FIELD_NUMBER: _ClassVar[int]
    END_STREAMS_FIELD_NUMBER: _ClassVar[int]
    grace: _duration_pb2.Duration
    end_streams: bool
    def __init__(self, grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., end_streams: _Optional[bool] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: int
    def __init__(self, sessions: _Optional[int] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("session_id", "hand_over")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    HAND_OVER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    hand_over: bool
    def __init__(self, session_id: _Optional[str] = ..., hand_over: _Optional[bool] = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ImportRequest(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ImportResponse(_message.Message):
    __slots__ = ("session_id", "resume_token", "block")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    resume_token: bytes
    block: int
    def __init__(self, session_id: _Optional[str] = ..., resume_token: _Optional[bytes] = ..., block: _Optional[int] = ...) -> None: ...

class HandOverRequest(_message.Message):
    __slots__ = ("session_id", "address", "resume_token", "new_session_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEW_SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    address: str
    resume_token: bytes
    new_session_id: str
    def __init__(self, session_id: _Optional[str] = ..., address: _Optional[str] = ..., resume_token: _Optional[bytes] = ..., new_session_id: _Optional[str] = ...) -> None: ...

class HandOverResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
