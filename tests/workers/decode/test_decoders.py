"""Both decoders on one worker: each session has the pictures of its own, and no state ever gets into another kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtake.core.effects import PrepareStream
from longtake.core.work import DecoderKind, SessionId, SlotId
from tests.workers.images.boxes import RAW, A, B, boxes, decode, decoder, gone, prepare, stow
from tests.workers.model_dir import write_model
from tests.workers.tiny_decoder import with_tiny
from workers.denoise.worker import tensor_from_bytes
from workers.messages import Done, Failed, ImageStowed, Prepared
from workers.models.api import Compute
from workers.models.weights import load_decoder, load_info
from workers.runner import Performer

FULL, TINY = DecoderKind.FULL, DecoderKind.TINY
BLOCKS = 4
DEVICES = ["cpu", "simulated:0ms"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder / "model")
    with_tiny(folder / "model", folder)
    return folder / "model"


def prepared(kind: DecoderKind, slot: int, session: SessionId = A, image: int | None = None) -> PrepareStream:
    return replace(prepare(slot, session, image), settings=replace(RAW, decoder=kind))


def whole(worker: Performer, kind: DecoderKind, session: SessionId = A) -> list[bytes]:
    """The segments of a stream that is alone and stays in its slot."""
    with boxes(worker) as (box,):
        box.put(prepared(kind, 0, session))
        box.hear(Prepared)
        for block in range(BLOCKS):
            box.dispatch(decode(block, 0, session))
        return [box.hear(Done).segment for _ in range(BLOCKS)]


@pytest.mark.parametrize("device", DEVICES)
def test_decoders_side_by_side_do_not_disturb_each_other(model: Path, device: str) -> None:
    alone = {
        (kind, session): whole(decoder(model, device), kind, session) for kind in DecoderKind for session in (A, B)
    }
    assert len({segment for segments in alone.values() for segment in segments}) == 4 * BLOCKS
    with boxes(decoder(model, device)) as (box,):
        box.put(prepared(TINY, 0, A), prepared(FULL, 1, B))
        for _ in range(2):
            box.hear(Prepared)
        for block in range(BLOCKS):
            box.dispatch(decode(block, 0, A))
            box.dispatch(decode(block, 1, B))
            assert box.hear(Done).segment == alone[TINY, A][block]
            assert box.hear(Done).segment == alone[FULL, B][block]


def test_the_tiny_decoder_gets_latents_as_the_denoiser_made_them(model: Path) -> None:
    info = load_info(model)
    assert info.latent_std != (1.0,) * 4 and info.latent_mean != (0.0,) * 4
    order = decode(0, 0)
    latents_FCHW = tensor_from_bytes(order.latents, info.geometry.block_shape)
    tiny = load_decoder(model, info, Compute(), TINY)
    with torch.inference_mode():
        state = tiny.initial_state(1, info.geometry.latent_height, info.geometry.latent_width)
        pixels_CFHW = tiny.decode(latents_FCHW.transpose(0, 1)[None], state)[0]
    levels = ((pixels_CFHW.double().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    expected = levels.permute(1, 2, 3, 0).numpy().tobytes()
    assert whole(decoder(model), TINY)[0] == expected


@pytest.mark.parametrize("device", DEVICES)
def test_a_stowed_state_goes_on_in_a_slot_of_its_own_decoder(model: Path, device: str) -> None:
    expected = whole(decoder(model, device), TINY)
    with boxes(decoder(model, device)) as (box,):
        box.put(prepared(TINY, 0))
        box.hear(Prepared)
        box.dispatch(decode(0, 0))
        assert box.hear(Done).segment == expected[0]
        box.put(stow(1, SlotId(0)))
        box.hear(ImageStowed)
        box.put(prepared(FULL, 0, B))  # the number is free for both
        box.hear(Prepared)
        box.put(prepared(TINY, 1, image=1))
        box.hear(Prepared)
        for block in range(1, BLOCKS):
            box.dispatch(decode(block, 1))
            assert box.hear(Done).segment == expected[block]


@pytest.mark.parametrize(("stowed", "filled"), [(TINY, FULL), (FULL, TINY)])
def test_a_state_of_the_other_decoder_is_refused(model: Path, stowed: DecoderKind, filled: DecoderKind) -> None:
    with boxes(decoder(model)) as (box,):
        box.put(prepared(stowed, 0))
        box.hear(Prepared)
        box.put(stow(1, SlotId(0)), prepared(filled, 1, image=1))
        box.hear(ImageStowed)
        gone(box, 1, "imported decoder state does not fit")


@pytest.mark.parametrize("device", DEVICES)
def test_a_decoder_that_the_model_has_not_is_refused(tmp_path: Path, device: str) -> None:
    write_model(tmp_path)
    with boxes(decoder(tmp_path, device)) as (box,):
        box.put(prepared(TINY, 0))
        assert "decoder tiny is not here: a cannot have it" in box.hear(Failed).reason
        box.put(prepared(FULL, 0))
        box.hear(Prepared)
