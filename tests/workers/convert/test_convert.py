"""Published checkpoints become model directories: every layout the same bytes, and nothing half-made is left."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.core.errors import InvalidField
from longtake.core.recipe.context import Level
from longtake.core.recipe.published import PUBLISHED
from tests.workers.convert.publishing import (
    HEADS,
    TEXT_TOKENS,
    Published,
    as_diffusers,
    as_lora,
    as_training_checkpoint,
    as_wan,
    autoencoder_kl_wan,
    published,
    text_state,
)
from workers.convert.choice import Wish, choose
from workers.convert.convert import convert
from workers.convert.found import Found, look
from workers.models import weights
from workers.models.api import Compute
from workers.models.tensor_files import TensorFiles, write_tensors
from workers.models.wan.sizes import LATENT_MEAN, LATENT_STD

SMALL = Wish(recipe="wan-hiar", width=64, height=64)


@pytest.fixture(scope="module")
def made() -> Published:
    return published()


def converted(output: Path, *sources: Path, wish: Wish = SMALL) -> dict[str, str]:
    """Convert, and return the hash of every file that holds a part of the model."""
    assert convert(choose(look(sources), wish, look([wish.lora]) if wish.lora else None), wish, output, lambda *_: None)
    return hashes(output)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != weights.INFO_FILE
    }


def with_text_tokens(folder: Path) -> Path:
    """diffusers does not say how many tokens a prompt has; here they are fewer than Wan's."""
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "text_len": TEXT_TOKENS}))
    return folder


def test_every_layout_converts_to_the_same_bytes(tmp_path: Path, made: Published) -> None:
    wan = as_wan(tmp_path / "wan", made)
    found = {
        "wan": converted(tmp_path / "1", wan),
        "diffusers": converted(tmp_path / "2", with_text_tokens(as_diffusers(tmp_path / "d", made))),
        "sharded": converted(tmp_path / "3", with_text_tokens(as_diffusers(tmp_path / "s", made, "20KB"))),
        "training": converted(tmp_path / "4", wan, as_training_checkpoint(tmp_path / "t" / "hiar.pt", made)),
        "files": converted(
            tmp_path / "5",
            *(wan / name for name in ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google")),
            as_training_checkpoint(tmp_path / "u" / "hiar.pt", made, wrapper="net._orig_mod."),
        ),
    }
    assert len(list((tmp_path / "s" / "transformer").glob("*.safetensors"))) > 1
    assert found["wan"].keys() == {
        "dit.safetensors", "vae.safetensors", "text/model.safetensors", "text/config.json", "text/tokenizer.json",
    }  # fmt: skip
    for layout, other in found.items():
        assert other == found["wan"], layout
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "1").rglob("*") if path.is_file()}
    assert modes == {tmp_path.joinpath("1", "text").stat().st_mode & 0o666}, "whoever may list them may read them"
    held = load_file(tmp_path / "1" / "dit.safetensors")
    assert all(torch.equal(held[name], tensor) for name, tensor in made.wan_transformer.items())
    text = load_file(tmp_path / "1" / "text" / "model.safetensors")
    assert text.keys() == text_state(made.text).keys()
    assert all(torch.equal(text[name], tensor) for name, tensor in text_state(made.text).items())


def test_what_is_converted_is_a_model_directory_that_loads(tmp_path: Path, made: Published) -> None:
    converted(tmp_path / "out", as_wan(tmp_path / "wan", made))
    info = weights.load_info(tmp_path / "out")
    weights.check_weights(tmp_path / "out", info)
    weights.load_denoiser(tmp_path / "out", info, Compute())
    weights.load_decoder(tmp_path / "out", info, Compute())
    assert info.recipe == PUBLISHED["wan-hiar"].recipe and info.recipe.level is Level.OUTPUT
    assert (info.dit.num_heads, info.dit.text_len, info.dit.num_layers) == (HEADS, TEXT_TOKENS, 2)
    assert (info.geometry.width, info.geometry.height, info.text_kind) == (64, 64, "umt5")
    config = autoencoder_kl_wan.AutoencoderKLWan(base_dim=4).config
    assert (info.latent_mean, info.latent_std) == (tuple(config.latents_mean), tuple(config.latents_std))
    assert (info.latent_mean, info.latent_std) == (LATENT_MEAN, LATENT_STD)


def test_of_a_training_checkpoint_what_the_recipe_or_the_user_names_is_taken(tmp_path: Path, made: Published) -> None:
    wan, pt = as_wan(tmp_path / "wan", made), as_training_checkpoint(tmp_path / "t" / "hiar.pt", made)
    expected = made.wan_transformer["head.head.bias"]
    for number, (wish, factor) in enumerate(
        (
            (SMALL, 1.0),
            (Wish(recipe="wan-longlive", width=64, height=64), 2.0),
            (Wish(recipe="wan-hiar", width=64, height=64, weights="generator"), 2.0),
            (Wish(recipe="wan-longlive", width=64, height=64, weights="generator_ema"), 1.0),
        )
    ):
        converted(tmp_path / str(number), wan, pt, wish=wish)
        held = load_file(tmp_path / str(number) / "dit.safetensors")["head.head.bias"]
        assert torch.equal(held, factor * expected)
    origin = weights.load_manifest(tmp_path / "1")
    assert origin is not None and origin.origin.weights == "generator"
    assert [file.name for file in origin.origin.sources] == [
        "hiar.pt", "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "tokenizer.json",
    ]  # fmt: skip


def test_a_lora_is_merged_with_its_strength_over_its_rank(tmp_path: Path, made: Published) -> None:
    wan, target = as_wan(tmp_path / "wan", made), "blocks.1.ffn.0"
    weight = made.wan_transformer[f"{target}.weight"]
    generator = torch.Generator().manual_seed(5)
    up, down = (
        torch.randn(weight.shape[0], 4, generator=generator),
        torch.randn(4, weight.shape[1], generator=generator),
    )
    expected = weight + 0.5 * (up @ down)
    for number, entry in enumerate((None, "generator_lora")):
        lora = as_lora(tmp_path / f"{number}.pt", up, down, target, entry)
        wish = Wish(recipe="wan-longlive", width=64, height=64, lora=lora, alpha=2.0)
        converted(tmp_path / str(number), wan, wish=wish)
        held = load_file(tmp_path / str(number) / "dit.safetensors")
        assert torch.equal(held[f"{target}.weight"], expected)
        assert torch.equal(held["blocks.0.ffn.0.weight"], made.wan_transformer["blocks.0.ffn.0.weight"])


def test_bfloat16_is_rounded_once_and_all_of_it(tmp_path: Path, made: Published) -> None:
    wish = Wish(recipe="wan-hiar", width=64, height=64, dtype="bfloat16")
    converted(tmp_path / "out", as_wan(tmp_path / "wan", made), wish=wish)
    held = load_file(tmp_path / "out" / "dit.safetensors")
    assert all(torch.equal(held[name], tensor.bfloat16()) for name, tensor in made.wan_transformer.items())
    names = ("vae.safetensors", "text/model.safetensors")
    kinds = {tensor.dtype for name in names for tensor in load_file(tmp_path / "out" / name).values()}
    assert kinds == {torch.bfloat16}


def test_large_parts_are_several_files_with_an_index(tmp_path: Path) -> None:
    tensors = {f"t{number}": torch.full((100,), float(number)) for number in range(10)}
    sizes = {name: tensor.nbytes for name, tensor in tensors.items()}
    written = write_tensors(tmp_path, "dit", sizes, tensors.__getitem__, shard_bytes=1000)
    assert [path.name for path in written[:2]] == ["dit-00001-of-00005.safetensors", "dit-00002-of-00005.safetensors"]
    assert written[-1].name == "dit.safetensors.index.json" and len(written) == 6
    files = TensorFiles(tmp_path, "dit")
    assert set(files.names) == set(tensors)
    assert all(torch.equal(files.read(name), tensor) for name, tensor in tensors.items())
    again = tmp_path / "again"
    again.mkdir()
    write_tensors(again, "dit", sizes, tensors.__getitem__, shard_bytes=1000)
    assert hashes(again) == {name: digest for name, digest in hashes(tmp_path).items() if "/" not in name}
    written[1].unlink()
    with pytest.raises(FileNotFoundError, match="dit-00002"):
        TensorFiles(tmp_path, "dit")


def test_a_second_run_notices_what_is_done_and_another_wish_is_refused(tmp_path: Path, made: Published) -> None:
    wan, out = as_wan(tmp_path / "wan", made), tmp_path / "out"
    before = converted(out, wan)
    stamp = (out / weights.INFO_FILE).stat().st_mtime_ns
    choice = choose(look([wan]), SMALL)
    assert not convert(choice, SMALL, out, lambda *_: None)
    assert hashes(out) == before and (out / weights.INFO_FILE).stat().st_mtime_ns == stamp
    for other in (
        Wish(recipe="wan-hiar", width=128, height=64),
        Wish(recipe="wan-self-forcing", width=64, height=64),
        Wish(recipe="wan-hiar", width=64, height=64, shift=8.0),
        Wish(recipe="wan-hiar", width=64, height=64, dtype="bfloat16"),
    ):
        with pytest.raises(InvalidField, match=r"output: .* is not allowed; allowed: a folder that is empty"):
            convert(choose(look([wan]), other), other, out, lambda *_: None)
    held = load_file(wan / "diffusion_pytorch_model.safetensors")
    held["head.head.bias"] += 1
    save_file(held, wan / "diffusion_pytorch_model.safetensors")
    with pytest.raises(InvalidField, match="output"):
        convert(choose(look([wan]), SMALL), SMALL, out, lambda *_: None)


@pytest.mark.parametrize("end", [KeyboardInterrupt, InvalidField("disk", "full", "room")])
def test_an_end_in_the_middle_leaves_nothing(
    tmp_path: Path, made: Published, monkeypatch: pytest.MonkeyPatch, end: BaseException | type[BaseException]
) -> None:
    wan, out = as_wan(tmp_path / "wan", made), tmp_path / "new" / "out"

    def stopping(what: str, _done: int) -> None:
        if what == "writing the VAE":
            raise end

    with pytest.raises((KeyboardInterrupt, InvalidField)):
        convert(choose(look([wan]), SMALL), SMALL, out, stopping)
    assert list((tmp_path / "new").iterdir()) == []
    (out.parent / ".out.unfinished").mkdir()  # as a run leaves it that was killed
    (out.parent / ".out.unfinished" / "half").write_text("x")
    out.mkdir()
    converted(out, wan)
    assert [path.name for path in out.parent.iterdir()] == ["out"] and not (out / "half").exists()


def test_the_digest_of_a_converted_directory_reads_no_weights_and_notices_a_lost_file(
    tmp_path: Path, made: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    converted(out, as_wan(tmp_path / "wan", made))
    before = weights.digest(out)
    with monkeypatch.context() as patched:
        patched.setattr(hashlib, "file_digest", lambda *_: pytest.fail("weights were read"))
        assert weights.digest(out) == before
    manifest = weights.load_manifest(out)
    assert manifest is not None
    manifest.check_hashes(out)
    blob = bytearray((out / "vae.safetensors").read_bytes())
    blob[-1] ^= 1
    (out / "vae.safetensors").write_bytes(blob)
    assert weights.digest(out) == before, "only --check reads all"
    with pytest.raises(InvalidField, match=r"vae\.safetensors"):
        manifest.check_hashes(out)
    (out / "vae.safetensors").write_bytes(blob[:-1])
    with pytest.raises(InvalidField, match=r"vae\.safetensors: \d+ is not allowed; allowed: \d+ bytes"):
        weights.digest(out)


def test_equal_models_have_equal_digests_wherever_they_come_from_and_others_do_not(tmp_path: Path) -> None:
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        wan = as_wan(tmp_path / f"wan-{number}", published(seed))
        converted(tmp_path / str(number), wan)
        digests.append(weights.digest(tmp_path / str(number)))
    assert digests[0] == digests[1] != digests[2]


def test_memory_that_a_run_takes_is_one_file_of_the_output(
    tmp_path: Path, made: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors are asked for when their file is written, and of one file at a time."""
    asked: list[str] = []
    read = Found.read

    def noted(found: Found, name: str) -> Tensor:
        asked.append(name)
        return read(found, name)

    monkeypatch.setattr(Found, "read", noted)
    wan = as_wan(tmp_path / "wan", made)
    choice = choose(look([wan]), SMALL)
    assert not asked
    convert(choice, SMALL, tmp_path / "out", lambda *_: None)
    parts = (choice.transformer, choice.vae, choice.text)
    assert asked == [name for part in parts for name in sorted(part.names)]
