"""Every message survives the link, and what cannot be meant is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longtake.core.effects import Discard, EncodeText, Forget, Give, LoadImage, PrepareStream, Stow, Take
from longtake.core.errors import InvalidField
from longtake.core.parts import EncodePictures
from longtake.core.recipe.ops import Kind, Noised, Op
from longtake.core.recipe.positions import Bias
from longtake.core.recipe.references import REFERENCE
from longtake.core.work import (
    ConditioningRef,
    DecoderKind,
    DecodeWork,
    DispatchNumber,
    FoldWork,
    ForwardWork,
    FromLane,
    FromLatent,
    FromNoise,
    ImageId,
    LatentRef,
    PageId,
    SegmentSettings,
    SessionId,
    SlotId,
    WorkerId,
)
from longtake.link.v1 import link_pb2 as pb
from tests.cluster.launch.dialling import INTRODUCTION, SESSION, WORKER
from tests.workers.works import Flat, changed
from workers.link.convert import (
    down_from_proto,
    down_to_proto,
    hello_from_proto,
    hello_to_proto,
    up_from_proto,
    up_to_proto,
)
from workers.link.convert_images import MAX_REASON
from workers.messages import (
    Decode,
    Done,
    Down,
    Encoded,
    EncodeGiven,
    Failed,
    Forward,
    GivenEncoded,
    Heartbeat,
    ImageGone,
    ImageLoaded,
    ImageStowed,
    JoinChain,
    Part,
    Prepared,
    Seat,
    Shutdown,
    Site,
    Task,
    Up,
)

TEXT = ConditioningRef(session=SESSION, version=3)
LATENT = LatentRef(session=SESSION, block=2**33, step=1)
OUTPUT = b"latents"
SETTINGS = SegmentSettings(codec="h264", quality=23)
TINY = replace(SETTINGS, decoder=DecoderKind.TINY)


def forward(kind: Kind, source: FromNoise | FromLane | FromLatent, next_sigma: float | None) -> ForwardWork:
    return Flat(
        session=SESSION,
        lane=2,
        kind=kind,
        step=2,
        block=2**33,
        timestep=833.3333129882812,
        sigma=0.8333333134651184,
        next_sigma=next_sigma,
        seed=2**64 - 1,
        positions=(0, 2**40),
        reads=(PageId(0), PageId(7)),
        writes=(PageId(7),),
        conditioning=TEXT,
        input=source,
    ).work()


TURNED = changed(forward(Kind.DENOISE, FromNoise(), 0.5), positions=(8, 2**40), key_positions=(0, 0), read_turns=(8, 0))
"""Keys that are stored without their time."""


FOLDING = replace(
    TURNED,
    folds=(
        FoldWork(reads=(PageId(1), PageId(0), PageId(7)), write=PageId(1)),
        FoldWork(reads=(PageId(2), PageId(3), PageId(4)), write=PageId(9)),
    ),
)
"""What is folded before the forward."""


def noisy(work: ForwardWork) -> ForwardWork:
    """The op, which adds noise to what it starts from."""
    return replace(work, times=replace(work.times, noised=Noised(0.2083333283662796, 4)))


DECODE = DecodeWork(
    session=SESSION,
    block=4,
    slot=SlotId(0),
    latents=LATENT,
    first_picture=45,
    picture_count=12,
    settings=SETTINGS,
)

OF_REFERENCE = replace(
    forward(Kind.COMMIT, FromLatent(LatentRef(session=SESSION, block=0, step=5)), None),
    op=Op(Kind.COMMIT, 0, REFERENCE),
)
"""It goes by a number that there is not on the wire."""
PART = EncodePictures(worker=WORKER, session=SESSION, part=2, pictures=range(5, 7), follows=True, leads=True)
IMAGE = EncodePictures(worker=WORKER, session=SESSION, part=3, pictures=range(1, 2), is_reference=True)


@pytest.mark.parametrize(
    "message",
    [
        Task(sequence=DispatchNumber(1), order=(Forward(work=forward(Kind.COMMIT, FromLane(), None)),)),
        Task(sequence=DispatchNumber(1), order=(Forward(work=OF_REFERENCE, latents=b"one frame"),)),
        Task(sequence=DispatchNumber(1), order=(Forward(work=noisy(forward(Kind.COMMIT, FromLane(), None))),)),
        Task(
            sequence=DispatchNumber(2),
            order=(
                Forward(work=forward(Kind.DENOISE, FromNoise(), 0.0), conditioning=b"text"),
                Forward(work=forward(Kind.DENOISE, FromLatent(LATENT), 0.5), latents=b"latents"),
            ),
        ),
        Task(sequence=DispatchNumber(6), order=(Forward(work=FOLDING),)),
        Task(sequence=DispatchNumber(5), order=(Forward(work=replace(TURNED, bias=Bias(0.1, (2**40, 0)))),)),
        Task(sequence=DispatchNumber(5), order=(Forward(work=TURNED), Forward(work=changed(TURNED, read_turns=())))),
        Task(sequence=DispatchNumber(2**40), order=Decode(work=DECODE, latents=b"latents")),
        PrepareStream(worker=WORKER, session=SESSION, slot=SlotId(0), settings=SETTINGS),
        PrepareStream(worker=WORKER, session=SESSION, slot=SlotId(0), settings=TINY),
        EncodeGiven(order=PART, pictures=(b"one", b"two")),
        EncodeGiven(order=IMAGE, pictures=(b"image",)),
        Task(sequence=DispatchNumber(3), order=Decode(work=replace(DECODE, settings=TINY), latents=b"latents")),
        PrepareStream(worker=WORKER, session=SESSION, slot=SlotId(3), settings=SETTINGS, image=ImageId(0)),
        PrepareStream(worker=WORKER, session=SESSION, slot=SlotId(3), settings=SETTINGS, origin=SlotId(0)),
        PrepareStream(worker=WORKER, session=SESSION, slot=SlotId(3), settings=SETTINGS, started=True),
        Task(sequence=DispatchNumber(4), order=Decode(work=replace(DECODE, picture_count=0), latents=b"latents")),
        Stow(worker=WORKER, session=SESSION, image=ImageId(2**40), source=(PageId(7), PageId(0))),
        Stow(worker=WORKER, session=SESSION, image=ImageId(0), source=SlotId(0)),
        LoadImage(worker=WORKER, session=SESSION, image=ImageId(0), target=(PageId(0), PageId(7))),
        Give(worker=WORKER, session=SESSION, image=ImageId(1), to=WorkerId("denoise-1")),
        Take(worker=WORKER, session=SESSION, image=ImageId(1), origin=WorkerId("denoise-1")),
        Discard(worker=WORKER, image=ImageId(5)),
        EncodeText(worker=WORKER, conditioning=TEXT, prompt="ein roter Ball, 赤い玉"),
        Forget(worker=WORKER, session=SESSION, version=0),
        Forget(worker=WORKER, session=SESSION, version=None),
        JoinChain(2**40),
        Shutdown(),
    ],
)
def test_what_the_engine_says_survives_the_link(message: Down) -> None:
    sent = pb.AttachResponse.FromString(down_to_proto(message).SerializeToString())
    assert down_from_proto(sent, WORKER) == message


@pytest.mark.parametrize(
    "message",
    [
        Done(sequence=DispatchNumber(0), seconds=0.25),
        Done(sequence=DispatchNumber(2), outputs=(OUTPUT, b"others")),
        Done(sequence=DispatchNumber(1), segment=b"segment"),
        Failed(sessions=(SESSION, SessionId("t")), sequence=DispatchNumber(0), reason="no memory"),
        Failed(sessions=(SESSION,), sequence=DispatchNumber(0), reason="nan", outputs=(OUTPUT, b"")),
        Failed(sessions=(SESSION,), sequence=None, reason="no such codec"),
        Encoded(conditioning=TEXT, tensor=b"text", notice="ignored words: zork"),
        Prepared(session=SESSION, header=b"ftyp", media_type="video/mp4"),
        GivenEncoded(session=SESSION, part=0, latents=b"one frame"),
        GivenEncoded(session=SESSION, part=2, unfit="open.given[6]: no picture"),
        ImageStowed(image=ImageId(2**40)),
        ImageLoaded(image=ImageId(0)),
        ImageGone(image=ImageId(7), reason="nobody came"),
        Heartbeat(),
        Heartbeat(host_bytes=1, resident_bytes=2**40, copied_out_bytes=3, copied_in_bytes=4),
    ],
)
def test_what_a_worker_says_survives_the_link(message: Up) -> None:
    sent = pb.AttachRequest.FromString(up_to_proto(message).SerializeToString())
    assert up_from_proto(sent) == message


def test_an_introduction_survives_the_link() -> None:
    assert hello_from_proto(hello_to_proto(INTRODUCTION).hello) == INTRODUCTION
    part = Part(seat=Seat(replica=WorkerId("denoise-0"), rank=1, length=3), layers=range(8, 19))
    member = replace(INTRODUCTION, part=part)
    assert hello_from_proto(hello_to_proto(member).hello) == member
    placed = replace(INTRODUCTION, sites=(Site(node="node-1", pod="", device="GPU-1"),))
    assert hello_from_proto(hello_to_proto(placed).hello) == placed


def test_a_place_whose_names_no_label_could_hold_is_refused() -> None:
    hello = hello_to_proto(INTRODUCTION).hello
    hello.site.pod = "p" * 254
    with pytest.raises(InvalidField, match=r"hello\.site\.pod: .* up to 253 characters"):
        hello_from_proto(hello)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (pb.Part(length=2, layers=1), "hello.part.replica: ''"),
        (pb.Part(replica="r", length=1, layers=1), "hello.part.length: 1 is not allowed; allowed: 2 or more"),
        (pb.Part(replica="r", length=2, rank=2, layers=1), "hello.part.rank: 2 is not allowed; allowed: 0 to 1"),
        (pb.Part(replica="r", length=2), "hello.part.layers: 0"),
    ],
)
def test_a_part_that_no_chain_has_is_refused(part: pb.Part, message: str) -> None:
    hello = hello_to_proto(INTRODUCTION).hello
    hello.part.CopyFrom(part)
    with pytest.raises(InvalidField, match=message):
        hello_from_proto(hello)


def test_a_long_reason_is_cut() -> None:
    failed = up_from_proto(up_to_proto(Failed(sessions=(SESSION,), sequence=None, reason="x" * 99_999)))
    assert isinstance(failed, Failed)
    assert len(failed.reason) == MAX_REASON


def test_a_long_reason_for_the_loss_of_an_image_is_cut() -> None:
    gone = up_from_proto(up_to_proto(ImageGone(image=ImageId(0), reason="x" * 99_999)))
    assert isinstance(gone, ImageGone)
    assert len(gone.reason) == MAX_REASON


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.AttachResponse(stow=pb.Stow(session="s")), "stow.source: None"),
        (pb.AttachResponse(stow=pb.Stow(session="s", pages=pb.Pages())), r"stow.pages: \[\]"),
        (pb.AttachResponse(stow=pb.Stow(slot=0)), "stow.session"),
        (pb.AttachResponse(load=pb.Load(session="s")), r"load.target: \[\]"),
        (pb.AttachResponse(load=pb.Load(target=[0])), "load.session"),
        (pb.AttachResponse(give=pb.Give(session="s")), "give.to"),
        (pb.AttachResponse(give=pb.Give(to="denoise-1")), "give.session"),
        (pb.AttachResponse(prepare_stream=pb.PrepareStream(session="s")), "settings.decoder: 0"),
        (pb.AttachResponse(encode_pictures=pb.EncodePictures(session="s")), "encode_pictures.pictures: 0"),
        (pb.AttachResponse(take=pb.Take(session="s")), "take.origin"),
        (pb.AttachResponse(take=pb.Take(origin="denoise-1")), "take.session"),
    ],
)
def test_orders_about_images_that_cannot_be_meant_are_refused(message: pb.AttachResponse, field: str) -> None:
    with pytest.raises(InvalidField, match=field):
        down_from_proto(message, WORKER)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (pb.PrepareStream(image=0, origin=0), "image and origin"),
        (pb.PrepareStream(image=0, started=True), "image and started"),
        (pb.PrepareStream(origin=0, started=True), "origin and started"),
    ],
)
def test_a_slot_cannot_begin_with_two_things(said: pb.PrepareStream, value: str) -> None:
    with pytest.raises(InvalidField, match=f"prepare_stream: '{value}' is not allowed; allowed: at most one"):
        down_from_proto(pb.AttachResponse(prepare_stream=said), WORKER)


def hello_that_says(numerics: str) -> pb.Hello:
    hello = hello_to_proto(INTRODUCTION).hello
    hello.numerics = numerics
    return hello


@pytest.mark.parametrize("numerics", ["AB", "a\nb", "a\n", "a" * 65, "sha"])
def test_a_fingerprint_that_is_none_is_refused(numerics: str) -> None:
    with pytest.raises(InvalidField, match=r"hello\.numerics"):
        hello_from_proto(hello_that_says(numerics))


def test_a_worker_may_say_nothing_of_its_numerics() -> None:
    assert hello_from_proto(hello_that_says("")).ability.numerics == ""


def test_messages_that_say_nothing_are_refused() -> None:
    for convert in (
        lambda: up_from_proto(pb.AttachRequest()),
        lambda: up_from_proto(pb.AttachRequest(op_done=pb.OpDone(seconds=float("nan")))),
        lambda: up_from_proto(pb.AttachRequest(op_done=pb.OpDone(seconds=-1.0))),
        lambda: up_from_proto(hello_to_proto(INTRODUCTION)),
        lambda: down_from_proto(pb.AttachResponse(), WORKER),
        lambda: down_from_proto(pb.AttachResponse(dispatch=pb.Dispatch()), WORKER),
        lambda: down_from_proto(pb.AttachResponse(dispatch=pb.Dispatch(forward=pb.ForwardBatch())), WORKER),
        lambda: down_from_proto(
            pb.AttachResponse(dispatch=pb.Dispatch(forward=pb.ForwardBatch(items=[pb.ForwardItem()]))), WORKER
        ),
        lambda: hello_from_proto(pb.Hello(worker="w", role=pb.ROLE_DENOISE, capacity=1)),
        lambda: hello_from_proto(pb.Hello(worker="w", role=pb.ROLE_DENOISE, batch_limit=1)),
        lambda: hello_from_proto(pb.Hello(worker="w", capacity=1, batch_limit=1)),
        lambda: hello_from_proto(pb.Hello(role=pb.ROLE_DECODE, capacity=1, batch_limit=1)),
    ):
        with pytest.raises(InvalidField):
            convert()
