"""umT5: features are those of transformers with padding and mask; prompts are cleaned, cut and kept as they should."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from cluster.frontend.offer import offer_for
from longtake.core.effects import EncodeText, Forget
from longtake.core.errors import InvalidField, UnknownPeer
from longtake.core.limits import Limits
from longtake.core.work import ConditioningRef, Role, SessionId, WorkerId
from tests.workers.model_dir import write_model
from tests.workers.text_dir import END, ROWS, info, text_model, write_text_model
from workers.denoise.worker import tensor_from_bytes, tensor_to_bytes
from workers.messages import Encoded, Shutdown
from workers.models import weights
from workers.models.api import Compute, EncodedText
from workers.models.text import load_text_encoder
from workers.models.text_rules import text_rules
from workers.models.umt5 import PromptCache, UMT5Text, clean
from workers.simulated.device import SimulatedDevice
from workers.simulated.workers import SimulatedModel
from workers.start.loading import load_worker
from workers.start.spec import WorkerSpec

SHORT, LONG = "a red ball in the fog", "the fog in the ball " * 9
PROMPTS = (SHORT, "a", "zoo", "the blue box in the red fog zooms", LONG, "", "&lt;b&gt;")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("umt5")
    write_text_model(made)
    return made


@pytest.fixture
def encoder(folder: Path) -> UMT5Text:
    made = load_text_encoder(folder, weights.load_info(folder), Compute())
    assert isinstance(made, UMT5Text)
    return made


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The lengths of what encoders ran on."""
    lengths: list[int] = []
    forward = UMT5EncoderModel.forward

    def counted(self: UMT5EncoderModel, input_ids: Tensor, **given: object) -> object:
        lengths.append(input_ids.shape[1])
        return forward(self, input_ids, **given)

    monkeypatch.setattr(UMT5EncoderModel, "forward", counted)
    yield lengths


def padded(folder: Path, text: str, *, masked: bool = True) -> tuple[Tensor, int]:
    """Features [ROWS, C] as Wan makes them with transformers: padded, masked, zero behind the text; and its length."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "text", pad_token="<pad>", local_files_only=True)
    batch = tokenizer([text], padding="max_length", truncation=True, max_length=ROWS, return_tensors="pt")
    length = int(batch["attention_mask"].sum())
    mask = batch["attention_mask"] if masked else None
    features_TC: Tensor = text_model()(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state[0]
    features_TC[length:] = 0
    return features_TC, length


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_true_length_alone_gives_what_padding_and_mask_give(folder: Path, encoder: UMT5Text, prompt: str) -> None:
    expected_TC, length = padded(folder, clean(prompt))
    features_TC = encoder.encode(prompt).features_TC
    assert features_TC.dtype == torch.float32
    assert features_TC.shape == (length, info().text_width)
    assert (features_TC - expected_TC[:length]).abs().max() <= 1e-6 * expected_TC.abs().max()


def test_padding_without_mask_would_differ(folder: Path, encoder: UMT5Text) -> None:
    wrong_TC, length = padded(folder, SHORT, masked=False)
    assert (encoder.encode(SHORT).features_TC - wrong_TC[:length]).abs().max() > 0.1


def test_the_transformer_pads_with_zero_rows_itself(folder: Path, encoder: UMT5Text) -> None:
    denoiser = weights.load_denoiser(folder, weights.load_info(folder), Compute())
    features_TC = encoder.encode(SHORT).features_TC
    assert len(features_TC) < ROWS
    filled_TC = torch.zeros(ROWS, info().text_width)
    filled_TC[: len(features_TC)] = features_TC
    short, full = (denoiser.encode_text(text_TC.unsqueeze(0)) for text_TC in (features_TC, filled_TC))
    for layer in denoiser.layers:
        assert short.k_BTND[layer].shape[1] == ROWS
        assert torch.equal(short.k_BTND[layer], full.k_BTND[layer])
        assert torch.equal(short.v_BTND[layer], full.v_BTND[layer])


def test_half_the_bits_are_close(folder: Path, encoder: UMT5Text) -> None:
    half = load_text_encoder(folder, weights.load_info(folder), Compute(dtype="bfloat16"))
    features_TC, expected_TC = half.encode(SHORT).features_TC, encoder.encode(SHORT).features_TC
    assert features_TC.dtype == torch.float32
    assert 0 < (features_TC - expected_TC).norm() / expected_TC.norm() < 0.05


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a red ball", "a red ball"),
        ("cafÃ© au lait", "café au lait"),
        ("â€œa red ballâ€\x9d", '"a red ball"'),
        ("“a red ball”, it’s said", "\"a red ball\", it's said"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("&amp;lt;b&amp;gt; 1 < 2", "<b> 1 < 2"),
        ("&amp;lt;b>", "<b>"),
        ("it&#39;s a &quot;take&quot;", "it's a \"take\""),
        ("Ａ　ｒｅｄ　ｂａｌｌ，　１２３", "A red ball, 123"),
        ("a\u00a0red\u00a0\u00a0ball", "a red ball"),
        ("a&nbsp;red&nbsp;ball&nbsp;", "a red ball"),
        ("a red\r\nball\n\n\tin the fog", "a red ball in the fog"),
        ("a red\u2028ball", "a red ball"),
        ("  a red ball \t\n", "a red ball"),
        ("a \N{WOMAN}\u200d\N{ROCKET} and a \N{ROCKET}", "a \N{WOMAN}\u200d\N{ROCKET} and a \N{ROCKET}"),
        ("ð\u009f\u008e¬ a take", "\N{CLAPPER BOARD} a take"),
        ("re\u0301sume\u0301", "résumé"),
        ("ﬁsh in the ﬂood", "fish in the flood"),
        ("\ufeffa red ball", "a red ball"),
        ("a \x1b[31mred\x1b[0m ball", "a red ball"),
        ("红色的球　在雾中", "红色的球 在雾中"),
        ("", ""),
        (" \u00a0\u3000\n", ""),
        ("&nbsp;", ""),
    ],
)  # fmt: skip
def test_prompts_are_cleaned_as_wan_cleans_them(prompt: str, text: str) -> None:
    assert clean(prompt) == text


def test_a_prompt_of_nothing_is_an_end_mark(folder: Path, encoder: UMT5Text) -> None:
    expected_TC = text_model()(input_ids=torch.tensor([[END]])).last_hidden_state[0]
    assert torch.equal(encoder.encode(" \n&nbsp;").features_TC, expected_TC)


def test_a_prompt_that_is_too_long_is_cut_before_its_end_mark_and_the_client_told(
    folder: Path, encoder: UMT5Text
) -> None:
    encoded = encoder.encode(LONG)
    assert encoded.features_TC.shape == (ROWS, info().text_width)
    assert encoded.notice == "of the prompt's 45 tokens the first 23 are used, the rest is cut"
    kept = "the fog in the ball " * 4 + "the fog in"
    assert torch.equal(encoded.features_TC, encoder.encode(kept).features_TC)
    assert encoder.encode(kept).notice == ""


def test_a_prompt_that_comes_again_is_not_encoded_again(encoder: UMT5Text, runs: list[int]) -> None:
    first = encoder.encode(SHORT)
    assert encoder.encode(SHORT) is first
    assert encoder.encode(f"  {SHORT.replace(' ', '&nbsp;')}\n") is first, "what is the same when it is cleaned"
    assert runs == [7]
    assert encoder.encode("a blue box") is not first
    assert runs == [7, 4]


def features(rows: int) -> EncodedText:
    return EncodedText(features_TC=torch.zeros(rows, 1), notice="")


def test_the_cache_keeps_what_was_asked_for_last_within_its_bound() -> None:
    cache = PromptCache(limit_bytes=40)
    for name in ("a", "b"):
        cache.put(name, features(4))
    assert cache.get("a") is not None  # so b is the oldest
    cache.put("c", features(3))
    assert (cache.get("b"), cache.size_bytes) == (None, 28)
    assert cache.get("a") is not None
    assert cache.get("c") is not None
    cache.put("d", features(11))
    assert (cache.size_bytes, cache.get("a"), cache.get("c"), cache.get("d")) == (0, None, None, None)


def test_any_text_is_allowed_that_can_be_sent() -> None:
    rules = text_rules("umt5")
    assert rules.vocabulary() == {}
    for prompt in PROMPTS:
        assert rules.read(prompt) is None
    with pytest.raises(InvalidField, match=r"prompt: 'a \\ud83c' is not allowed; allowed: text without halves"):
        rules.read("a \ud83c")


def test_an_encoder_keeps_the_rules(encoder: UMT5Text) -> None:
    with pytest.raises(InvalidField, match=r"prompt: .* text without halves"):
        encoder.encode("a \ud83c")


def test_an_engine_offers_the_model_without_its_text_folder(tmp_path: Path) -> None:
    weights.save_info(tmp_path, info())
    offer = offer_for(weights.load_info(tmp_path), Limits())
    assert (offer.vocabulary, offer.prompt_help) == ({}, "Free text.")
    assert offer.read_prompt(SHORT) is None


def encode_order(prompt: str) -> EncodeText:
    ref = ConditioningRef(session=SessionId("a"), version=0)
    return EncodeText(worker=WorkerId("decode-0"), conditioning=ref, prompt=prompt)


def text_spec(folder: Path) -> WorkerSpec:
    return WorkerSpec(worker=WorkerId("text-0"), role=Role.TEXT, capacity=1, model=folder)


def test_a_text_worker_serves_it_and_keeps_nothing_for_anybody(folder: Path) -> None:
    worker = load_worker(text_spec(folder)).fresh()
    (encoded,) = worker.perform(encode_order(SHORT))
    assert isinstance(encoded, Encoded)
    assert (encoded.conditioning.session, encoded.notice) == ("a", "")
    expected_TC, length = padded(folder, SHORT)
    features_TC = tensor_from_bytes(encoded.tensor, (-1, info().text_width))
    assert len(features_TC) == length
    assert (features_TC - expected_TC[:length]).abs().max() <= 1e-6 * expected_TC.abs().max()
    (cut,) = worker.perform(encode_order(LONG))
    assert isinstance(cut, Encoded)
    assert "the first 23 are used" in cut.notice
    assert list(worker.perform(Forget(worker=WorkerId("text-0"), session=SessionId("a"), version=None))) == []
    with pytest.raises(UnknownPeer, match="a text worker cannot do Shutdown"):
        list(worker.perform(Shutdown()))  # type: ignore[arg-type]


def test_a_decode_worker_of_such_a_model_loads_no_encoder_and_says_so(folder: Path) -> None:
    spec = WorkerSpec(worker=WorkerId("decode-0"), role=Role.DECODE, capacity=1, model=folder)
    loaded = load_worker(spec)
    assert not loaded.introduction.ability.encodes_text
    with pytest.raises(UnknownPeer, match="a decode worker cannot do EncodeText"):
        list(loaded.fresh().perform(encode_order(SHORT)))


def test_a_fresh_worker_has_the_bytes_of_the_one_before(folder: Path, runs: list[int]) -> None:
    loaded = load_worker(text_spec(folder))
    runs.clear()  # a worker that starts encodes a prompt of its own
    before, after = (list(loaded.fresh().perform(encode_order(SHORT))) for _ in range(2))
    assert before == after
    assert runs == [7], "the encoder and its cache stay, with the weights"


def test_a_simulated_worker_needs_no_weights(tmp_path: Path) -> None:
    weights.save_info(tmp_path, info())
    worker = SimulatedModel(
        worker=WorkerId("w"), role=Role.DECODE, capacity=1, model=tmp_path, device=SimulatedDevice(forward_s=0.0)
    ).fresh()
    one, again, other = (list(worker.perform(encode_order(prompt))) for prompt in (SHORT, SHORT, "a blue box"))
    assert one == again != other
    (encoded,) = one
    assert isinstance(encoded, Encoded)
    assert tensor_from_bytes(encoded.tensor, (-1, info().text_width)).shape == (1, info().text_width)


def test_a_server_of_the_pocket_kind_does_not_pay_for_transformers(tmp_path: Path) -> None:
    write_model(tmp_path)
    code = f"""
import sys
from pathlib import Path
import cluster.frontend.offer, workers.link.dial
from longtake.core.work import Role
from workers.start.loading import load_worker
from workers.start.spec import WorkerSpec
load_worker(WorkerSpec(worker="w", role=Role.DECODE, capacity=1, model=Path({str(tmp_path)!r}))).fresh()
print([name for name in ("transformers", "tokenizers", "ftfy") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_bytes_on_the_link_are_those_of_the_features(encoder: UMT5Text) -> None:
    features_TC = encoder.encode(SHORT).features_TC
    assert torch.equal(tensor_from_bytes(tensor_to_bytes(features_TC), tuple(features_TC.shape)), features_TC)
