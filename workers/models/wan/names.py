"""What tensors are called: by which names a checkpoint is recognised, and how each becomes the name that is served.

A transformer and an autoencoder are served under the names of Wan's own code, umT5 under those of `transformers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum


class Component(Enum):
    """What a collection of tensors is for."""

    TRANSFORMER = "transformer"
    VAE = "VAE"
    TINY = "tiny decoder"
    TEXT = "text encoder"
    LORA = "LoRA"


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way in which a part is published."""

    part: Component
    publisher: str
    """Whose names they are."""
    signature: tuple[str, ...]
    """Names that are all there in this layout, and in no other."""
    rename: Callable[[str], str]
    """From a name of this layout, without wrappers, to the one that is served."""


_WRAPPERS = re.compile(r"(?:_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
_LEADING = re.compile(r"^(?:(?:base_model\.model|model|net|module)\.)+")


def bare(name: str) -> str:
    """The name without what training wraps around modules: FSDP, checkpointing, compilation, classes that hold it."""
    return _LEADING.sub("", _WRAPPERS.sub("", name))


def spelling_of(names: Iterable[str]) -> Spelling | None:
    """The layout that these bare names are of; None if it is none that is known."""
    held = set(names)
    return next((layout for layout in SPELLINGS if held.issuperset(layout.signature)), None)


def is_lora(names: Iterable[str]) -> bool:
    """Whether these are the two factors of changes to other tensors."""
    return any(_FACTOR.search(name) for name in names)


def _replaced(rules: Mapping[str, str]) -> Callable[[str], str]:
    """Replace each pattern wherever it stands in a name, in order."""
    compiled = [(re.compile(pattern), text) for pattern, text in rules.items()]

    def rename(name: str) -> str:
        for pattern, text in compiled:
            name = pattern.sub(text, name)
        return name

    return rename


_DIFFUSERS_TRANSFORMER = _replaced({
    r"^condition_embedder\.time_embedder\.linear_1\.": "time_embedding.0.",
    r"^condition_embedder\.time_embedder\.linear_2\.": "time_embedding.2.",
    r"^condition_embedder\.text_embedder\.linear_1\.": "text_embedding.0.",
    r"^condition_embedder\.text_embedder\.linear_2\.": "text_embedding.2.",
    r"^condition_embedder\.time_proj\.": "time_projection.1.",
    r"\.attn1\.": ".self_attn.",
    r"\.attn2\.": ".cross_attn.",
    r"\.to_([qkv])\.": r".\1.",
    r"\.to_out\.0\.": ".o.",
    r"\.ffn\.net\.0\.proj\.": ".ffn.0.",
    r"\.ffn\.net\.2\.": ".ffn.2.",
    r"\.norm2\.": ".norm3.",  # diffusers counts norms in the order in which they run
    r"^scale_shift_table$": "head.modulation",
    r"\.scale_shift_table$": ".modulation",
    r"^proj_out\.": "head.head.",
})  # fmt: skip

_RESIDUAL = {
    r"\.norm1\.": ".residual.0.",
    r"\.conv1\.": ".residual.2.",
    r"\.norm2\.": ".residual.3.",
    r"\.conv2\.": ".residual.6.",
    r"\.conv_shortcut\.": ".shortcut.",
}
_DIFFUSERS_VAE_NAMES = _replaced({
    **_RESIDUAL,
    r"^quant_conv\.": "conv1.",
    r"^post_quant_conv\.": "conv2.",
    r"\.conv_in\.": ".conv1.",
    r"\.norm_out\.": ".head.0.",
    r"\.conv_out\.": ".head.2.",
    r"\.mid_block\.resnets\.0\.": ".middle.0.",
    r"\.mid_block\.attentions\.0\.": ".middle.1.",
    r"\.mid_block\.resnets\.1\.": ".middle.2.",
    r"\.down_blocks\.": ".downsamples.",
})  # fmt: skip
_UP_BLOCK = re.compile(r"\.up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.")
_LEVEL = 4
"""Modules of a level of Wan's decoder, which counts all levels through: three residual blocks and an upsampling."""


def _diffusers_vae(name: str) -> str:
    def flat(match: re.Match[str]) -> str:
        level, kind, number = int(match[1]), match[2], int(match[3])
        return f".upsamples.{_LEVEL * level + (number if kind == 'resnets' else _LEVEL - 1)}."

    return _DIFFUSERS_VAE_NAMES(_UP_BLOCK.sub(flat, name))


_WAN_TEXT = _replaced({
    r"^token_embedding\.": "shared.",
    r"^norm\.": "encoder.final_layer_norm.",
    r"^blocks\.(\d+)\.norm1\.": r"encoder.block.\1.layer.0.layer_norm.",
    r"^blocks\.(\d+)\.attn\.": r"encoder.block.\1.layer.0.SelfAttention.",
    r"^blocks\.(\d+)\.pos_embedding\.embedding\.":
        r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias.",
    r"^blocks\.(\d+)\.norm2\.": r"encoder.block.\1.layer.1.layer_norm.",
    r"^blocks\.(\d+)\.ffn\.gate\.0\.": r"encoder.block.\1.layer.1.DenseReluDense.wi_0.",
    r"^blocks\.(\d+)\.ffn\.fc1\.": r"encoder.block.\1.layer.1.DenseReluDense.wi_1.",
    r"^blocks\.(\d+)\.ffn\.fc2\.": r"encoder.block.\1.layer.1.DenseReluDense.wo.",
})  # fmt: skip
_SHARED = _replaced({r"^encoder\.embed_tokens\.": "shared."})


SPELLINGS = (
    Spelling(Component.TRANSFORMER, "Wan", ("patch_embedding.weight", "blocks.0.self_attn.q.weight"), str),
    Spelling(
        Component.TRANSFORMER,
        "diffusers",
        ("patch_embedding.weight", "condition_embedder.time_proj.weight"),
        _DIFFUSERS_TRANSFORMER,
    ),
    Spelling(Component.VAE, "Wan", ("decoder.conv1.weight", "decoder.middle.0.residual.0.gamma"), str),
    Spelling(Component.VAE, "diffusers", ("decoder.conv_in.weight", "post_quant_conv.weight"), _diffusers_vae),
    Spelling(Component.TINY, "TAEHV", ("decoder.1.weight", "decoder.3.conv.0.weight", "decoder.7.conv.weight"), str),
    Spelling(Component.TEXT, "Wan", ("token_embedding.weight", "blocks.0.attn.q.weight"), _WAN_TEXT),
    Spelling(Component.TEXT, "transformers", ("encoder.block.0.layer.0.SelfAttention.q.weight",), _SHARED),
)


# --- LoRA -----------------------------------------------------------------------------------------------------------

_FACTOR = re.compile(r"\.(?:lora_(A|B|down|up))(?:\.default)?\.weight$")
_ALPHA = re.compile(r"\.alpha$")


class Factor(Enum):
    """What a tensor of a LoRA is."""

    DOWN = "A"
    """Shape (rank, inputs)."""
    UP = "B"
    """Shape (outputs, rank)."""
    ALPHA = "alpha"
    """One number: the strength, if the file says it."""


def lora_target(name: str) -> tuple[str, Factor] | None:
    """The served name of the weight that a bare name of a LoRA changes, and as what; None if it is none."""
    found = _FACTOR.search(name)
    if found is not None:
        factor = Factor.DOWN if found[1] in ("A", "down") else Factor.UP
        return _DIFFUSERS_TRANSFORMER(name[: found.start()] + ".weight"), factor
    alpha = _ALPHA.search(name)
    if alpha is not None:
        return _DIFFUSERS_TRANSFORMER(name[: alpha.start()] + ".weight"), Factor.ALPHA
    return None
