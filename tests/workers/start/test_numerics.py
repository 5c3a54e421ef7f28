"""The fingerprint of how a worker rounds: the same wherever it is the same, and another when one bit is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from longtake.core.work import Role, WorkerId
from tests.workers.model_dir import model_info, write_model
from tests.workers.text_dir import write_text_model
from tests.workers.tiny_decoder import with_tiny
from workers.denoise.kv import PageMemory
from workers.models.api import CarriedState, Compute, Denoiser, Inputs, LatentDecoder
from workers.models.wan.dit import WanModel
from workers.models.weights import load_decoder, load_denoiser
from workers.start import loading
from workers.start.attention import Extent, choose
from workers.start.loading import LoadedWorker
from workers.start.numerics import (
    Kernels,
    Numerics,
    decode_numerics,
    denoise_numerics,
    text_numerics,
)
from workers.start.probe import Subject
from workers.start.seeded import Purpose, digest_of, fill, seeded
from workers.start.spec import WorkerSpec

INFO = model_info()
CPU = torch.device("cpu")
COMPUTE = Compute()
_IN_ANOTHER_PROCESS = """
import sys, torch
from pathlib import Path
from tests.workers.start.test_numerics import worker
from longtake.core.work import Role
torch.manual_seed(7)  # what a process drew before counts for nothing
torch.randn(3)
for role in (Role.DENOISE, Role.DECODE):
    print(worker(role, Path(sys.argv[1])).introduction.ability.numerics)
"""


def worker(role: Role, model: Path, **changes: object) -> LoadedWorker:
    spec = WorkerSpec(worker=WorkerId("w"), role=role, capacity=INFO.recipe.page_count, model=model)
    return LoadedWorker(replace(spec, **changes))  # type: ignore[arg-type]


def denoising(model: Path, *, layers: range | None = None, **how: object) -> Numerics:
    compute = Compute(**how)  # type: ignore[arg-type]
    return numerics_of(load_denoiser(model, INFO, compute, layers), compute)


def numerics_of(denoiser: Denoiser, compute: Compute = COMPUTE) -> Numerics:
    attention = choose(Extent.of(INFO), compute)
    subject = Subject(denoiser=denoiser, attention=attention.backend, geometry=INFO.geometry, recipe=INFO.recipe)
    return denoise_numerics(subject, compute, attention.name)


def decoding(*decoders: LatentDecoder) -> Numerics:
    return decode_numerics(decoders, INFO.geometry, COMPUTE)


def with_another_bit(module: object, name: str) -> None:
    """Change the last bit of one weight: of the largest, because what it adds to a sum is not rounded away."""
    assert isinstance(module, torch.nn.Module)
    weight = module.get_parameter(name).data
    largest = torch.unravel_index(weight.abs().argmax(), weight.shape)
    weight[largest] = torch.nextafter(weight[largest], torch.tensor(torch.inf))


# --- the same, and not the same ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_with_the_same_kernels_and_weights_have_one_fingerprint(model: Path) -> None:
    told = [
        subprocess.run(
            [sys.executable, "-c", _IN_ANOTHER_PROCESS, str(model)], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    here = [worker(role, model).introduction.ability.numerics for role in (Role.DENOISE, Role.DECODE)]
    assert told == [here, here]
    assert len(set(here)) == 2 and all(len(one) == 64 for one in here)


@pytest.mark.parametrize("name", ["patch_embedding.weight", "blocks.1.self_attn.k.weight", "head.head.weight"])
def test_the_last_bit_of_one_weight_of_a_transformer_counts(model: Path, name: str) -> None:
    denoiser = load_denoiser(model, INFO, Compute())
    before = numerics_of(denoiser)
    with_another_bit(denoiser, name)
    after = numerics_of(denoiser)
    assert after.kernels == before.kernels
    assert after.digest != before.digest and after.fingerprint != before.fingerprint


def test_the_last_bit_of_one_weight_of_a_decoder_counts(model: Path) -> None:
    decoder = load_decoder(model, INFO, Compute())
    before = decoding(decoder)
    with_another_bit(decoder, "conv2.weight")
    assert decoding(decoder).digest != before.digest


def test_each_of_a_workers_decoders_counts(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    plain = worker(Role.DECODE, tmp_path / "model").introduction.ability.numerics
    info = with_tiny(tmp_path / "model", tmp_path)
    both = worker(Role.DECODE, tmp_path / "model").introduction.ability.numerics
    decoders = [load_decoder(tmp_path / "model", info, COMPUTE, kind) for kind in info.decoders]
    assert len(decoders) == 2
    assert decoding(*decoders).fingerprint == both != plain == decoding(decoders[0]).fingerprint
    name, _ = next(iter(decoders[1].named_parameters()))  # type: ignore[attr-defined]
    with_another_bit(decoders[1], name)
    assert decoding(*decoders).fingerprint != both


def test_the_number_format_and_the_held_layers_count(model: Path) -> None:
    whole = denoising(model)
    assert denoising(model) == whole
    others = [
        denoising(model, dtype="bfloat16"),
        denoising(model, layers=range(1)),
        denoising(model, layers=range(1, 2)),
    ]
    assert len({one.fingerprint for one in (whole, *others)}) == 4
    assert others[0].kernels.dtype == "bfloat16"


def test_another_attention_kernel_counts_by_its_name_and_by_what_it_computes(model: Path) -> None:
    usual = denoising(model)
    with sdpa_kernel(SDPBackend.MATH):
        other = denoising(model)
    assert (usual.kernels.attention, other.kernels.attention) == ("flash", "math")
    assert usual.digest != other.digest


@pytest.mark.parametrize(
    "change",
    [
        {"torch_version": "0"}, {"device": "AVX2"}, {"dtype": "bfloat16"}, {"cuda": "13.0"}, {"cudnn": "91501"},
        {"threads": 2}, {"attention": "math"}, {"fused": True},
    ],
)  # fmt: skip
def test_every_name_counts_though_the_digest_is_the_same(change: dict[str, str]) -> None:
    kernels = Kernels(torch_version="2", device="AVX512", dtype="float32", threads=1, attention="flash")
    known = Numerics(kernels=kernels, digest="ab")
    other = replace(known, kernels=replace(kernels, **change))  # type: ignore[arg-type]
    assert other.fingerprint != known.fingerprint
    assert replace(known, digest="cd").fingerprint != known.fingerprint


def test_on_a_cpu_the_threads_that_share_a_sum_are_told() -> None:
    kernels = Kernels.of(COMPUTE)
    assert (kernels.threads, kernels.cuda, kernels.cudnn) == (1, "", "")
    assert kernels.device == torch.backends.cpu.get_cpu_capability()
    torch.set_num_threads(2)
    try:
        assert Kernels.of(COMPUTE) == replace(kernels, threads=2)
    finally:
        torch.set_num_threads(1)


class Forgetful:
    """A decoder that gives the right pictures for the first block, and carries on a state with another bit."""

    def __init__(self, decoder: LatentDecoder) -> None:
        self._decoder = decoder

    def __getattr__(self, name: str) -> object:
        return getattr(self._decoder, name)

    def decode(self, z_BCFHW: Tensor, state: CarriedState) -> Tensor:
        pixels = self._decoder.decode(z_BCFHW, state)
        state.history_BFHWC[0] = torch.nextafter(state.history_BFHWC[0], torch.tensor(torch.inf))
        return pixels


def test_what_a_decoder_carries_from_block_to_block_counts(model: Path) -> None:
    decoder = load_decoder(model, INFO, Compute())
    forgetful: LatentDecoder = Forgetful(decoder)  # type: ignore[assignment]
    right, wrong = (decoding(each) for each in (decoder, forgetful))
    assert right.digest != wrong.digest


def test_text_workers_have_one_too(tmp_path: Path) -> None:
    write_text_model(tmp_path)
    first, second = (worker(Role.TEXT, tmp_path).introduction.ability.numerics for _ in range(2))
    assert first == second != ""
    half = worker(Role.TEXT, tmp_path, compute=Compute(dtype="bfloat16")).introduction.ability.numerics
    assert half != first


def test_the_digest_of_a_text_is_of_its_features() -> None:
    class Text:
        def __init__(self, value: float) -> None:
            self.features_TC = torch.tensor([[value]])

        def encode(self, prompt: str) -> Text:
            assert prompt
            return self

    kinds = [text_numerics(Text(value), COMPUTE) for value in (1.0, 1.0, 2.0)]  # type: ignore[arg-type]
    assert kinds[0] == kinds[1] != kinds[2]


# --- the inputs -------------------------------------------------------------------------------------------------------


def test_inputs_are_never_zeros_and_depend_on_nothing_but_their_numbers() -> None:
    first = seeded(0, Purpose.LATENTS, (4, 4))
    torch.manual_seed(3)
    assert torch.equal(seeded(0, Purpose.LATENTS, (4, 4)), first)
    assert first.abs().min() > 0
    others = [seeded(1, Purpose.LATENTS, (4, 4)), seeded(0, Purpose.TEXT, (4, 4)), seeded(0, Purpose.PAGES, (4, 4))]
    assert not any(torch.equal(other, first) for other in others)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pages_are_full_and_no_two_are_alike(model: Path, dtype: torch.dtype) -> None:
    shape = load_denoiser(model, INFO, Compute()).page_shape(INFO.geometry.tokens_per_frame)
    memory = PageMemory(shape, 40, device=CPU, dtype=dtype)
    fill(memory)
    assert (memory.kv_YUPLND != 0).all()
    pages = [page.flatten() for layer in memory.kv_YUPLND for kv in layer for page in kv]
    assert len({digest_of(page) for page in pages}) == len(pages) == 40 * 2 * len(shape.layers)


def test_a_digest_sees_every_bit_the_type_and_the_shape() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, -0.0]])
    tensors = [values, values.T, values.flatten(), values.half(), values.abs(), torch.nextafter(values, -values)]
    assert len({digest_of(one) for one in tensors}) == len(tensors)
    assert digest_of(values, values) != digest_of(values)
    assert digest_of(values.T) == digest_of(values.T.contiguous())


# --- at a start -------------------------------------------------------------------------------------------------------


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch size of every forward."""
    seen: list[int] = []
    forward = WanModel.forward

    def counted(self: WanModel, inputs: Inputs) -> Tensor:
        seen.append(len(inputs.x_BFCHW))
        return forward(self, inputs)

    monkeypatch.setattr(WanModel, "forward", counted)
    return seen


def test_with_a_kept_profile_a_start_costs_one_forward(model: Path, tmp_path: Path, forwards: list[int]) -> None:
    first = worker(Role.DENOISE, model, profiles=str(tmp_path))
    assert len(forwards) > 1
    forwards.clear()
    second = worker(Role.DENOISE, model, profiles=str(tmp_path))
    assert forwards == [1]
    assert second.introduction == first.introduction


def test_a_profile_is_measured_again_where_the_same_versions_round_otherwise(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker(Role.DENOISE, model, profiles=str(tmp_path))
    numerics = denoising(model)
    other = replace(numerics, digest="0" * 64)
    monkeypatch.setattr(loading, "denoise_numerics", lambda *_: other)
    again = worker(Role.DENOISE, model, profiles=str(tmp_path))
    assert again.introduction.ability.numerics == other.fingerprint
    assert len(list(tmp_path.iterdir())) == 2  # each class has its own


def test_a_worker_computes_float32_as_float32_by_rules_alone(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark, cudnn.deterministic = True, True, True, False
    try:
        worker(Role.DECODE, model)
        assert (cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark, cudnn.deterministic) == (
            False,
            False,
            False,
            True,
        )
    finally:
        cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
