"""Small checkpoints in every layout that is published, written by diffusers and transformers themselves."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.workers.models.diffusers_names import wan_dit_name, wan_vae_name
from tests.workers.text_dir import tokenizer

transformer_wan = pytest.importorskip("diffusers.models.transformers.transformer_wan")
autoencoder_kl_wan = pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl_wan")
umt5 = pytest.importorskip("transformers.models.umt5.modeling_umt5")

HEADS = 2
TEXT_TOKENS = 16
State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Published:
    """One small model with random weights, as the modules of those who publish such models."""

    transformer: nn.Module
    vae: nn.Module
    text: nn.Module

    @property
    def wan_transformer(self) -> State:
        """Its transformer under Wan's own names."""
        return {wan_dit_name(name): tensor for name, tensor in self.transformer.state_dict().items()}

    @property
    def wan_vae(self) -> State:
        """Its autoencoder under Wan's own names."""
        return {wan_vae_name(name): tensor for name, tensor in self.vae.state_dict().items()}

    @property
    def wan_text(self) -> State:
        """Its text encoder under Wan's own names."""
        return {wan_text_name(name): tensor for name, tensor in text_state(self.text).items()}


def published(seed: int = 0) -> Published:
    """Equal seeds give equal weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer = transformer_wan.WanTransformer3DModel(
            num_attention_heads=HEADS, attention_head_dim=12, text_dim=32, freq_dim=16, ffn_dim=48, num_layers=2
        )
        vae = autoencoder_kl_wan.AutoencoderKLWan(base_dim=4)
        text = umt5.UMT5EncoderModel(
            umt5.UMT5Config(
                vocab_size=tokenizer().get_vocab_size(), d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=4
            )
        )
        for module in (transformer, vae, text):
            for parameter in module.parameters():
                nn.init.normal_(parameter, std=0.1)
    return Published(transformer, vae, text)


def text_state(text: nn.Module) -> State:
    """The text encoder's tensors, its one table of words once."""
    return {name: tensor for name, tensor in text.state_dict().items() if name != "encoder.embed_tokens.weight"}


_TEXT_NAMES = {
    r"shared\.": "token_embedding.",
    r"encoder\.final_layer_norm\.": "norm.",
    r"encoder\.block\.(\d+)\.layer\.0\.layer_norm\.": r"blocks.\1.norm1.",
    r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias\.":
        r"blocks.\1.pos_embedding.embedding.",
    r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.": r"blocks.\1.attn.",
    r"encoder\.block\.(\d+)\.layer\.1\.layer_norm\.": r"blocks.\1.norm2.",
    r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0\.": r"blocks.\1.ffn.gate.0.",
    r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1\.": r"blocks.\1.ffn.fc1.",
    r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo\.": r"blocks.\1.ffn.fc2.",
}  # fmt: skip


def wan_text_name(name: str) -> str:
    """Wan's name of a tensor of UMT5EncoderModel; KeyError if it has none."""
    for pattern, text in _TEXT_NAMES.items():
        found = re.match(pattern, name)
        if found is not None:
            return found.expand(text) + name[found.end() :]
    raise KeyError(name)


# --- layouts ----------------------------------------------------------------------------------------------------------


def as_diffusers(folder: Path, made: Published, shard_size: str = "1GB") -> Path:
    """A pipeline of diffusers, each part in a folder of its own."""
    made.transformer.save_pretrained(folder / "transformer", max_shard_size=shard_size)  # type: ignore[operator]
    made.vae.save_pretrained(folder / "vae")  # type: ignore[operator]
    made.text.save_pretrained(folder / "text_encoder", max_shard_size=shard_size)  # type: ignore[operator]
    write_tokenizer(folder / "tokenizer")
    return folder


def as_wan(folder: Path, made: Published) -> Path:
    """The folder that Wan itself publishes."""
    from safetensors.torch import save_file

    write_tokenizer(folder / "google" / "umt5-xxl")
    table = {"_class_name": "WanModel", "num_heads": HEADS, "text_len": TEXT_TOKENS}
    (folder / "config.json").write_text(json.dumps(table))
    save_file(made.wan_transformer, folder / "diffusion_pytorch_model.safetensors")
    torch.save(made.wan_vae, folder / "Wan2.1_VAE.pth")
    torch.save(made.wan_text, folder / "models_t5_umt5-xxl-enc-bf16.pth")
    return folder


def as_training_checkpoint(path: Path, made: Published, wrapper: str = "model._fsdp_wrapped_module.") -> Path:
    """What a training script saves: averaged weights, last weights and a critic, each wrapped, and its own state."""

    def wrapped(state: State, factor: float = 1.0) -> State:
        return {
            wrapper + re.sub(r"^blocks\.(\d+)\.", r"blocks.\1._checkpoint_wrapped_module.", name): factor * tensor
            for name, tensor in state.items()
        }

    state = made.wan_transformer
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "generator": wrapped(state, 2.0),
            "generator_ema": wrapped(state),
            "critic": wrapped(state, 3.0),
            "critic_optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]},
            "step": 1000,
        },
        path,
    )
    (path.parent / "config.json").write_text(json.dumps({"num_heads": HEADS, "text_len": TEXT_TOKENS}))
    return path


def as_lora(path: Path, up: Tensor, down: Tensor, target: str, entry: str | None = None) -> Path:
    """A LoRA of one weight under the names of PEFT, at top level or under a key."""
    factors = {
        f"base_model.model.model.{target}.lora_A.default.weight": down,
        f"base_model.model.model.{target}.lora_B.default.weight": up,
    }
    torch.save(factors if entry is None else {entry: factors, "step": 7}, path)
    return path


def write_tokenizer(folder: Path) -> None:
    """The tokenizer that all small text encoders of these tests have."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))
