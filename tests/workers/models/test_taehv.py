"""The tiny decoder: equal to the public implementation, the same bits however a clip is cut, and constant in size."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from longtake.core.errors import InvalidField
from tests.workers.waits import Waits
from workers.models.api import CarriedState
from workers.models.wan.config import TaehvConfig
from workers.models.wan.sizes import tiny_config
from workers.models.wan.taehv import TaehvDecoder

torch.set_num_threads(1)

GOLDEN = Path(__file__).parents[2] / "goldens" / "taew_tiny.safetensors"
ATOL = json.loads(GOLDEN.with_suffix(".json").read_text())["tolerance"]
PUBLISHED = TaehvConfig(z_dim=16, widths=(256, 128, 64, 64), growth=(1, 2, 2))


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


@pytest.fixture(scope="module")
def reference(golden: dict[str, Tensor]) -> TaehvDecoder:
    weights = {name.removeprefix("weights."): t for name, t in golden.items() if name.startswith("weights.")}
    decoder = TaehvDecoder(tiny_config(lambda name: tuple(weights[name].shape)))
    decoder.load_state_dict(weights, strict=True)
    return decoder.requires_grad_(False)


def latents(golden: dict[str, Tensor]) -> Tensor:
    return golden["latents_TCHW"].transpose(0, 1)[None]


def decode(decoder: TaehvDecoder, z_BCFHW: Tensor, chunks: list[int]) -> tuple[Tensor, CarriedState]:
    state = decoder.initial_state(z_BCFHW.shape[0], *z_BCFHW.shape[3:])
    with torch.inference_mode():
        parts = [decoder.decode(chunk, state) for chunk in torch.split(z_BCFHW, chunks, 2)]
    return torch.cat(parts, 2), state


def test_it_reproduces_the_public_implementation(golden: dict[str, Tensor], reference: TaehvDecoder) -> None:
    pixels_BCFHW, _ = decode(reference, latents(golden), [7])
    shown_TCHW = (pixels_BCFHW[0].transpose(0, 1) + 1) / 2
    torch.testing.assert_close(shown_TCHW, golden["untrimmed_TCHW"][3:], rtol=0, atol=ATOL)
    torch.testing.assert_close(shown_TCHW.clamp(0, 1), golden["pictures_TCHW"], rtol=0, atol=ATOL)


@pytest.mark.parametrize("number", range(9))
def test_the_golden_tells_a_memory_that_forgets(
    golden: dict[str, Tensor], reference: TaehvDecoder, number: int
) -> None:
    z, state = latents(golden), reference.initial_state(1, 4, 6)
    for frame in torch.split(z, 1, 2):
        state.history_BFHWC[number].zero_()
        last = reference.decode(frame, state)
    expected = golden["pictures_TCHW"][-4:] * 2 - 1
    assert float((last[0].transpose(0, 1).clamp(-1, 1) - expected).abs().max()) > 10 * ATOL


@given(
    chunks=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    batch=st.integers(1, 2),
)
@settings(max_examples=20, deadline=None)
def test_any_chunking_gives_the_bits_of_one_call(chunks: list[int], size: tuple[int, int], batch: int) -> None:
    torch.manual_seed(0)
    decoder = TaehvDecoder(TaehvConfig(z_dim=5, widths=(9, 6, 8, 4), growth=(1, 2, 2)))
    decoder.lay_out()
    z = torch.randn(batch, 5, sum(chunks), *size)
    whole, whole_state = decode(decoder, z, [sum(chunks)])
    cut, cut_state = decode(decoder, z, chunks)
    assert whole.shape == (batch, 3, 4 * sum(chunks) - 3, 8 * size[0], 8 * size[1])
    assert torch.equal(cut, whole)
    for ours, theirs in zip(cut_state.history_BFHWC, whole_state.history_BFHWC, strict=True):
        assert torch.equal(ours, theirs)
    alone = torch.cat([decode(decoder, item, chunks)[0] for item in torch.split(z, 1)])
    assert torch.equal(alone, whole)


def test_the_state_has_one_size_for_ever(golden: dict[str, Tensor], reference: TaehvDecoder) -> None:
    state, expected = reference.initial_state(1, 4, 6), reference.state_shapes(1, 4, 6)
    assert expected == [(1, 1, 4, 6, 24)] * 3 + [(1, 1, 8, 12, 16)] * 3 + [(1, 1, 16, 24, 12)] * 3
    for frame in torch.split(latents(golden), 1, 2):
        reference.decode(frame, state)
        assert [tuple(carried.shape) for carried in state.history_BFHWC] == expected
        sizes = [carried.untyped_storage().nbytes() for carried in state.history_BFHWC]
        assert sizes == [carried.numel() * 4 for carried in state.history_BFHWC], "nothing else is kept alive"


def test_the_state_of_the_published_one_is_small() -> None:
    with torch.device("meta"):
        decoder = TaehvDecoder(PUBLISHED)
    values = sum(torch.Size(shape).numel() for shape in decoder.state_shapes(1, 60, 104))
    assert 2 * values == 67_092_480, "bytes in bfloat16; the full decoder's are 1,888,573,440"


class Calls(TorchFunctionMode):
    """Counts the calls of each of torch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        self.names[getattr(func, "__name__", str(func))] += 1
        return func(*args, **(kwargs or {}))


def test_on_a_device_a_layer_is_one_call_however_many_frames() -> None:
    """The device "meta" computes nothing, and is no CPU."""
    with torch.device("meta"):
        decoder = TaehvDecoder(PUBLISHED).bfloat16().requires_grad_(False)
        decoder.lay_out()
        state = decoder.initial_state(1, 60, 104)
    counts = []
    for frames in (3, 3, 7):
        z = torch.empty(1, 16, frames, 60, 104, dtype=torch.bfloat16, device="meta")
        with Calls() as calls, Waits() as waits:
            made = decoder.decode(z, state)
        counts.append(calls.names)
        assert waits.calls == []
        assert made.shape == (1, 3, 4 * frames - 3 * (len(counts) == 1), 480, 832)
    assert counts[0] == counts[1] == counts[2]
    assert counts[0]["conv2d"] == 9 * 3 + 5 and counts[0]["linear"] == 3


def test_a_decode_that_fails_leaves_the_stream_where_it_was(golden: dict[str, Tensor], reference: TaehvDecoder) -> None:
    z, state = latents(golden), reference.initial_state(1, 4, 6)
    first = reference.decode(z[:, :, :3], state)
    with pytest.raises(RuntimeError):
        reference.decode(z[:, :, 3:, :, :4], state)
    rest = reference.decode(z[:, :, 3:], state)
    assert torch.equal(torch.cat([first, rest], 2), decode(reference, z, [7])[0])


def test_bfloat16_is_near(golden: dict[str, Tensor], reference: TaehvDecoder) -> None:
    rounded = TaehvDecoder(reference.config)
    rounded.load_state_dict(reference.state_dict())
    made, _ = decode(rounded.bfloat16(), latents(golden).bfloat16(), [1, 3, 3])
    assert made.dtype is torch.float32
    assert float((made - decode(reference, latents(golden), [7])[0]).abs().max()) < 0.1


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidField, match=r"tiny_decoder.growth: 0 is not allowed; allowed: 1 or more"):
        TaehvConfig(z_dim=4, widths=(4, 4, 4, 4), growth=(1, 0, 2))
