"""Model directories: what is written is read back; what is wrong is named with its value and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from longtake.core.errors import Contradiction, InvalidField
from longtake.core.recipe.context import Level
from tests.workers.model_dir import write_model
from workers.models import weights
from workers.models.api import Compute


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path)
    return tmp_path


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / weights.INFO_FILE
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def test_what_is_saved_is_loaded_bit_for_bit(model: Path) -> None:
    info = weights.load_info(model)
    assert info.recipe.level is Level.OUTPUT
    denoiser = weights.load_denoiser(model, info, Compute())
    decoder = weights.load_decoder(model, info, Compute())
    for module, name in ((denoiser, weights.DIT_FILE), (decoder, weights.VAE_FILE)):
        held = load_file(model / name)
        assert isinstance(module, nn.Module)
        state = module.state_dict()
        assert state.keys() == held.keys()
        assert all(torch.equal(state[key], held[key]) for key in held)
        assert not module.training


def test_half_precision_on_disk_is_served_in_the_type_asked_for(model: Path) -> None:
    info = weights.load_info(model)
    held = {key: value.half() for key, value in load_file(model / weights.DIT_FILE).items()}
    save_file(held, model / weights.DIT_FILE)
    denoiser = weights.load_denoiser(model, info, Compute())
    assert isinstance(denoiser, nn.Module)
    assert {value.dtype for value in denoiser.state_dict().values()} == {torch.float32}


def test_the_encoder_may_lie_beside_the_decoder(model: Path) -> None:
    info = weights.load_info(model)
    held = load_file(model / weights.VAE_FILE) | {"conv1.weight": torch.zeros(2), "encoder.x": torch.zeros(3)}
    save_file(held, model / weights.VAE_FILE)
    weights.check_weights(model, info)
    weights.load_decoder(model, info, Compute())


def test_digest_changes_with_one_weight(model: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = weights.digest(model)
    other = tmp_path_factory.mktemp("same")
    write_model(other)
    assert weights.digest(other) == before
    held = load_file(model / weights.DIT_FILE)
    next(iter(held.values())).view(-1)[0] += 1
    save_file(held, model / weights.DIT_FILE)
    assert weights.digest(model) != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(format="longtake-model/2"), "format: 'longtake-model/2' is not allowed"),
        (lambda t: t.update(colour="red"), "colour: 'red' is not allowed; allowed: one of the fields format, name"),
        (lambda t: t.pop("vae"), "vae: None is not allowed; allowed: a value; the field is missing"),
        (lambda t: t["recipe"].update(level="loud"), "recipe.level: 'loud' .* allowed: clean, output, input"),
        (lambda t: t["recipe"].update(steps=[1000, 1.5]), r"recipe.steps\[1\]: 1.5 .* allowed: a whole number"),
        (lambda t: t["recipe"].update(steps=[250, 500]), r"recipe.steps: \[250, 500\] .* strictly falling"),
        (lambda t: t["recipe"].pop("shift"), "recipe: .* allowed: also .*shift"),
        (lambda t: t["recipe"].update(frames=3), "recipe.frames: 3 is not allowed; allowed: one of the fields steps"),
        (lambda t: t["dit"].update(num_heads=5), "dit: .*24 does not split into 5 heads"),
        (lambda t: t["dit"].update(dim=True), "dit.dim: True is not allowed; allowed: a whole number"),
        (lambda t: t["dit"].update(patch_size=[1, 2]), r"dit.patch_size: \[1, 2\] .* a list of 3"),
        (lambda t: t["video"].update(fps="fast"), "video.fps: 'fast' is not allowed"),
        (lambda t: t["video"].update(width=33), "video.width: 33 is not allowed; allowed: a positive multiple of 16"),
        (lambda t: t.update(latent_std=[1.0, 1.0, 0.0, 1.0]), "latent_std: .* allowed: numbers above 0"),
        (lambda t: t.update(tiny_decoder={"z_dim": 4}), "tiny_decoder: .* allowed: also growth, widths"),
        (
            lambda t: t.update(tiny_decoder={"z_dim": 4, "widths": [4, 4, 4], "growth": [1, 2, 2]}),
            r"tiny_decoder.widths: \[4, 4, 4\] is not allowed; allowed: a list of 4",
        ),
        (lambda t: t.update(latent_mean=[0.0]), "latent_mean: '1 numbers' is not allowed; allowed: 4 numbers"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(model: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(model, change)
    with pytest.raises(InvalidField, match=message):
        weights.load_info(model)


def test_widths_that_do_not_fit_name_both_sides(model: Path) -> None:
    edit(model, lambda table: table["dit"].update(in_dim=8))
    with pytest.raises(Contradiction, match=r"dit.in_dim = 8 contradicts vae.z_dim = 4"):
        weights.load_info(model)


def test_files_that_are_missing_or_no_such_files(model: Path) -> None:
    info = weights.load_info(model)
    (model / weights.DIT_FILE).write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(InvalidField, match=r"dit.safetensors: .* allowed: a safetensors file"):
        weights.load_denoiser(model, info, Compute())
    (model / weights.VAE_FILE).unlink()
    with pytest.raises(InvalidField, match=r"model.path: .*vae.safetensors is missing"):
        weights.load_decoder(model, info, Compute())
    (model / weights.INFO_FILE).write_text("{")
    with pytest.raises(InvalidField, match="a JSON object"):
        weights.load_info(model)
    with pytest.raises(InvalidField, match=r"model.path: .*model.json is missing"):
        weights.load_info(model / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("head.head.bias"), "dit.safetensors: head.head.bias: None is not allowed; .* it is missing"),
        (lambda t: t.update(surplus=torch.zeros(2)), r"dit.safetensors: surplus: \[2\] is not allowed"),
        (
            lambda t: t.update({"head.head.bias": torch.zeros(3)}),
            r"head.head.bias: \[3\] is not allowed; allowed: shape \[16\]",
        ),
    ],
)
def test_a_wrong_tensor_is_named_before_any_is_read(
    model: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    info = weights.load_info(model)
    held = load_file(model / weights.DIT_FILE)
    change(held)
    save_file(held, model / weights.DIT_FILE)
    with pytest.raises(InvalidField, match=message):
        weights.check_weights(model, info)
    with pytest.raises(InvalidField, match=message):
        weights.load_denoiser(model, info, Compute())


def test_weights_that_are_not_finite_are_refused(model: Path) -> None:
    info = weights.load_info(model)
    held = load_file(model / weights.DIT_FILE)
    held["head.head.bias"][3] = torch.nan
    save_file(held, model / weights.DIT_FILE)
    with pytest.raises(InvalidField, match=r"head.head.bias: .*finite"):
        weights.load_denoiser(model, info, Compute())
