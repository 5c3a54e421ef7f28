"""A model directory whose prompts a tiny umT5 encodes, written by the libraries transformers and tokenizers."""

import string
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import UMT5Config, UMT5EncoderModel

from tests.workers.model_dir import model_info
from workers.models.weights import ModelInfo, new_decoder, new_denoiser, save_model

ROWS = 24
"""Rows of a text that the model takes."""
WORDS = ("▁a", "▁red", "▁ball", "▁in", "▁the", "▁fog", "▁blue", "▁box")
MARKS = ("<pad>", "</s>", "<unk>")
END = MARKS.index("</s>")


def tokenizer(*, end: bool = True) -> Tokenizer:
    """Some words, the letters, and an end mark."""
    pieces = [(mark, 0.0) for mark in MARKS] + [(word, -2.0) for word in WORDS]
    pieces += [(letter, -5.0) for letter in ("▁", *string.ascii_letters, *string.digits, "<", ">", "&", "é")]
    made = Tokenizer(models.Unigram(pieces, unk_id=MARKS.index("<unk>"), byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.add_special_tokens(list(MARKS))
    if end:
        made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    return made


def info() -> ModelInfo:
    """The small random model, for texts of this kind."""
    plain = model_info()
    return replace(plain, text_kind="umt5", dit=replace(plain.dit, text_len=ROWS))


def text_model(seed: int = 0) -> UMT5EncoderModel:
    """An encoder as wide as the transformer of `info`."""
    config = UMT5Config(
        vocab_size=tokenizer().get_vocab_size(), d_model=info().text_width, d_kv=8, d_ff=48, num_layers=3, num_heads=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = UMT5EncoderModel(config)
    model.requires_grad_(False).train(False)
    return model


def write_text(folder: Path, shard_size: str = "1GB") -> None:
    """Write the folder `text` of a model directory; a small shard size makes several files with an index."""
    text_model().save_pretrained(folder / "text", max_shard_size=shard_size)
    tokenizer().save(str(folder / "text" / "tokenizer.json"))


def write_text_model(folder: Path, shard_size: str = "1GB") -> ModelInfo:
    """Write the whole model directory."""
    made = info()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dit, vae = new_denoiser(made), new_decoder(made)
    save_model(folder, made, dit.state_dict(), vae.state_dict())
    write_text(folder, shard_size)
    return made
