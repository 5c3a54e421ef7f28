"""The command: what it says, its exit status, and that Ctrl-C leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.synthetic_checkpoint import WAN_1_3B, write
from longtake.cli.main import run
from workers.models import weights
from workers.models.wan.config import WanVAEConfig

TINY = replace(WAN_1_3B, dim=256, ffn_dim=64, num_heads=2, num_layers=2, text_dim=32)


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    return [str(path) for path in write(tmp_path / "synthetic", TINY, WanVAEConfig(dim=8))]


def test_check_says_what_sources_are_and_writes_nothing(
    tmp_path: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run(["convert", "--check", *sources]) == 0
    said = capsys.readouterr().out
    assert "hiar.pt (generator_ema): transformer with Wan's names, 69 tensors" in said
    assert "umt5-xxl: tokenizer" in said and "whole" not in said
    assert run(["convert", "--check", "--recipe", "wan-hiar", "--size", "64x64", *sources]) == 0
    assert "these make a whole wan-hiar, 64x64" in capsys.readouterr().out
    assert run(["convert", "--check", "--recipe", "wan-longlive", *sources]) == 2
    assert "weights: 'generator (what wan-longlive takes)' is not allowed" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_directory_is_checked_against_its_own_hashes(
    tmp_path: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    arguments = ["convert", *sources, "-o", str(out), "--recipe", "wan-hiar", "--size", "64x64"]
    assert run(arguments) == 0
    assert f"{out}: written" in capsys.readouterr().err
    assert run(arguments) == 0
    assert f"{out}: already there" in capsys.readouterr().err
    assert run(["convert", "--check", str(out)]) == 0
    assert "wan-hiar, 5 files, every one as it was written" in capsys.readouterr().out
    blob = bytearray((out / "dit.safetensors").read_bytes())
    blob[-1] ^= 1
    (out / "dit.safetensors").write_bytes(blob)
    assert run(["convert", "--check", str(out)]) == 2
    assert "dit.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "x"], "--recipe is missing; allowed: one of wan-hiar"),
        (["--recipe", "wan-hiar"], "--output is missing"),
        (["-o", "x", "--recipe", "wan-hiar", "--size", "64"], "'--size': '64' is not allowed; allowed: a width and"),
        (["-o", "x", "--recipe", "wan-hiar", "--size", "60x64"], "60"),
        (["-o", "x", "--recipe", "hiar"], "'hiar' is not one of 'wan-hiar'"),
    ],
)
def test_what_is_not_said_is_asked_for(
    sources: list[str], options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", *sources, *options]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not Path("x").exists()


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
from longtake.cli.main import run
from workers.convert import convert

def slow(*arguments):
    written = fast(*arguments)
    print("one part is written", flush=True)
    time.sleep(60)
    return written

fast, convert.write_tensors = convert.write_tensors, slow
sys.exit(run(sys.argv[1:]))
"""


def test_control_c_in_the_middle_leaves_nothing(tmp_path: Path, sources: list[str]) -> None:
    out = tmp_path / "new" / "model"
    arguments = ["convert", *sources, "-o", str(out), "--recipe", "wan-hiar", "--size", "64x64"]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"one part is written\n"
        assert list(out.parent.iterdir())
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert not list(out.parent.iterdir())


def test_a_checkpoint_of_random_numbers_is_a_model(tmp_path: Path, sources: list[str]) -> None:
    assert run(["convert", *sources, "-o", str(tmp_path / "m"), "--recipe", "wan-hiar", "--size", "64x64"]) == 0
    info = weights.load_info(tmp_path / "m")
    weights.check_weights(tmp_path / "m", info)
    assert info.dit == replace(TINY, text_len=512)
