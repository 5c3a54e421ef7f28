"""A stream without a server: the same request, checks and events as over gRPC, from `cluster.render`."""

from __future__ import annotations

from collections.abc import Callable

from cluster import requests
from cluster.launch import POCKET, model_path
from cluster.outbox import ClientMessage
from cluster.render import RenderRequest, render
from cluster.responses import Speaker, Terms
from cluster.serve import offer_for
from longtake.client_events import Decoder, Event
from longtake.core.admission import Limits
from longtake.core.errors import InvalidField
from longtake.core.work import SessionId
from protos.longtake.v1 import longtake_pb2 as pb
from workers.models import weights

LIMITS = Limits(max_sessions=1)


async def render_events(
    request: pb.Open,
    take: Callable[[Event], object],
    *,
    model: str = POCKET,
    device: str = "cpu",
    dtype: str = "float32",
) -> None:
    """Generate what `request` asks for and pass each event to `take`, in order; the last is a ClosedEvent.

    Raises InvalidField or Contradiction, as a server would answer, and Unavailable if an op fails.
    """
    path = model_path(model)
    offer = offer_for(weights.load_info(path), LIMITS)
    asked = requests.open_event(pb.StreamRequest(open=request), session=SessionId("render"), offer=offer, now_s=0.0)
    if asked.picture_limit is None:
        raise InvalidField("open.duration", None, "a length: without a server a stream must have its end")
    speaker = Speaker(offer, Terms(window=asked.window, pace=asked.pace, picture_limit=asked.picture_limit))
    decoder = Decoder()

    def tell(message: ClientMessage) -> None:
        for frame in speaker.stream_frames(message):
            event = decoder.feed(frame)
            if event is not None:
                take(event)

    await render(
        path,
        RenderRequest(
            prompt=asked.prompt,
            seed=asked.seed,
            picture_limit=asked.picture_limit,
            settings=asked.settings,
            cues=asked.cues,
        ),
        lambda data: None,
        tell=tell,
        device=device,
        dtype=dtype,
    )
