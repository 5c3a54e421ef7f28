"""The names that diffusers gives to Wan2.1's tensors, and Wan's own, read off both sources.

These maps owe nothing to those of the product: where the two disagree, one of them is wrong.
"""

import re
from collections.abc import Callable

_Renaming = str | Callable[[re.Match[str]], str]

_ATTENTIONS = {"attn1": "self_attn", "attn2": "cross_attn"}
_PROJECTIONS = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o", "norm_q": "norm_q", "norm_k": "norm_k"}
_DIT: list[tuple[str, _Renaming]] = [
    (r"patch_embedding\.", "patch_embedding."),
    (r"condition_embedder\.(text|time)_embedder\.linear_1\.", r"\1_embedding.0."),
    (r"condition_embedder\.(text|time)_embedder\.linear_2\.", r"\1_embedding.2."),
    (r"condition_embedder\.time_proj\.", "time_projection.1."),
    (r"blocks\.(\d+)\.scale_shift_table$", r"blocks.\1.modulation"),
    # Wan numbers its norms by their creation, diffusers by their place; only cross-attention's has weights.
    (r"blocks\.(\d+)\.norm2\.", r"blocks.\1.norm3."),
    (r"blocks\.(\d+)\.ffn\.net\.0\.proj\.", r"blocks.\1.ffn.0."),
    (r"blocks\.(\d+)\.ffn\.net\.2\.", r"blocks.\1.ffn.2."),
    *(
        (rf"blocks\.(\d+)\.{theirs}\.{re.escape(their_part)}\.", rf"blocks.\1.{wan}.{wan_part}.")
        for theirs, wan in _ATTENTIONS.items()
        for their_part, wan_part in _PROJECTIONS.items()
    ),
    (r"scale_shift_table$", "head.modulation"),
    (r"proj_out\.", "head.head."),
]

_RESIDUAL = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
_IN_RESIDUAL = rf"(?<=\.)({'|'.join(_RESIDUAL)})(?=\.(?:weight|bias|gamma)$)"


def wan_dit_name(name: str) -> str:
    """Wan's name of a tensor of WanTransformer3DModel; KeyError if it is none of text-to-video's."""
    return _renamed(name, _DIT)


def wan_vae_name(name: str, num_res_blocks: int = 2) -> str:
    """Wan's name of a tensor of AutoencoderKLWan; KeyError if it is none of Wan2.1's."""
    # A stage of the decoder: its residual layers, then an upsampling, counted through in Wan's one list.
    stage = num_res_blocks + 2
    places: list[tuple[str, _Renaming]] = [
        (r"quant_conv\.", "conv1."),
        (r"post_quant_conv\.", "conv2."),
        (r"(encoder|decoder)\.conv_in\.", r"\1.conv1."),
        (r"(encoder|decoder)\.mid_block\.resnets\.0\.", r"\1.middle.0."),
        (r"(encoder|decoder)\.mid_block\.attentions\.0\.", r"\1.middle.1."),
        (r"(encoder|decoder)\.mid_block\.resnets\.1\.", r"\1.middle.2."),
        (r"(encoder|decoder)\.norm_out\.", r"\1.head.0."),
        (r"(encoder|decoder)\.conv_out\.", r"\1.head.2."),
        (r"encoder\.down_blocks\.(\d+)\.", r"encoder.downsamples.\1."),
        (
            r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.",
            lambda found: f"decoder.upsamples.{stage * int(found[1]) + int(found[2])}.",
        ),
        (
            r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.",
            lambda found: f"decoder.upsamples.{stage * int(found[1]) + stage - 1}.",
        ),
    ]
    return _renamed(re.sub(_IN_RESIDUAL, lambda found: _RESIDUAL[found[1]], name), places)


def _renamed(name: str, renamings: list[tuple[str, _Renaming]]) -> str:
    fitting = [(found, new) for pattern, new in renamings if (found := re.match(pattern, name))]
    if len(fitting) != 1:
        raise KeyError(name)
    ((found, new),) = fitting
    return (found.expand(new) if isinstance(new, str) else new(found)) + name[found.end() :]
