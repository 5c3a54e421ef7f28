"""The folder `text` of a model directory: what may lie there is read, what is wrong is named with what is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.core.errors import Contradiction, InvalidField
from tests.workers.text_dir import info, text_model, tokenizer, write_text, write_text_model
from workers.models.api import Compute, TextEncoder
from workers.models.text import load_text_encoder

PROMPTS = ("", "a red ball in the fog")
SHARED, EMBED = "shared.weight", "encoder.embed_tokens.weight"
LAST = "encoder.block.2.layer.1.DenseReluDense.wo.weight"
NAMED = "text/model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_text(tmp_path)
    return tmp_path


def load(folder: Path) -> TextEncoder:
    return load_text_encoder(folder, info(), Compute())


def features(folder: Path) -> list[Tensor]:
    encoder = load(folder)
    return [encoder.encode(prompt).features_TC for prompt in PROMPTS]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "text" / "config.json"
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = folder / "text" / "model.safetensors"
    held = load_file(path)
    change(held)
    save_file(held, path)


def test_what_transformers_wrote_is_read_bit_for_bit(folder: Path) -> None:
    ids_BT = torch.tensor([tokenizer().encode(PROMPTS[1]).ids])
    assert torch.equal(features(folder)[1], text_model()(input_ids=ids_BT).last_hidden_state[0])


def test_one_file_and_several_give_equal_bits(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shards = tmp_path_factory.mktemp("shards")
    write_text_model(shards, shard_size="20KB")
    files = sorted(path.name for path in (shards / "text").glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert same(features(shards), features(folder))


def test_bits_do_not_depend_on_where_in_its_file_a_tensor_lies(folder: Path) -> None:
    path = folder / "text" / "model.safetensors"
    before, held = features(folder), load_file(path)
    for length in range(0, 64, 8):
        save_file(held, path, metadata={"note": length * "."})
        assert same(features(folder), before)


def respelt(held: dict[str, Tensor]) -> None:
    held[EMBED] = held.pop(SHARED)


def spelt_twice(held: dict[str, Tensor]) -> None:
    held[EMBED] = held[SHARED].clone()


@pytest.mark.parametrize("change", [respelt, spelt_twice])
def test_the_embedding_may_have_either_name_or_both(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    before = features(folder)
    edit_weights(folder, change)
    assert same(features(folder), before)


def test_fields_about_training_and_decoding_do_not_matter(folder: Path) -> None:
    before = features(folder)
    edit_config(folder, lambda table: table.update(dropout_rate="none", num_decoder_layers=-1, output_past=True))
    assert same(features(folder), before)


def test_what_the_features_depend_on_is_read(folder: Path) -> None:
    before = features(folder)
    edit_config(folder, lambda table: table.update(layer_norm_epsilon=0.1))
    assert not same(features(folder), before)


def test_a_tokenizer_that_would_pad_or_cut_by_itself_does_not(folder: Path) -> None:
    before = features(folder)
    other = tokenizer()
    other.enable_padding(length=16)
    other.enable_truncation(max_length=3)
    other.save(str(folder / "text" / "tokenizer.json"))
    assert same(features(folder), before)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / "text" / name).unlink()
    with pytest.raises(InvalidField, match=f"model.path: '{folder}' .* a directory that holds text/{name}; it is miss"):
        load(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match=r"model.path: .* a directory that holds text/config.json; it is missing"):
        load(tmp_path)


def test_a_missing_file_of_several_is_named(tmp_path: Path) -> None:
    write_text(tmp_path, shard_size="20KB")
    sorted((tmp_path / "text").glob("*.safetensors"))[1].unlink()
    with pytest.raises(InvalidField, match=r"a directory that holds text/model-00002-of-\d+.safetensors; it is miss"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("{", "text/model.safetensors.index.json: .* allowed: a JSON object"),
        ("{}", "text/model.safetensors.index.json.weight_map: None .* allowed: by tensor, the name of"),
        ('{"weight_map": {"shared.weight": "../dit.safetensors"}}', "weight_map: .* by tensor, the name of"),
        ('{"weight_map": {"shared.weight": 3}}', "weight_map: .* by tensor, the name of a safetensors file"),
        ('{"weight_map": {"shared.weight": ["a"]}}', "weight_map: .* by tensor, the name of a safetensors file"),
    ],
)
def test_a_wrong_index_is_named(tmp_path: Path, table: str, message: str) -> None:
    write_text(tmp_path, shard_size="20KB")
    (tmp_path / "text" / "model.safetensors.index.json").write_text(table)
    with pytest.raises(InvalidField, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(model_type="t5"), "text/config.json.model_type: 't5' is not allowed; allowed: umt5"),
        (lambda t: t.pop("num_heads"), "text/config.json: .* allowed: also num_heads"),
        (lambda t: t.update(d_ff="48"), "text/config.json.d_ff: '48' is not allowed; allowed: a whole number"),
        (lambda t: t.update(num_layers=0), "text/config.json.num_layers: 0 is not allowed; allowed: 1 or more"),
        (lambda t: t.update(feed_forward_proj="gated-silu"), "feed_forward_proj: .* allowed: gated-gelu or relu"),
    ],
)
def test_a_wrong_field_is_named(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit_config(folder, change)
    with pytest.raises(InvalidField, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(LAST), rf"{NAMED}: {LAST}: None .* a tensor of shape \[32, 48\]; it is missing$"),
        (
            lambda t: [t.pop(name) for name in sorted(t) if "layer_norm" in name],
            rf"{NAMED}: encoder.block.0.layer.0.layer_norm.weight: None .* it is missing \(and 6 more like it\)$",
        ),
        (lambda t: t.pop(SHARED), rf"{NAMED}: shared.weight: None .* a tensor of shape \[78, 32\]; it is missing$"),
        (lambda t: t.update(surplus=torch.zeros(2)), rf"{NAMED}: surplus: \[2\] .* allowed: no tensor of this name$"),
        (lambda t: t.update({LAST: torch.zeros(32, 47)}), rf"{NAMED}: {LAST}: \[32, 47\] .* allowed: shape \[32, 48\]"),
        (lambda t: t.update({SHARED: torch.zeros(9, 32)}), rf"{SHARED}: \[9, 32\] .* allowed: shape \[78, 32\]"),
        (lambda t: t.update({LAST: t[LAST].to(torch.int64)}), rf"{NAMED}: {LAST}: 'I64' .* allowed: F32, F16, BF16"),
        (lambda t: t[LAST].view(-1)[5:6].fill_(torch.nan), rf"{NAMED}: {LAST}: .* allowed: finite numbers"),
        (lambda t: t[LAST].view(-1)[5:6].fill_(-torch.inf), rf"{NAMED}: {LAST}: .* allowed: finite numbers"),
    ],
)
def test_a_wrong_tensor_is_named(folder: Path, change: Callable[[dict[str, Tensor]], object], message: str) -> None:
    edit_weights(folder, change)
    with pytest.raises(InvalidField, match=message):
        load(folder)


def test_a_file_that_holds_no_tensors_is_named(folder: Path) -> None:
    (folder / "text" / "model.safetensors").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(InvalidField, match=r"text/model.safetensors: .* allowed: a safetensors file"):
        load(folder)


def test_a_file_that_holds_no_tokenizer_is_named(folder: Path) -> None:
    (folder / "text" / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidField, match=r"text/tokenizer.json: .* allowed: a tokenizer of the library tokenizers"):
        load(folder)


def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows_is_refused(folder: Path) -> None:
    other = tokenizer()
    other.add_tokens(["▁zoo", "▁zebra"])
    other.save(str(folder / "text" / "tokenizer.json"))
    with pytest.raises(
        InvalidField, match=r"text/tokenizer.json: 'token 79' .* at most token 77; text/config.json says"
    ):
        load(folder)


def test_a_tokenizer_without_an_end_mark_is_refused(folder: Path) -> None:
    tokenizer(end=False).save(str(folder / "text" / "tokenizer.json"))
    with pytest.raises(InvalidField, match=r"text/tokenizer.json: 'tokens \[\] for .* adds the end mark, token 1"):
        load(folder)


def test_a_width_that_is_not_the_transformers_names_both_sides(folder: Path) -> None:
    other = replace(info(), dit=replace(info().dit, text_dim=64))
    with pytest.raises(Contradiction, match=r"text/config.json: d_model = 32 contradicts dit.text_dim = 64"):
        load_text_encoder(folder, other, Compute())
