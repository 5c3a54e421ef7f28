"""umT5: prompts of any text, encoded as Wan does, with weights of gigabytes in the folder `text` of a model directory.

Importing this costs seconds of transformers, so only workers.models.text does, and only for a model that needs it.
"""

from __future__ import annotations

import html
import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import ftfy
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from longtake.core.errors import Contradiction, InvalidField
from workers.json_values import record
from workers.models.api import Compute, EncodedText
from workers.models.tensor_files import TensorFiles, is_finite
from workers.models.text_rules import FreeText
from workers.models.weights import TEXT, TEXT_CONFIG, TOKENIZER, ModelInfo

CACHE_BYTES = 256 << 20
_EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight")
"""Two names of one tensor; files hold either or both."""
_DTYPES = ("F32", "F16", "BF16")
_ACTIVATIONS = ("gated-gelu", "relu")


def clean(prompt: str) -> str:
    """The text that Wan's training saw in place of this one: mojibake and HTML undone, white space single."""
    text = html.unescape(html.unescape(ftfy.fix_text(prompt))).strip()
    return re.sub(r"\s+", " ", text).strip()


class PromptCache:
    """The texts that were encoded last, by what they were encoded from.

    It is bounded in bytes, because entries are of very different size: 0.5 to 1.3 MB for usual prompts of Wan, 8 MB for
    the longest.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[str, EncodedText] = OrderedDict()
        self.size_bytes = 0
        """Memory of the features that are held."""

    def get(self, text: str) -> EncodedText | None:
        """What was put for this text, if it is still held; it is the last to go then."""
        if text in self._held:
            self._held.move_to_end(text)
        return self._held.get(text)

    def put(self, text: str, encoded: EncodedText) -> None:
        """Hold a text that is not held; those that were not asked for for the longest time make room."""
        self._held[text] = encoded
        self.size_bytes += encoded.features_TC.nbytes
        while self.size_bytes > self._limit_bytes:
            _, gone = self._held.popitem(last=False)
            self.size_bytes -= gone.features_TC.nbytes


class UMT5Text:
    """An umT5 encoder and its tokenizer (TextEncoder). Not thread-safe."""

    def __init__(self, model: UMT5EncoderModel, tokenizer: Tokenizer, rows: int, cache: PromptCache) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._rows = rows
        self._cache = cache
        self._rules = FreeText()

    def encode(self, prompt: str) -> EncodedText:
        """As many rows as the prompt has tokens, at most those that the model takes; the notice tells of the rest.

        An empty text is encoded as Wan does, as an end mark alone.
        """
        self._rules.read(prompt)
        text = clean(prompt)
        held = self._cache.get(text)
        if held is not None:
            return held
        tokens, notice = self._tokens(text)
        encoded = EncodedText(features_TC=self._features(tokens), notice=notice)
        self._cache.put(text, encoded)
        return encoded

    def _tokens(self, text: str) -> tuple[list[int], str]:
        """The text's tokens with the end mark, as many as there are rows, and the notice."""
        *tokens, end = self._tokenizer.encode(text).ids
        room = self._rows - 1
        if len(tokens) <= room:
            return [*tokens, end], ""
        return [*tokens[:room], end], f"of the prompt's {len(tokens)} tokens the first {room} are used, the rest is cut"

    def _features(self, tokens: list[int]) -> Tensor:
        """Padding would be masked and its rows set to zero, so it is left out: a tenth of the work for most prompts."""
        ids_BT = torch.tensor([tokens], device=self._model.device)
        features_BTC: Tensor = self._model(input_ids=ids_BT).last_hidden_state
        return features_BTC[0].to("cpu", torch.float32)


def load_umt5(folder: Path, info: ModelInfo, compute: Compute) -> UMT5Text:
    """The encoder in a model directory, ready to serve; InvalidField or Contradiction names the file that is wrong."""
    config = _config(folder / TEXT_CONFIG)
    if config.d_model != info.text_width:
        widths = f"{TEXT_CONFIG}: d_model = {config.d_model}", f"dit.text_dim = {info.text_width}"
        raise Contradiction(*widths, "both are the width of a text's features")
    tokenizer = _tokenizer(folder / TOKENIZER, config)
    return UMT5Text(_model(folder, config, compute), tokenizer, info.text_rows, PromptCache(CACHE_BYTES))


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Config:
    """What the features depend on, of transformers' configuration; the rest is about training and decoding."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "gated-gelu"
    eos_token_id: int = 1

    def __post_init__(self) -> None:
        if self.feed_forward_proj not in _ACTIVATIONS:
            allowed = " or ".join(_ACTIVATIONS)
            raise InvalidField(f"{TEXT_CONFIG}.feed_forward_proj", self.feed_forward_proj, allowed)
        for name, value in asdict(self).items():
            if isinstance(value, int) and name != "eos_token_id" and value < 1:
                raise InvalidField(f"{TEXT_CONFIG}.{name}", value, "1 or more")


def _name(path: Path) -> str:
    """The file as errors call it."""
    return f"{path.parent.name}/{path.name}"


def _missing(path: Path) -> InvalidField:
    return InvalidField("model.path", str(path.parent.parent), f"a directory that holds {_name(path)}; it is missing")


def _json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path) from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InvalidField(_name(path), str(error), "a JSON object") from None
    if not isinstance(table, dict):
        raise InvalidField(_name(path), table, "a JSON object")
    return table


def _config(path: Path) -> _Config:
    table = _json(path)
    if table.get("model_type") != "umt5":
        raise InvalidField(f"{_name(path)}.model_type", table.get("model_type"), "umt5")
    known = {field.name for field in fields(_Config)}
    return record(_Config, {key: given for key, given in table.items() if key in known}, _name(path))


def _tokenizer(path: Path, config: _Config) -> Tokenizer:
    """The tokenizer as its file has it; transformers' class for T5 builds one of its own from the vocabulary."""
    if not path.is_file():
        raise _missing(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no narrower one
        raise InvalidField(_name(path), str(error), "a tokenizer of the library tokenizers") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= config.vocab_size:
        allowed = f"at most token {config.vocab_size - 1}; {TEXT_CONFIG} says vocab_size = {config.vocab_size}"
        raise InvalidField(_name(path), f"token {largest}", allowed)
    empty = tokenizer.encode("").ids
    if empty[-1:] != [config.eos_token_id] or tokenizer.num_special_tokens_to_add(False) != 1:
        allowed = f"a tokenizer that adds the end mark, token {config.eos_token_id}, and nothing else"
        raise InvalidField(_name(path), f"tokens {empty} for the empty text", allowed)
    return tokenizer


def _model(folder: Path, config: _Config, compute: Compute) -> UMT5EncoderModel:
    """The encoder with its weights; every tensor must be there, in shape, finite, and none too many."""
    with torch.device("meta"):
        model = UMT5EncoderModel(UMT5Config(**asdict(config)))
    try:
        files = TensorFiles(folder, TEXT, str(compute.torch_device))
    except FileNotFoundError as error:
        raise _missing(Path(str(error))) from None
    embedding = next((spelling for spelling in _EMBEDDING if spelling in files.names), _EMBEDDING[0])
    wanted = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items() if key not in _EMBEDDING}
    wanted[embedding] = (config.vocab_size, config.d_model)
    _compare(files, wanted)
    tensors = {key: _own(_finite(files.name, key, files.read(key)), compute) for key in wanted}
    shared = tensors.pop(embedding)
    model.load_state_dict(tensors | dict.fromkeys(_EMBEDDING, shared), assign=True)
    model.requires_grad_(False).train(False)
    return model


def _compare(files: TensorFiles, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Compare names, shapes and types, without reading a number; of those of one kind the first is named."""
    file, there = files.name, frozenset(files.names)
    missing = [name for name in wanted if name not in there]
    surplus = [name for name in files.names if name not in wanted and name not in _EMBEDDING]
    reshaped = [name for name, shape in wanted.items() if name in there and files.shape(name) != shape]
    retyped = [name for name in wanted if name in there and files.dtype(name) not in _DTYPES]
    if missing:
        allowed = f"a tensor of shape {list(wanted[missing[0]])}; it is missing{_and_more(missing)}"
        raise InvalidField(f"{file}: {missing[0]}", None, allowed)
    if surplus:
        found = list(files.shape(surplus[0]))
        raise InvalidField(f"{file}: {surplus[0]}", found, f"no tensor of this name{_and_more(surplus)}")
    if reshaped:
        found, allowed = list(files.shape(reshaped[0])), f"shape {list(wanted[reshaped[0]])}{_and_more(reshaped)}"
        raise InvalidField(f"{file}: {reshaped[0]}", found, allowed)
    if retyped:
        allowed = f"{', '.join(_DTYPES)}{_and_more(retyped)}"
        raise InvalidField(f"{file}: {retyped[0]}", files.dtype(retyped[0]), allowed)


def _and_more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more like it)" if len(names) > 1 else ""


def _own(tensor: Tensor, compute: Compute) -> Tensor:
    """The tensor in memory of its own: last bits depend on its alignment, which in the file depends on its place."""
    return tensor.to(compute.torch_dtype, copy=tensor.device.type == "cpu")


def _finite(file: str, name: str, tensor: Tensor) -> Tensor:
    if not is_finite(tensor):
        raise InvalidField(f"{file}: {name}", "numbers that are not finite", "finite numbers")
    return tensor
