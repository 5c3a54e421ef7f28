"""What a decode worker says of its time when it starts: decoding and encoding, with what a stream gets by default."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cluster.frontend import requests
from cluster.frontend.offer import offer_for
from longtake.core.limits import Limits
from longtake.core.work import Role, SessionId, WorkerId
from longtake.v1 import longtake_pb2 as pb
from tests.workers.model_dir import model_info, write_model
from workers.decode.encode import Encoder, VideoSettings, encoder_for
from workers.decode.encoding import EncodingPool
from workers.decode.worker import video_settings
from workers.start import loading
from workers.start.loading import LoadedWorker
from workers.start.spec import WorkerSpec

ENCODING_S = 0.3


@dataclass
class SlowEncoder:
    """Takes long for each segment, and notes nothing else."""

    whole: Encoder

    @property
    def content_type(self) -> str:
        return self.whole.content_type

    def header(self) -> bytes:
        return self.whole.header()

    def encode(self, pictures_FHWC: NDArray[np.uint8], first_picture: int) -> bytes:
        time.sleep(ENCODING_S)
        return self.whole.encode(pictures_FHWC, first_picture)


@pytest.mark.parametrize(("threads", "least_s"), [(None, ENCODING_S), (2, ENCODING_S / 2)])
def test_the_first_estimate_of_a_block_counts_its_encoding_as_a_stream_has_it_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None, least_s: float
) -> None:
    write_model(tmp_path)
    info, asked = model_info(), list[VideoSettings]()

    def slow(settings: VideoSettings) -> Encoder:
        asked.append(settings)
        return SlowEncoder(encoder_for(settings))

    pool = None if threads is None else EncodingPool(threads)
    monkeypatch.setattr(loading, "encoder_for", slow)
    monkeypatch.setattr(loading, "encoding_beside", lambda _: pool)
    spec = WorkerSpec(worker=WorkerId("decode-0"), role=Role.DECODE, capacity=1, model=tmp_path)
    said_s = LoadedWorker(spec).introduction.ability.forward_s
    assert least_s <= said_s < least_s + ENCODING_S / 3
    frame, offer = pb.StreamRequest(open=pb.Open(prompt="a red ball")), offer_for(info, Limits())
    opened = requests.open_event(frame, session=SessionId("s"), offer=offer, now_s=0.0)
    assert asked == [video_settings(opened.settings, info.geometry)]
