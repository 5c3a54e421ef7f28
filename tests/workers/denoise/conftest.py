"""Workers over a small model, and the text of a prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from longtake.core.effects import EncodeText
from longtake.core.work import (
    Role,
    WorkerId,
)
from tests.workers.orders import PROMPT, SPEC, TEXT
from workers.decode.worker import DecodeWorker
from workers.denoise.worker import DenoiseWorker
from workers.messages import Encoded
from workers.start.loading import LoadedWorker


@pytest.fixture
def denoiser(model: Path) -> DenoiseWorker:
    worker = LoadedWorker(replace(SPEC, model=model)).fresh()
    assert isinstance(worker, DenoiseWorker)
    return worker


@pytest.fixture
def decoder(model: Path) -> DecodeWorker:
    worker = LoadedWorker(replace(SPEC, model=model, role=Role.DECODE, capacity=2)).fresh()
    assert isinstance(worker, DecodeWorker)
    return worker


@pytest.fixture
def text(decoder: DecodeWorker) -> bytes:
    message = EncodeText(worker=WorkerId("decode-0"), conditioning=TEXT, prompt=PROMPT)
    (encoded,) = decoder.perform(message)
    assert isinstance(encoded, Encoded)
    return encoded.tensor
