"""A checkpoint of true size and random numbers, in the formats that are published: to try `longtake convert` on.

python -m benchmarks.synthetic_checkpoint FOLDER               # 1.3 B parameters: 6.2 GB in all
longtake convert FOLDER/base FOLDER/hiar.pt -o MODEL --recipe wan-hiar --size 128x128

`base` is a folder as Wan publishes it but for its transformer: autoencoder, text encoder, tokenizer and config.json;
the text encoder has one small layer of umT5's width, since the real one takes 11 GB to say as little. `hiar.pt` is a
training checkpoint as HiAR publishes it. Its pictures are noise; what it shows is that sizes, names, memory and types
are right.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from workers.models.wan.config import WanConfig, WanVAEConfig
from workers.models.weights import DIT, VAE, tensor_shapes

WAN_1_3B = WanConfig(
    dim=1536, ffn_dim=8960, num_heads=12, num_layers=30, in_dim=16, out_dim=16, freq_dim=256, text_dim=4096,
    text_len=512,
)  # fmt: skip
_MARKS = ("<pad>", "</s>", "<unk>")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,'-"
_WRAPPER = "model._fsdp_wrapped_module."


def write(folder: Path, dit: WanConfig, vae: WanVAEConfig, seed: int = 0) -> tuple[Path, Path]:
    """Write both; equal arguments give equal numbers. Returns the base folder and the training checkpoint."""
    base, checkpoint = folder / "base", folder / "hiar.pt"
    generator = torch.Generator().manual_seed(seed)
    tokenizer = base / "google" / "umt5-xxl"
    tokenizer.mkdir(parents=True)
    _tokenizer().save(str(tokenizer / "tokenizer.json"))
    table = {"model_type": "t2v", "num_heads": dit.num_heads, "text_len": dit.text_len}
    (base / "config.json").write_text(json.dumps(table))
    shapes = tensor_shapes(dit, vae)
    torch.save(_filled(shapes[VAE], generator), base / "VAE.pth")
    torch.save(_filled(_text_shapes(dit.text_dim), generator), base / "models_t5_umt5.pth")
    weights = _filled(shapes[DIT], generator)
    torch.save(
        {"generator_ema": {f"{_WRAPPER}{name}": tensor for name, tensor in weights.items()}, "step": 1}, checkpoint
    )
    return base, checkpoint


def _filled(shapes: Mapping[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
    """Normal numbers for these shapes, as small as keeps a signal's size; what scales a norm is 1."""
    held: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name.endswith(("norm_q.weight", "norm_k.weight", "norm1.weight", "norm2.weight", "gamma")):
            held[name] = torch.ones(shape)
        else:
            std = 1 / math.sqrt(max(math.prod(shape[1:]), 1))
            held[name] = torch.empty(shape).normal_(0, std, generator=generator)
    return held


def _text_shapes(width: int, layers: int = 1) -> dict[str, tuple[int, ...]]:
    """Those of a small umT5 under the names of Wan's own code: 8 heads of 8, one number for each token and channel."""
    heads, inner, wide = 8, 64, 128
    sizes: dict[str, tuple[int, ...]] = {"token_embedding": (_tokenizer().get_vocab_size(), width), "norm": (width,)}
    for number in range(layers):
        layer = {
            "norm1": (width,), "norm2": (width,), "pos_embedding.embedding": (32, heads),
            **{f"attn.{name}": (inner, width) for name in "qkv"}, "attn.o": (width, inner),
            "ffn.gate.0": (wide, width), "ffn.fc1": (wide, width), "ffn.fc2": (width, wide),
        }  # fmt: skip
        sizes |= {f"blocks.{number}.{name}": size for name, size in layer.items()}
    return {f"{name}.weight": size for name, size in sizes.items()}


def _tokenizer() -> Tokenizer:
    """Letters, and an end mark behind every text."""
    pieces = [(mark, 0.0) for mark in _MARKS] + [(letter, -5.0) for letter in ("▁", *_LETTERS)]
    made = Tokenizer(models.Unigram(pieces, unk_id=_MARKS.index("<unk>"), byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.add_special_tokens(list(_MARKS))
    end = _MARKS.index("</s>")
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    return made


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--layers", default=WAN_1_3B.num_layers, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, layers: int, seed: int) -> None:
    """Write a base folder and a training checkpoint below FOLDER."""
    for path in write(folder, replace(WAN_1_3B, num_layers=layers), WanVAEConfig(), seed):
        click.echo(str(path))


if __name__ == "__main__":
    main()
