"""Rendering without a server: the real engine, one denoise and one decode worker, all in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path

from cluster.cell.engine import Engine
from cluster.cell.journal import NOTHING_GIVEN, GivenPictures
from cluster.cell.outbox import ClientMessage, Outbox, SegmentOut
from cluster.config import ClusterSection
from cluster.frontend import requests
from cluster.frontend.offer import offer_for
from cluster.frontend.responses import Speaker
from cluster.launch.in_process import InProcessLauncher
from cluster.launch.plan import POCKET, model_path, needs_text_workers, replicas
from cluster.launch.served import served_recipes
from longtake.client.decoder import Decoder
from longtake.client.events import StreamEvent
from longtake.core.effects import Closed, Refused
from longtake.core.endings import Ending
from longtake.core.errors import Declined, InvalidField, Unavailable
from longtake.core.events import Ack, Close, Open
from longtake.core.limits import Limits
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.table import NamedRecipe
from longtake.core.scheduler import Scheduler
from longtake.core.work import Role, SessionId, WorkerId
from longtake.v1 import longtake_pb2 as pb
from monitoring.folding.recorder import Recorder
from workers.models import weights
from workers.models.api import Compute
from workers.start.spec import WorkerSpec

_CPU = Compute()


def in_process_workers(
    model: Path,
    recipe: Recipe,
    *,
    denoise: int = 1,
    decode: int = 1,
    text: int = 0,
    sessions: int = 1,
    compute: Compute = _CPU,
    max_batch: int = ClusterSection().max_batch,
) -> tuple[WorkerSpec, ...]:
    """This many workers of each role, each with room for `sessions` sessions."""
    first = WorkerSpec(
        worker=WorkerId(""),
        role=Role.DENOISE,
        capacity=sessions * recipe.page_count * recipe.lane_count,
        model=model,
        compute=compute,
        max_batch=max_batch,
    )
    decoders, texters = (replace(first, role=role, capacity=sessions) for role in (Role.DECODE, Role.TEXT))
    return (*replicas(first, denoise), *replicas(decoders, decode), *replicas(texters, text))


@contextlib.asynccontextmanager
async def in_process_engine(
    model: Path,
    workers: tuple[WorkerSpec, ...],
    limits: Limits | None = None,
    recorder: Recorder | None = None,
    recipes: Iterable[NamedRecipe] = (),
) -> AsyncIterator[Engine]:
    """A running engine with its workers in this process; sessions may ask for `recipes` by name."""
    info = weights.load_info(model)
    scheduler = Scheduler(info.recipe, info.geometry, limits or Limits())
    for each in recipes:
        scheduler.serve(each.name, each.recipe)
    engine = Engine(scheduler, recorder)
    launcher = InProcessLauncher(workers, engine)
    running = asyncio.create_task(engine.run())
    try:
        await launcher.start()
        yield engine
    finally:
        await launcher.stop()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def _at_once() -> None:
    """There is always room."""


async def render(
    model: Path,
    request: Open,
    tell: Callable[[ClientMessage], object],
    *,
    room: Callable[[], Awaitable[None]] = _at_once,
    compute: Compute = _CPU,
    denoise: int = 1,
    recipe: NamedRecipe | None = None,
    pictures: GivenPictures = NOTHING_GIVEN,
) -> Closed:
    """Generate the stream that is asked for and pass every message that a client would get to `tell`, in order.

    After each `room` is awaited: a window of blocks later nothing more is generated until it returns.

    The same request to a server gives the same latents and segments. Returns how it ended, COMPLETED as a rule. Raises
    Declined, with the problem, if the request is refused, or Unavailable if an op failed. When cancelled, everything
    stops; what was told is a playable file. `denoise` workers share the device. `recipe` is that of the request, if it
    names one; `pictures` are those that its client gives.
    """
    info = weights.load_info(model)
    text = int(needs_text_workers(info, compute.device))
    served = () if recipe is None else (recipe,)
    made = info.recipe if recipe is None else recipe.recipe
    workers = in_process_workers(model, made, denoise=denoise, text=text, compute=compute)
    workers = tuple(replace(spec, recipes=tuple(each.recipe for each in served)) for spec in workers)
    async with in_process_engine(model, workers, recipes=served) as engine:
        outbox = Outbox()
        engine.attach(request.session, outbox)
        engine.journal.give(request.session, pictures)
        engine.submit(request)
        try:
            return await _consume(engine, request.session, outbox, tell, room)
        finally:
            engine.submit(Close(now_s=engine.now_s(), session=request.session, ending=Ending.CLIENT))


async def _consume(
    engine: Engine,
    session: SessionId,
    outbox: Outbox,
    tell: Callable[[ClientMessage], object],
    room: Callable[[], Awaitable[None]],
) -> Closed:
    while True:
        message = await outbox.get()
        tell(message)
        await room()
        match message:
            case SegmentOut():
                engine.submit(Ack(now_s=engine.now_s(), session=session, segment=message.emit.block))
            case Refused():
                raise Declined(message.problem)
            case Closed(ending=Ending.LOST | Ending.FAILED):
                raise Unavailable(message.reason)
            case Closed():
                return message
            case _:
                pass


LIMITS = Limits(max_sessions=1)


async def render_events(
    request: pb.Open,
    take: Callable[[StreamEvent], object],
    *,
    room: Callable[[], Awaitable[None]] = _at_once,
    model: str = POCKET,
    device: str = "cpu",
    dtype: str = "float32",
    recipe: str = "",
) -> None:
    """Generate what `request` asks for and pass each event to `take`, in order; the last is a ClosedEvent.

    After what belongs together `room` is awaited, see `render`. The stream is made by `recipe`, the name of one that
    ships or the path of a file, or by the model's own.

    Raises InvalidField or Contradiction, as a server would answer, and Unavailable if an op fails.
    """
    path = model_path(model)
    info = weights.load_info(path)
    served = served_recipes(info, (recipe,) if recipe else (), is_pocket=model == POCKET)
    made, offer = served[-1], offer_for(info, LIMITS, served, encodes=weights.encodes(path))
    frame = pb.StreamRequest(open=request)
    frame.open.recipe = made.name  # by which it is checked: it may be the path of a file
    asked = requests.open_event(frame, session=SessionId("render"), offer=offer, now_s=0.0)
    if asked.picture_limit is None:
        raise InvalidField("open.duration", None, "a length: without a server a stream must have its end")
    speaker, decoder = Speaker(offer), Decoder()

    def tell(message: ClientMessage) -> None:
        for frame in speaker.stream_frames(message):
            event = decoder.feed(frame)
            if event is not None:
                take(event)

    compute = Compute(device=device, dtype=dtype)
    pictures = GivenPictures(given=tuple(request.given), references=tuple(request.references))
    await render(path, asked, tell, room=room, compute=compute, recipe=made, pictures=pictures)
