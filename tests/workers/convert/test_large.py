"""Wan2.1 with 14 B parameters at its true sizes: the converter takes it, from files of names and shapes alone."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from longtake.cli.main import run
from longtake.core.errors import InvalidField
from tests.workers.convert.published_info import WAN_14B, info_of
from tests.workers.text_dir import tokenizer
from workers.convert.choice import Wish, choose
from workers.convert.found import look
from workers.models.wan.sizes import text_config, text_shapes
from workers.models.weights import DIT, VAE, tensor_shapes

UMT5 = {
    "vocab_size": 256384, "d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24,
    "relative_attention_num_buckets": 32,
}  # fmt: skip
TRAINED = "krea-realtime-video-14b"
SHARD_BYTES = 2_000_000_000
Shapes = Mapping[str, tuple[int, ...]]


def hollow(folder: Path, stem: str, shapes: Shapes) -> Path:
    """Safetensors files in bfloat16 whose numbers are holes in the disk: gigabytes to read, nothing that is stored.

    Shards, as such checkpoints come in, because a machine lets nobody map a file that is larger than its memory.
    """
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in shapes.items():
        if 2 * sum(math.prod(held) for held in shards[-1].values()) > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = shape
    places: dict[str, str] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for number, held in enumerate(shards, start=1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        _write(folder / file, held)
        places |= dict.fromkeys(held, file)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def _write(path: Path, shapes: Shapes) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(file.tell() + end)


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """The folder of the base model, and the checkpoint of who trained it, in a trainer's wrapping."""
    base, shapes = tmp_path / "Wan2.1-T2V-14B", tensor_shapes(WAN_14B, info_of("wan-14b-krea").vae)
    hollow(base, "diffusion_pytorch_model", shapes[DIT])
    (base / "config.json").write_text(json.dumps({"num_heads": 40, "text_len": 512}))
    hollow(base / "vae", "Wan2.1_VAE", shapes[VAE])
    hollow(base / "text_encoder", "model", text_shapes(UMT5))
    (base / "google" / "umt5-xxl").mkdir(parents=True)
    tokenizer().save(str(base / "google" / "umt5-xxl" / "tokenizer.json"))
    trained = {f"model.{name}": shape for name, shape in shapes[DIT].items()}
    return [base, hollow(tmp_path / "trained", TRAINED, trained)]


def test_its_sizes_are_read_from_names_and_shapes(sources: list[Path]) -> None:
    choice = choose(look(sources), Wish(recipe="wan-14b-krea"))
    assert choice.info == info_of("wan-14b-krea")
    assert choice.transformer.collection.path.parent == sources[-1]
    assert choice.transformer.parameters == pytest.approx(14.29e9, rel=0.001)
    assert text_config(choice.text.shape, tuple(choice.text.names)).items() >= UMT5.items()
    assert sum(path.stat().st_blocks * 512 for source in sources for path in source.parent.rglob("*")) < 10e6


def test_the_command_says_that_it_is_a_whole_model(sources: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "--check", "--recipe", "wan-14b-krea", *map(str, sources)]) == 0
    said = capsys.readouterr().out
    assert f"{TRAINED}-00001-of-00014.safetensors: transformer with Wan's names, 1095 tensors, 14,288,491,584" in said
    assert "streams longer than that may drift" in said
    assert "these make a whole wan-14b-krea, 832x480" in said


def test_a_tensor_of_the_smaller_model_among_them_is_named(sources: list[Path]) -> None:
    shapes = tensor_shapes(WAN_14B, info_of("wan-14b-krea").vae)[DIT] | {"blocks.7.ffn.0.weight": (8960, 1536)}
    hollow(sources[-1], TRAINED, {f"model.{name}": shape for name, shape in shapes.items()})
    with pytest.raises(InvalidField, match=r"blocks\.7\.ffn\.0\.weight: \[8960, 1536\] .* shape \[13824, 5120\]"):
        choose(look(sources), Wish(recipe="wan-14b-krea"))
