"""The tiny decoder as a source: taken with the others or added later, to the same bytes, and refused by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.cli.main import run
from longtake.core.errors import Contradiction, InvalidField
from longtake.core.work import DecoderKind
from tests.workers.convert.publishing import as_wan, published
from tests.workers.model_dir import write_model
from tests.workers.tiny_decoder import FOUR, SIXTEEN, with_tiny, write_taew
from workers.convert.convert import add_tiny_decoder
from workers.convert.found import look
from workers.models import weights
from workers.models.api import Compute
from workers.models.wan.config import TaehvConfig
from workers.models.wan.sizes import tiny_config

OPTIONS = ["--recipe", "wan-hiar", "--size", "64x64"]


@pytest.fixture
def wan(tmp_path: Path) -> Path:
    return as_wan(tmp_path / "wan", published())


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def changed(path: Path, **changes: Tensor | None) -> Path:
    held = torch.load(path, weights_only=True)
    for name, tensor in changes.items():
        if tensor is None:
            del held[name]
        else:
            held[name] = tensor
    torch.save(held, path)
    return path


@pytest.mark.parametrize("dtype", [[], ["--dtype", "bfloat16"]])
def test_added_later_it_is_the_directory_that_all_sources_make(tmp_path: Path, wan: Path, dtype: list[str]) -> None:
    taew = write_taew(tmp_path / "taew2_1.pth", SIXTEEN)
    at_once, later = tmp_path / "at_once", tmp_path / "later"
    assert run(["convert", str(wan), str(taew), "-o", str(at_once), *OPTIONS, *dtype]) == 0
    assert run(["convert", str(wan), "-o", str(later), *OPTIONS, *dtype]) == 0
    without = files(later)
    assert run(["convert", str(taew), "-o", str(later)]) == 0
    assert files(later) == files(at_once) != without
    assert without.keys() ^ files(later).keys() == {"tiny_decoder.safetensors"}
    assert run(["convert", "--check", str(later)]) == 0
    manifest = weights.load_manifest(later)
    assert manifest is not None and manifest.origin.tiny_licence == "MIT (TAEHV)"
    assert manifest.origin.sources[-1].name == "taew2_1.pth"
    assert not list(tmp_path.glob(".*"))


def test_only_its_decoder_is_taken_and_it_loads(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    info = with_tiny(tmp_path / "model", tmp_path)
    held = load_file(tmp_path / "model" / "tiny_decoder.safetensors")
    published_ = torch.load(tmp_path / "taew2_1.pth", weights_only=True)
    assert held.keys() == {name for name in published_ if name.startswith("decoder.")}
    assert all(torch.equal(held[name], published_[name]) for name in held)
    assert info.tiny == FOUR and info.decoders == (DecoderKind.FULL, DecoderKind.TINY)
    weights.check_weights(tmp_path / "model", info)
    weights.load_decoder(tmp_path / "model", info, Compute(), DecoderKind.TINY)


def test_a_second_run_notices_what_is_done_and_another_decoder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, taew = tmp_path / "model", tmp_path / "taew2_1.pth"
    write_model(model)
    with_tiny(model, tmp_path)
    before = files(model)
    assert run(["convert", str(taew), "-o", str(model)]) == 0
    assert "the tiny decoder is already there" in capsys.readouterr().err
    assert run(["convert", str(write_taew(tmp_path / "other.pth", seed=1)), "-o", str(model)]) == 2
    assert "allowed: a model directory without a tiny decoder, or with this one" in capsys.readouterr().err
    assert files(model) == before


def test_the_digest_covers_it(tmp_path: Path) -> None:
    model = tmp_path / "model"
    write_model(model)
    digests = [weights.digest(model)]
    info = with_tiny(model, tmp_path)
    digests.append(weights.digest(model))
    blob = bytearray((model / "tiny_decoder.safetensors").read_bytes())
    blob[-1] ^= 1
    (model / "tiny_decoder.safetensors").write_bytes(blob)
    digests.append(weights.digest(model))
    assert len(set(digests)) == 3
    (model / "tiny_decoder.safetensors").unlink()
    with pytest.raises(InvalidField, match=r"tiny_decoder.safetensors is missing"):
        weights.load_decoder(model, info, Compute(), DecoderKind.TINY)


def test_a_model_without_one_says_what_it_has(tmp_path: Path) -> None:
    info = write_model(tmp_path)
    with pytest.raises(InvalidField, match="decoder: 'tiny' is not allowed; allowed: full"):
        weights.load_decoder(tmp_path, info, Compute(), DecoderKind.TINY)


def refusal(tmp_path: Path, source: Path) -> str:
    write_model(tmp_path / "model")
    before = files(tmp_path / "model")
    with pytest.raises((InvalidField, Contradiction)) as raised:
        add_tiny_decoder(look([source]).found[-1], tmp_path / "model", None, lambda *_: None)
    assert files(tmp_path / "model") == before and not list(tmp_path.glob(".*"))
    return str(raised.value)


def test_what_cannot_be_served_is_refused_by_name(tmp_path: Path) -> None:
    source = tmp_path / "taew2_1.pth"

    def said(**changes: Tensor | None) -> str:
        return refusal(tmp_path, changed(write_taew(source), **changes))

    assert "decoder.22.bias: None is not allowed; allowed: shape [3]; it is missing" in said(
        **{"decoder.22.bias": None}
    )
    assert "decoder.8.weight: None is not allowed" in said(**{"decoder.8.weight": None})
    foreign = said(**{"decoder.23.bias": torch.zeros(3)})
    assert "decoder.23.bias: [3] is not allowed; allowed: no such tensor" in foreign
    patched = said(**{"decoder.22.weight": torch.zeros(12, 4, 3, 3)})
    assert "decoder.22.weight: [12, 4, 3, 3] is not allowed; allowed: shape [3, 4, 3, 3]" in patched
    assert "'NaN or infinity'" in said(**{"decoder.22.bias": torch.full((3,), torch.nan)})
    assert "float8_e4m3fn" in said(**{"decoder.22.bias": torch.zeros(3).to(torch.float8_e4m3fn)})
    write_taew(source, SIXTEEN)
    assert "tiny_decoder: z_dim = 16 contradicts vae: z_dim = 4" in refusal(tmp_path, source)
    write_taew(source, TaehvConfig(z_dim=4, widths=(8, 6, 4, 4), growth=(1, 1, 2)))
    assert "tiny_decoder: temporal_stride = 2 contradicts vae: temporal_stride = 4" in refusal(tmp_path, source)


def test_check_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_taew(tmp_path / "taew2_1.pth")
    assert run(["convert", "--check", str(source)]) == 0
    assert "taew2_1.pth: tiny decoder with TAEHV's names, 64 tensors" in capsys.readouterr().out
    assert run(["convert", str(source)]) == 2
    assert "the model directory that the tiny decoder is added to" in capsys.readouterr().err


def test_the_published_one_has_the_tensors_that_are_listed() -> None:
    """64 names with their shapes, as its publisher's code makes them at the published widths."""
    lines = (Path(__file__).parent / "taew2_1.txt").read_text().splitlines()
    listed = {name: tuple(map(int, shape.split("x"))) for name, shape in map(str.split, lines)}
    assert len(listed) == 64
    config = tiny_config(listed.__getitem__)
    assert config == TaehvConfig(z_dim=16, widths=(256, 128, 64, 64), growth=(1, 2, 2))
    assert weights.tiny_shapes(config) == listed
