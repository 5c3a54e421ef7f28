from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_DENOISE: _ClassVar[Role]
    ROLE_DECODE: _ClassVar[Role]
    ROLE_TEXT: _ClassVar[Role]

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    KIND_DENOISE: _ClassVar[Kind]
    KIND_COMMIT: _ClassVar[Kind]

class Returns(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETURNS_UNSPECIFIED: _ClassVar[Returns]
    RETURNS_NOTHING: _ClassVar[Returns]
    RETURNS_KEPT: _ClassVar[Returns]
    RETURNS_SENT: _ClassVar[Returns]
    RETURNS_SENT_AND_KEPT: _ClassVar[Returns]

class Decoder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECODER_UNSPECIFIED: _ClassVar[Decoder]
    DECODER_FULL: _ClassVar[Decoder]
    DECODER_TINY: _ClassVar[Decoder]
ROLE_UNSPECIFIED: Role
ROLE_DENOISE: Role
ROLE_DECODE: Role
ROLE_TEXT: Role
KIND_UNSPECIFIED: Kind
KIND_DENOISE: Kind
KIND_COMMIT: Kind
RETURNS_UNSPECIFIED: Returns
RETURNS_NOTHING: Returns
RETURNS_KEPT: Returns
RETURNS_SENT: Returns
RETURNS_SENT_AND_KEPT: Returns
DECODER_UNSPECIFIED: Decoder
DECODER_FULL: Decoder
DECODER_TINY: Decoder

class AttachRequest(_message.Message):
    __slots__ = ("hello", "op_done", "op_failed", "text_encoded", "stream_prepared", "heartbeat", "image_stowed", "image_loaded", "image_failed", "pictures_encoded")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    OP_DONE_FIELD_NUMBER: _ClassVar[int]
    OP_FAILED_FIELD_NUMBER: _ClassVar[int]
    TEXT_ENCODED_FIELD_NUMBER: _ClassVar[int]
    STREAM_PREPARED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_STOWED_FIELD_NUMBER: _ClassVar[int]
    IMAGE_LOADED_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FAILED_FIELD_NUMBER: _ClassVar[int]
    PICTURES_ENCODED_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    op_done: OpDone
    op_failed: OpFailed
    text_encoded: TextEncoded
    stream_prepared: StreamPrepared
    heartbeat: Heartbeat
    image_stowed: ImageStowed
    image_loaded: ImageLoaded
    image_failed: ImageFailed
    pictures_encoded: PicturesEncoded
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., op_done: _Optional[_Union[OpDone, _Mapping]] = ..., op_failed: _Optional[_Union[OpFailed, _Mapping]] = ..., text_encoded: _Optional[_Union[TextEncoded, _Mapping]] = ..., stream_prepared: _Optional[_Union[StreamPrepared, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., image_stowed: _Optional[_Union[ImageStowed, _Mapping]] = ..., image_loaded: _Optional[_Union[ImageLoaded, _Mapping]] = ..., image_failed: _Optional[_Union[ImageFailed, _Mapping]] = ..., pictures_encoded: _Optional[_Union[PicturesEncoded, _Mapping]] = ...) -> None: ...

class AttachResponse(_message.Message):
    __slots__ = ("welcome", "dispatch", "prepare_stream", "encode_text", "forget", "shutdown", "stow", "load", "give", "take", "discard", "join_chain", "encode_pictures")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    DISPATCH_FIELD_NUMBER: _ClassVar[int]
    PREPARE_STREAM_FIELD_NUMBER: _ClassVar[int]
    ENCODE_TEXT_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    SHUTDOWN_FIELD_NUMBER: _ClassVar[int]
    STOW_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    GIVE_FIELD_NUMBER: _ClassVar[int]
    TAKE_FIELD_NUMBER: _ClassVar[int]
    DISCARD_FIELD_NUMBER: _ClassVar[int]
    JOIN_CHAIN_FIELD_NUMBER: _ClassVar[int]
    ENCODE_PICTURES_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    dispatch: Dispatch
    prepare_stream: PrepareStream
    encode_text: EncodeText
    forget: Forget
    shutdown: Shutdown
    stow: Stow
    load: Load
    give: Give
    take: Take
    discard: Discard
    join_chain: JoinChain
    encode_pictures: EncodePictures
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., dispatch: _Optional[_Union[Dispatch, _Mapping]] = ..., prepare_stream: _Optional[_Union[PrepareStream, _Mapping]] = ..., encode_text: _Optional[_Union[EncodeText, _Mapping]] = ..., forget: _Optional[_Union[Forget, _Mapping]] = ..., shutdown: _Optional[_Union[Shutdown, _Mapping]] = ..., stow: _Optional[_Union[Stow, _Mapping]] = ..., load: _Optional[_Union[Load, _Mapping]] = ..., give: _Optional[_Union[Give, _Mapping]] = ..., take: _Optional[_Union[Take, _Mapping]] = ..., discard: _Optional[_Union[Discard, _Mapping]] = ..., join_chain: _Optional[_Union[JoinChain, _Mapping]] = ..., encode_pictures: _Optional[_Union[EncodePictures, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("worker", "role", "capacity", "model_digest", "batch_limit", "forward_s", "mixes_kinds", "part", "encodes_text", "tiny_s", "numerics", "replay_depth", "site", "shape_s", "joint_ops")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BATCH_LIMIT_FIELD_NUMBER: _ClassVar[int]
    FORWARD_S_FIELD_NUMBER: _ClassVar[int]
    MIXES_KINDS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    ENCODES_TEXT_FIELD_NUMBER: _ClassVar[int]
    TINY_S_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_FIELD_NUMBER: _ClassVar[int]
    REPLAY_DEPTH_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_S_FIELD_NUMBER: _ClassVar[int]
    JOINT_OPS_FIELD_NUMBER: _ClassVar[int]
    worker: str
    role: Role
    capacity: int
    model_digest: str
    batch_limit: int
    forward_s: float
    mixes_kinds: bool
    part: Part
    encodes_text: bool
    tiny_s: float
    numerics: str
    replay_depth: int
    site: Site
    shape_s: _containers.RepeatedCompositeFieldContainer[ShapeTime]
    joint_ops: int
    def __init__(self, worker: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., capacity: _Optional[int] = ..., model_digest: _Optional[str] = ..., batch_limit: _Optional[int] = ..., forward_s: _Optional[float] = ..., mixes_kinds: _Optional[bool] = ..., part: _Optional[_Union[Part, _Mapping]] = ..., encodes_text: _Optional[bool] = ..., tiny_s: _Optional[float] = ..., numerics: _Optional[str] = ..., replay_depth: _Optional[int] = ..., site: _Optional[_Union[Site, _Mapping]] = ..., shape_s: _Optional[_Iterable[_Union[ShapeTime, _Mapping]]] = ..., joint_ops: _Optional[int] = ...) -> None: ...

class ShapeTime(_message.Message):
    __slots__ = ("frames", "pages", "seconds")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    PAGES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    frames: int
    pages: int
    seconds: float
    def __init__(self, frames: _Optional[int] = ..., pages: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class Site(_message.Message):
    __slots__ = ("node", "pod", "device")
    NODE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    node: str
    pod: str
    device: str
    def __init__(self, node: _Optional[str] = ..., pod: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("replica", "rank", "length", "first_layer", "layers")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    FIRST_LAYER_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    replica: str
    rank: int
    length: int
    first_layer: int
    layers: int
    def __init__(self, replica: _Optional[str] = ..., rank: _Optional[int] = ..., length: _Optional[int] = ..., first_layer: _Optional[int] = ..., layers: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JoinChain(_message.Message):
    __slots__ = ("generation",)
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    generation: int
    def __init__(self, generation: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("host_bytes", "resident_bytes", "copied_out_bytes", "copied_in_bytes")
    HOST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    COPIED_OUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    COPIED_IN_BYTES_FIELD_NUMBER: _ClassVar[int]
    host_bytes: int
    resident_bytes: int
    copied_out_bytes: int
    copied_in_bytes: int
    def __init__(self, host_bytes: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., copied_out_bytes: _Optional[int] = ..., copied_in_bytes: _Optional[int] = ...) -> None: ...

class LatentRef(_message.Message):
    __slots__ = ("session", "block", "step")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    session: str
    block: int
    step: int
    def __init__(self, session: _Optional[str] = ..., block: _Optional[int] = ..., step: _Optional[int] = ...) -> None: ...

class ConditioningRef(_message.Message):
    __slots__ = ("session", "version")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    version: int
    def __init__(self, session: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class FromNoise(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FromLane(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FromLatent(_message.Message):
    __slots__ = ("ref",)
    REF_FIELD_NUMBER: _ClassVar[int]
    ref: LatentRef
    def __init__(self, ref: _Optional[_Union[LatentRef, _Mapping]] = ...) -> None: ...

class FoldWork(_message.Message):
    __slots__ = ("reads", "write")
    READS_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    reads: _containers.RepeatedScalarFieldContainer[int]
    write: int
    def __init__(self, reads: _Optional[_Iterable[int]] = ..., write: _Optional[int] = ...) -> None: ...

class ForwardWork(_message.Message):
    __slots__ = ("session", "lane", "kind", "step", "block", "is_reference", "times", "noise", "returns", "enters", "positions", "key_positions", "read_turns", "bias", "reads", "writes", "folds", "conditioning", "from_noise", "from_lane", "from_latent")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    IS_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    RETURNS_FIELD_NUMBER: _ClassVar[int]
    ENTERS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    KEY_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    READ_TURNS_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    FOLDS_FIELD_NUMBER: _ClassVar[int]
    CONDITIONING_FIELD_NUMBER: _ClassVar[int]
    FROM_NOISE_FIELD_NUMBER: _ClassVar[int]
    FROM_LANE_FIELD_NUMBER: _ClassVar[int]
    FROM_LATENT_FIELD_NUMBER: _ClassVar[int]
    session: str
    lane: int
    kind: Kind
    step: int
    block: int
    is_reference: bool
    times: Times
    noise: NoiseKey
    returns: Returns
    enters: int
    positions: _containers.RepeatedScalarFieldContainer[int]
    key_positions: _containers.RepeatedScalarFieldContainer[int]
    read_turns: _containers.RepeatedScalarFieldContainer[int]
    bias: Bias
    reads: _containers.RepeatedScalarFieldContainer[int]
    writes: _containers.RepeatedScalarFieldContainer[int]
    folds: _containers.RepeatedCompositeFieldContainer[FoldWork]
    conditioning: ConditioningRef
    from_noise: FromNoise
    from_lane: FromLane
    from_latent: FromLatent
    def __init__(self, session: _Optional[str] = ..., lane: _Optional[int] = ..., kind: _Optional[_Union[Kind, str]] = ..., step: _Optional[int] = ..., block: _Optional[int] = ..., is_reference: _Optional[bool] = ..., times: _Optional[_Union[Times, _Mapping]] = ..., noise: _Optional[_Union[NoiseKey, _Mapping]] = ..., returns: _Optional[_Union[Returns, str]] = ..., enters: _Optional[int] = ..., positions: _Optional[_Iterable[int]] = ..., key_positions: _Optional[_Iterable[int]] = ..., read_turns: _Optional[_Iterable[int]] = ..., bias: _Optional[_Union[Bias, _Mapping]] = ..., reads: _Optional[_Iterable[int]] = ..., writes: _Optional[_Iterable[int]] = ..., folds: _Optional[_Iterable[_Union[FoldWork, _Mapping]]] = ..., conditioning: _Optional[_Union[ConditioningRef, _Mapping]] = ..., from_noise: _Optional[_Union[FromNoise, _Mapping]] = ..., from_lane: _Optional[_Union[FromLane, _Mapping]] = ..., from_latent: _Optional[_Union[FromLatent, _Mapping]] = ...) -> None: ...

class Bias(_message.Message):
    __slots__ = ("slope", "places")
    SLOPE_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    slope: float
    places: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, slope: _Optional[float] = ..., places: _Optional[_Iterable[int]] = ...) -> None: ...

class Times(_message.Message):
    __slots__ = ("timesteps", "sigma", "next_sigma", "noised")
    TIMESTEPS_FIELD_NUMBER: _ClassVar[int]
    SIGMA_FIELD_NUMBER: _ClassVar[int]
    NEXT_SIGMA_FIELD_NUMBER: _ClassVar[int]
    NOISED_FIELD_NUMBER: _ClassVar[int]
    timesteps: _containers.RepeatedScalarFieldContainer[float]
    sigma: float
    next_sigma: float
    noised: Noised
    def __init__(self, timesteps: _Optional[_Iterable[float]] = ..., sigma: _Optional[float] = ..., next_sigma: _Optional[float] = ..., noised: _Optional[_Union[Noised, _Mapping]] = ...) -> None: ...

class Noised(_message.Message):
    __slots__ = ("sigma", "draw")
    SIGMA_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    sigma: float
    draw: int
    def __init__(self, sigma: _Optional[float] = ..., draw: _Optional[int] = ...) -> None: ...

class NoiseKey(_message.Message):
    __slots__ = ("seed", "block")
    SEED_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    seed: int
    block: int
    def __init__(self, seed: _Optional[int] = ..., block: _Optional[int] = ...) -> None: ...

class SegmentSettings(_message.Message):
    __slots__ = ("codec", "quality", "decoder")
    CODEC_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    DECODER_FIELD_NUMBER: _ClassVar[int]
    codec: str
    quality: int
    decoder: Decoder
    def __init__(self, codec: _Optional[str] = ..., quality: _Optional[int] = ..., decoder: _Optional[_Union[Decoder, str]] = ...) -> None: ...

class DecodeWork(_message.Message):
    __slots__ = ("session", "block", "slot", "latents", "first_picture", "picture_count", "settings", "later_frames")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_PICTURE_FIELD_NUMBER: _ClassVar[int]
    PICTURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    LATER_FRAMES_FIELD_NUMBER: _ClassVar[int]
    session: str
    block: int
    slot: int
    latents: LatentRef
    first_picture: int
    picture_count: int
    settings: SegmentSettings
    later_frames: int
    def __init__(self, session: _Optional[str] = ..., block: _Optional[int] = ..., slot: _Optional[int] = ..., latents: _Optional[_Union[LatentRef, _Mapping]] = ..., first_picture: _Optional[int] = ..., picture_count: _Optional[int] = ..., settings: _Optional[_Union[SegmentSettings, _Mapping]] = ..., later_frames: _Optional[int] = ...) -> None: ...

class ForwardItem(_message.Message):
    __slots__ = ("work", "latents", "conditioning")
    WORK_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    CONDITIONING_FIELD_NUMBER: _ClassVar[int]
    work: ForwardWork
    latents: bytes
    conditioning: bytes
    def __init__(self, work: _Optional[_Union[ForwardWork, _Mapping]] = ..., latents: _Optional[bytes] = ..., conditioning: _Optional[bytes] = ...) -> None: ...

class ForwardBatch(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ForwardItem]
    def __init__(self, items: _Optional[_Iterable[_Union[ForwardItem, _Mapping]]] = ...) -> None: ...

class DecodeItem(_message.Message):
    __slots__ = ("work", "latents")
    WORK_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    work: DecodeWork
    latents: bytes
    def __init__(self, work: _Optional[_Union[DecodeWork, _Mapping]] = ..., latents: _Optional[bytes] = ...) -> None: ...

class Dispatch(_message.Message):
    __slots__ = ("sequence", "forward", "decode")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    forward: ForwardBatch
    decode: DecodeItem
    def __init__(self, sequence: _Optional[int] = ..., forward: _Optional[_Union[ForwardBatch, _Mapping]] = ..., decode: _Optional[_Union[DecodeItem, _Mapping]] = ...) -> None: ...

class PrepareStream(_message.Message):
    __slots__ = ("session", "slot", "settings", "image", "origin", "started")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    session: str
    slot: int
    settings: SegmentSettings
    image: int
    origin: int
    started: bool
    def __init__(self, session: _Optional[str] = ..., slot: _Optional[int] = ..., settings: _Optional[_Union[SegmentSettings, _Mapping]] = ..., image: _Optional[int] = ..., origin: _Optional[int] = ..., started: _Optional[bool] = ...) -> None: ...

class EncodePictures(_message.Message):
    __slots__ = ("session", "part", "pictures", "first", "is_reference", "follows", "leads")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    IS_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    FOLLOWS_FIELD_NUMBER: _ClassVar[int]
    LEADS_FIELD_NUMBER: _ClassVar[int]
    session: str
    part: int
    pictures: _containers.RepeatedScalarFieldContainer[bytes]
    first: int
    is_reference: bool
    follows: bool
    leads: bool
    def __init__(self, session: _Optional[str] = ..., part: _Optional[int] = ..., pictures: _Optional[_Iterable[bytes]] = ..., first: _Optional[int] = ..., is_reference: _Optional[bool] = ..., follows: _Optional[bool] = ..., leads: _Optional[bool] = ...) -> None: ...

class Pages(_message.Message):
    __slots__ = ("pages",)
    PAGES_FIELD_NUMBER: _ClassVar[int]
    pages: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, pages: _Optional[_Iterable[int]] = ...) -> None: ...

class Stow(_message.Message):
    __slots__ = ("session", "image", "pages", "slot")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PAGES_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    session: str
    image: int
    pages: Pages
    slot: int
    def __init__(self, session: _Optional[str] = ..., image: _Optional[int] = ..., pages: _Optional[_Union[Pages, _Mapping]] = ..., slot: _Optional[int] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("session", "image", "target")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    session: str
    image: int
    target: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session: _Optional[str] = ..., image: _Optional[int] = ..., target: _Optional[_Iterable[int]] = ...) -> None: ...

class Give(_message.Message):
    __slots__ = ("session", "image", "to")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    session: str
    image: int
    to: str
    def __init__(self, session: _Optional[str] = ..., image: _Optional[int] = ..., to: _Optional[str] = ...) -> None: ...

class Take(_message.Message):
    __slots__ = ("session", "image", "origin")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    session: str
    image: int
    origin: str
    def __init__(self, session: _Optional[str] = ..., image: _Optional[int] = ..., origin: _Optional[str] = ...) -> None: ...

class Discard(_message.Message):
    __slots__ = ("image",)
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image: int
    def __init__(self, image: _Optional[int] = ...) -> None: ...

class EncodeText(_message.Message):
    __slots__ = ("conditioning", "prompt")
    CONDITIONING_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    conditioning: ConditioningRef
    prompt: str
    def __init__(self, conditioning: _Optional[_Union[ConditioningRef, _Mapping]] = ..., prompt: _Optional[str] = ...) -> None: ...

class Forget(_message.Message):
    __slots__ = ("session", "version")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    version: int
    def __init__(self, session: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Shutdown(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Output(_message.Message):
    __slots__ = ("latents",)
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    latents: bytes
    def __init__(self, latents: _Optional[bytes] = ...) -> None: ...

class OpDone(_message.Message):
    __slots__ = ("sequence", "outputs", "segment", "seconds")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    outputs: _containers.RepeatedCompositeFieldContainer[Output]
    segment: bytes
    seconds: float
    def __init__(self, sequence: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[Output, _Mapping]]] = ..., segment: _Optional[bytes] = ..., seconds: _Optional[float] = ...) -> None: ...

class OpFailed(_message.Message):
    __slots__ = ("sessions", "sequence", "reason", "outputs")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedScalarFieldContainer[str]
    sequence: int
    reason: str
    outputs: _containers.RepeatedCompositeFieldContainer[Output]
    def __init__(self, sessions: _Optional[_Iterable[str]] = ..., sequence: _Optional[int] = ..., reason: _Optional[str] = ..., outputs: _Optional[_Iterable[_Union[Output, _Mapping]]] = ...) -> None: ...

class TextEncoded(_message.Message):
    __slots__ = ("conditioning", "tensor", "notice")
    CONDITIONING_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    conditioning: ConditioningRef
    tensor: bytes
    notice: str
    def __init__(self, conditioning: _Optional[_Union[ConditioningRef, _Mapping]] = ..., tensor: _Optional[bytes] = ..., notice: _Optional[str] = ...) -> None: ...

class StreamPrepared(_message.Message):
    __slots__ = ("session", "header", "media_type")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    session: str
    header: bytes
    media_type: str
    def __init__(self, session: _Optional[str] = ..., header: _Optional[bytes] = ..., media_type: _Optional[str] = ...) -> None: ...

class PicturesEncoded(_message.Message):
    __slots__ = ("session", "part", "latents", "unfit")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    UNFIT_FIELD_NUMBER: _ClassVar[int]
    session: str
    part: int
    latents: bytes
    unfit: str
    def __init__(self, session: _Optional[str] = ..., part: _Optional[int] = ..., latents: _Optional[bytes] = ..., unfit: _Optional[str] = ...) -> None: ...

class ImageStowed(_message.Message):
    __slots__ = ("image",)
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image: int
    def __init__(self, image: _Optional[int] = ...) -> None: ...

class ImageLoaded(_message.Message):
    __slots__ = ("image",)
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image: int
    def __init__(self, image: _Optional[int] = ...) -> None: ...

class ImageFailed(_message.Message):
    __slots__ = ("image", "reason")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    image: int
    reason: str
    def __init__(self, image: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
