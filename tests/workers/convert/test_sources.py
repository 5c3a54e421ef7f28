"""What sources are said to be, and what is refused: by the name of the first thing that is wrong."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.synthetic_checkpoint import WAN_1_3B
from longtake.core.errors import InvalidField
from tests.workers.convert.publishing import (
    Published,
    as_diffusers,
    as_lora,
    as_training_checkpoint,
    as_wan,
    published,
    write_tokenizer,
)
from workers.convert.choice import Choice, Wish, choose
from workers.convert.convert import convert
from workers.convert.found import look
from workers.models.wan.config import WanVAEConfig
from workers.models.wan.names import bare
from workers.models.wan.sizes import transformer_config, vae_config
from workers.models.weights import tensor_shapes

SMALL = Wish(recipe="wan-hiar", width=64, height=64)
DIT = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def made() -> Published:
    return published()


@pytest.fixture
def wan(tmp_path: Path, made: Published) -> Path:
    return as_wan(tmp_path / "wan", made)


def chosen(*sources: Path, wish: Wish = SMALL) -> Choice:
    return choose(look(sources), wish, look([wish.lora]) if wish.lora else None)


def changed(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    held = load_file(path)
    change(held)
    save_file(held, path)


@pytest.mark.parametrize(
    "name",
    [
        "model.blocks.0.x", "net.blocks.0.x", "blocks._checkpoint_wrapped_module.0.x", "model._orig_mod.blocks.0.x",
        "_fsdp_wrapped_module.model._fsdp_wrapped_module.blocks.0._checkpoint_wrapped_module.x",
        "base_model.model.model.blocks.0.x", "module.model.blocks.0.x",
    ],
)  # fmt: skip
def test_wrappers_are_taken_off_wherever_they_stand(name: str) -> None:
    assert bare(name) == "blocks.0.x"


def test_names_that_only_look_like_wrappers_stay() -> None:
    assert bare("blocks.0.ffn.net.0.proj.weight") == "blocks.0.ffn.net.0.proj.weight"


def test_a_source_is_said_to_be_what_it_is(tmp_path: Path, wan: Path, made: Published) -> None:
    said = "\n".join(map(str, look([wan]).found))
    assert f"{DIT}: transformer with Wan's names, 69 tensors" in said
    assert "Wan2.1_VAE.pth: VAE with Wan's names, 194 tensors" in said
    assert "models_t5_umt5-xxl-enc-bf16.pth: text encoder with Wan's names" in said
    theirs = "\n".join(map(str, look([as_diffusers(tmp_path / "d", made)]).found))
    assert "transformer with diffusers's names" in theirs and "text encoder with transformers's names" in theirs
    several = look([as_training_checkpoint(tmp_path / "t" / "hiar.pt", made)])
    assert [found.collection.entry for found in several.found] == ["generator", "generator_ema", "critic"]
    assert all("float32" in str(found) for found in several.found)
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "foreign.pt")
    assert [str(other) for other in look([tmp_path / "foreign.pt"]).others] == ["foreign.pt"]


def refusal(*sources: Path, wish: Wish = SMALL) -> str:
    with pytest.raises(InvalidField) as raised:
        convert(chosen(*sources, wish=wish), wish, sources[0].parent / "out", lambda *_: None)
    assert not (sources[0].parent / "out").exists()
    return str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.1.ffn.0.bias"), r"blocks.1.ffn.0.bias: None .* shape \[48\]; it is missing"),
        (lambda t: [t.pop(n) for n in list(t) if "cross_attn" in n], "blocks.0.cross_attn.k.bias (and 19 more)"),
        (lambda t: t.update({"img_emb.x": torch.zeros(3)}), "img_emb.x: [3] .* no such tensor; it belongs to no such"),
        (lambda t: t.update({"head.modulation": torch.zeros(1, 2, 7)}), "head.modulation: [1, 2, 7] .* a wrong shape"),
        (
            lambda t: t.update({"head.head.bias": t["head.head.bias"].to(torch.float8_e4m3fn)}),
            "head.head.bias: 'float8_e4m3fn' .* float64, float32, bfloat16 or float16",
        ),
        (lambda t: t["blocks.1.norm3.bias"].fill_(torch.nan), "blocks.1.norm3.bias: 'NaN or infinity' .* finite"),
        (lambda t: t["blocks.1.norm3.bias"].fill_(torch.inf), "blocks.1.norm3.bias: 'NaN or infinity' .* finite"),
    ],
)
def test_weights_that_cannot_be_served_are_refused_by_name(
    wan: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    changed(wan / DIT, change)
    said = refusal(wan)
    assert all(part in said for part in message.replace("\\", "").split(" .* ")), said


def test_a_pickle_that_holds_code_is_refused_and_does_not_run(tmp_path: Path, wan: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return Path.touch, (tmp_path / "ran",)

    for name, save in (("zip.pt", torch.save), ("plain.pt", lambda held, path: path.write_bytes(pickle.dumps(held)))):
        path = tmp_path / name
        save({"generator": Trap()}, path)
        said = refusal(path, wan)
        assert name in said and ("pickle of tensors" in said or "torch.save" in said), said
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path, wan: Path) -> None:
    for name, content in (("a.pt", b"no"), ("b.safetensors", b"\xff" * 20), ("c.txt", b"x"), ("e.pth", b"")):
        (tmp_path / name).write_bytes(content)
        assert name in refusal(tmp_path / name, wan)
    assert "nowhere" in refusal(tmp_path / "nowhere", wan)
    (wan / "config.json").write_text("{")
    assert "config.json" in refusal(wan)
    (wan / "config.json").write_text(json.dumps({"num_heads": 5}))
    assert "num_heads: 5 is not allowed; allowed: a divisor of the width 24" in refusal(wan)


def test_a_missing_part_is_named_and_what_is_there(tmp_path: Path, wan: Path) -> None:
    (wan / "Wan2.1_VAE.pth").unlink()
    said = refusal(wan)
    assert "also a VAE" in said and "transformer with Wan's names" in said
    (wan / "google" / "umt5-xxl" / "tokenizer.json").unlink()
    assert "a VAE, a tokenizer" in refusal(wan)


def test_an_index_without_all_its_files_is_refused(tmp_path: Path, made: Published) -> None:
    folder = as_diffusers(tmp_path / "d", made, "20KB")
    lost = sorted((folder / "transformer").glob("*.safetensors"))[1]
    lost.unlink()
    assert lost.name in refusal(folder)


def test_weights_are_never_guessed(tmp_path: Path, wan: Path, made: Published) -> None:
    path = as_training_checkpoint(tmp_path / "t" / "one.pt", made)
    held = torch.load(path, weights_only=True)
    del held["generator_ema"], held["critic"]
    torch.save(held, path)
    assert "weights: 'generator_ema (what wan-hiar takes)' is not allowed; allowed: 'generator'" in refusal(wan, path)
    named = Wish(recipe="wan-hiar", width=64, height=64, weights="generator")
    assert chosen(wan, path, wish=named).weights == "generator"
    wrong = Wish(recipe="wan-hiar", width=64, height=64, weights="generator_ema")
    assert "generator_ema (asked for)" in refusal(wan, path, wish=wrong)
    assert "wan-hiar, wan-self-forcing, wan-longlive" in refusal(wan, wish=Wish(recipe="wan"))


def test_the_last_source_that_has_a_part_gives_it(tmp_path: Path, wan: Path) -> None:
    other = as_wan(tmp_path / "other", published(1))
    assert chosen(wan, other / DIT).transformer.collection.path == other / DIT
    assert chosen(wan, other / DIT).vae.collection.path == wan / "Wan2.1_VAE.pth"
    write_tokenizer(wan / "google" / "xlm-roberta-large")
    assert chosen(wan).tokenizer == wan / "google" / "umt5-xxl", "the other one is for pictures"


def test_a_lora_that_does_not_fit_is_refused(tmp_path: Path, wan: Path, made: Published) -> None:
    target = "blocks.1.ffn.0"
    outputs, inputs = made.wan_transformer[f"{target}.weight"].shape
    up, down = torch.zeros(outputs, 4), torch.zeros(4, inputs)

    def said(lora: Path, alpha: float | None = 4.0) -> str:
        return refusal(wan, wish=Wish(recipe="wan-longlive", width=64, height=64, lora=lora, alpha=alpha))

    good = as_lora(tmp_path / "good.pt", up, down, target)
    assert "alpha: None is not allowed; allowed: the strength of good.pt" in said(good, None)
    assert "blocks.9.ffn.0.weight" in said(as_lora(tmp_path / "far.pt", up, down, "blocks.9.ffn.0"))
    assert "[47, 24]" in said(as_lora(tmp_path / "thin.pt", up[1:], down, target))
    torch.save({f"{target}.lora_A.weight": down}, tmp_path / "half.pt")
    assert "both factors, A and B" in said(tmp_path / "half.pt")
    assert "a file with one LoRA" in said(wan / DIT)
    small = {f"{target}.lora_A.weight": down.to(torch.float8_e4m3fn), f"{target}.lora_B.weight": up}
    save_file(small, tmp_path / "small.safetensors")
    assert "lora_A.weight: 'float8_e4m3fn' is not allowed" in said(tmp_path / "small.safetensors")
    told = {f"{target}.lora_A.weight": down, f"{target}.lora_B.weight": up, f"{target}.alpha": torch.tensor(8.0)}
    save_file(told, tmp_path / "told.safetensors")
    wish = Wish(recipe="wan-longlive", width=64, height=64, lora=tmp_path / "told.safetensors")
    lora = chosen(wan, wish=wish).lora
    assert lora is not None and lora.scale == 2.0


def test_the_networks_of_wan_have_the_tensors_that_are_listed() -> None:
    """825 and 194 names with their shapes, as diffusers has them: whatever is published in either spelling fits."""
    lines = (Path(__file__).parent / "wan2.1-t2v-1.3b.txt").read_text().splitlines()
    listed: dict[str, dict[str, tuple[int, ...]]] = {"dit": {}, "vae": {}}
    for part, name, shape in map(str.split, lines):
        listed[part][name] = tuple(int(size) for size in shape.split("x"))
    assert [len(names) for names in listed.values()] == [825, 194]
    assert tensor_shapes(WAN_1_3B, WanVAEConfig()) == listed
    config = transformer_config(lambda name: listed["dit"][name], tuple(listed["dit"]), {})
    assert config == WAN_1_3B, "its shapes say all but the number of heads, which Wan's are 128 channels wide"
    assert vae_config(lambda name: listed["vae"][name]) == WanVAEConfig()
