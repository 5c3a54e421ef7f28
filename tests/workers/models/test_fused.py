"""Fused networks: the plain ones but for rounding, compiled once for all layers, and the same bits every time."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import accumulate

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from tests.programs import needs
from tests.samples import first
from tests.workers.model_dir import DIT, VAE
from tests.workers.reference import GOLDENS, Golden, generated
from workers.denoise.attention import ItemPages, PagedAttention
from workers.denoise.kv import PageMemory
from workers.models.api import Conditioning, Inputs, TextKV
from workers.models.wan.dit import WanModel
from workers.models.wan.fused_dit import fuse
from workers.models.wan.fused_vae import FusedDecoder
from workers.models.wan.vae import WanDecoder

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # the compiler's own


@pytest.mark.slow
@pytest.mark.skipif(not GOLDENS, reason="no goldens are here")
@needs("g++")
def test_a_fused_model_gives_the_references_latents() -> None:
    # The first test of this file: kernels are made for it, and for no other.
    golden = Golden.load("hiar_tiny_A")
    here = replace(golden)  # with a network of its own
    fuse(here.model)
    made = generated(here, here.plan, here.lanes("paged", here.plan))
    torch.testing.assert_close(made, golden.tensors["out.timestep_first"], atol=2e-5, rtol=0)


@pytest.fixture(scope="module")
def traced() -> Iterator[None]:
    """Functions are traced as they are compiled, but run without kernels, which take minutes to make on a CPU."""
    torch.compiler.reset()  # what other tests have compiled does not count here
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
        yield


def lively(module: torch.nn.Module) -> None:
    """Give every parameter a value of its own: norms of 1 and biases of 0 hide what is left out."""
    random = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data = parameter.data + 0.2 * torch.randn(parameter.shape, generator=random)
    module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def plain() -> WanModel:
    torch.manual_seed(0)
    model = WanModel(replace(DIT, num_layers=4))
    lively(model)
    return model


@pytest.fixture(scope="module")
def fused(plain: WanModel, traced: None) -> WanModel:
    model = deepcopy(plain)
    fuse(model)
    return model


def prepared(model: WanModel, batch: int) -> tuple[Inputs, PageMemory]:
    """An op over `batch` items, and the pages that it writes to."""
    random = torch.Generator().manual_seed(3)
    memory = PageMemory(model.page_shape(4), 3 * batch, device=CPU, dtype=model.dtype)
    memory.kv_YUPLND.normal_(generator=random)
    text = [model.encode_text(torch.randn(1, 5, model.config.text_dim, generator=random)) for _ in range(3)][:batch]
    x_BFCHW = torch.randn(3, 2, 4, 4, 4, generator=random)[:batch]
    pages = [ItemPages(reads=(3 * n, 3 * n + 1, 3 * n + 2), writes=(3 * n + 1, 3 * n + 2)) for n in range(batch)]
    inputs = Inputs(
        x_BFCHW=x_BFCHW,
        timestep_BF=torch.tensor([[900.0, 900.0], [50.0, 50.0], [333.3, 333.3]])[:batch],
        position_BF=torch.tensor([[1, 2], [1000, 1001], [77, 78]])[:batch],
        conditioning=Conditioning(text=TextKV.batch(text)),
        attention=PagedAttention(memory, pages),
    )
    return inputs, memory


def denoised(model: WanModel, batch: int) -> tuple[Tensor, Tensor]:
    """The flow of a denoise op, and the K/V that it leaves."""
    inputs, memory = prepared(model, batch)
    with torch.inference_mode():
        return model.denoise(inputs), memory.kv_YUPLND


def test_fused_layers_are_the_plain_ones_and_compiled_once_for_all(plain: WanModel, fused: WanModel) -> None:
    before = counters["stats"]["unique_graphs"]
    for batch in (1, 3):
        (expected, expected_kv), (flow, kv) = denoised(plain, batch), denoised(fused, batch)
        torch.testing.assert_close(flow, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(kv, expected_kv, atol=1e-5, rtol=0)
        assert expected.std() > 0.1
    assert counters["stats"]["unique_graphs"] == before + 4, "two functions, of two batch sizes"


def test_a_commit_leaves_what_a_forward_leaves(fused: WanModel) -> None:
    inputs, memory = prepared(fused, 1)
    with torch.inference_mode():
        fused.commit(inputs)
    torch.testing.assert_close(memory.kv_YUPLND, denoised(fused, 1)[1], atol=1e-5, rtol=0)


def test_bits_do_not_change_from_one_forward_to_the_next(fused: WanModel) -> None:
    assert all(map(torch.equal, denoised(fused, 1), denoised(fused, 1)))


@pytest.fixture(scope="module")
def decoders(traced: None) -> tuple[WanDecoder, FusedDecoder]:
    torch.manual_seed(0)
    config = replace(VAE, dim_mult=(1, 2), temporal_downsample=(True,))
    plain = WanDecoder(config)
    lively(plain)
    return plain, FusedDecoder(plain)


def streamed(decoder: WanDecoder | FusedDecoder, chunks: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The pictures of each chunk and what is carried in the end."""
    state = decoder.initial_state(1, 4, 6)
    with torch.inference_mode():
        return [decoder.decode(chunk, state) for chunk in chunks], state.history_BFHWC


def chunks(*frames: int) -> list[Tensor]:
    latents = torch.randn(1, VAE.z_dim, sum(frames), 4, 6, generator=torch.Generator().manual_seed(2))
    ends = list(accumulate(frames))
    return [latents[:, :, end - count : end] for end, count in zip(ends, frames, strict=True)]


@pytest.mark.parametrize("frames", first(1, [(1, 2, 1), (3, 3, 3)]))
def test_the_fused_decoder_is_the_plain_one_over_a_stream(
    decoders: tuple[WanDecoder, FusedDecoder], frames: tuple[int, ...]
) -> None:
    plain, fused = decoders
    (expected, expected_state), (made, state) = streamed(plain, chunks(*frames)), streamed(fused, chunks(*frames))
    for ours, theirs in zip([*made, *state], [*expected, *expected_state], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert expected[-1].std() > 0.1


def test_after_the_second_block_nothing_is_compiled(decoders: tuple[WanDecoder, FusedDecoder]) -> None:
    _, fused = decoders
    streamed(fused, chunks(3, 3))
    before = counters["stats"]["unique_graphs"]
    first = streamed(fused, chunks(3, 3, 3, 3))
    assert counters["stats"]["unique_graphs"] == before
    assert all(map(torch.equal, first[0], streamed(fused, chunks(3, 3, 3, 3))[0]))


def test_a_decode_that_fails_leaves_the_stream_where_it_was(decoders: tuple[WanDecoder, FusedDecoder]) -> None:
    _, fused = decoders
    state = fused.initial_state(1, 4, 6)
    with pytest.raises(RuntimeError):
        fused.decode(torch.randn(1, VAE.z_dim, 1, 5, 6), state)
    assert not state.started
    assert not any(history.any() for history in state.history_BFHWC)
