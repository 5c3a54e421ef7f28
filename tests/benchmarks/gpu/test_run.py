"""All phases as on a GPU, at tiny size on the CPU; and what is said of one that breaks, hangs or is too late."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.__main__ import LIMITS_S, Run, main
from benchmarks.gpu.bench import Setting
from benchmarks.gpu.lines import TABLE_CHARACTERS, read, table

ROOT = Path(__file__).resolve().parents[3]
ABSENT = ("ray", "starlette", "uvicorn", "websockets", "cryptography", "jwt", "ftfy", "rich", "grpc_health",
          "grpc_reflection", "transformers", "tokenizers")  # fmt: skip
"""What a machine with a GPU may lack: nothing here may need it."""
BLOCK = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT}:
            raise ImportError(f"{{name}} is absent")
sys.meta_path.insert(0, Blocked())
"""
EXPECTED = {
    "machine": {"versions", "matrix product", "copies"},
    "attention": {"plain attention, batch 1", "attention, batch 1", "attention, batch 2", "attention: error and bits"},
    "forwards": {"D, full window", "C, full window", "D: kernels", "D: kernel 1", "bits", "full window, by batch",
                 "by pages read", "bfloat16 against float32, 4 layers"},
    "host": {"a block", "ops", "memory"},
    "decoder": {"decoder: a block", "decoder: kernels", "decoder: bits", "decoder: pictures",
                "decoder: bfloat16 against float32", "H.264 of a block"},
    "serving": {f"{name}{what}" for name in ("wan-hiar", "wan-self-forcing") for what in ("", ": start", ": memory")},
    "server": {"wan-hiar: start", "wan-hiar, 1 at once", "wan-hiar, 2 at once",
               "wan-self-forcing: start", "wan-self-forcing, 1 at once"},
    "pages": {"a page to the host and back"},
    "ranks": {"one rank"},
}  # fmt: skip

Facts = dict[str, dict[str, dict[str, object]]]


def by_phase(found: list[dict[str, object]]) -> Facts:
    facts: Facts = {}
    for fact in found:
        facts.setdefault(str(fact["phase"]), {})[str(fact["what"])] = fact
    return facts


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_phase_writes_its_facts_and_needs_no_more_than_a_gpu_machine_has(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    names = [name for name in LIMITS_S if name != "server"]

    def run(phases: list[str], environment: dict[str, str] = environment) -> tuple[list[dict[str, object]], str]:
        """The facts of some phases, and what is printed."""
        out = tmp_path / phases[0]
        call = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--device", "cpu", "--tiny"]
        call += ["--phases", ",".join(phases)]
        done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
        assert done.returncode == 0, done.stdout + (out / "facts.log").read_text()
        return read(out / "facts.jsonl"), done.stdout

    with ThreadPoolExecutor() as threads:  # each phase is a process of one thread: two halves side by side
        (first, _), (second, printed) = threads.map(run, (names[:4], names[4:]))
    without, said = run(["server"])
    assert "this machine lacks cryptography" in said and not [fact for fact in without if "error" in fact]
    shutil.rmtree(tmp_path / "server")
    whole, _ = run(["server"], dict(os.environ))
    found = first + second + whole
    assert not [fact for fact in found if "error" in fact or "skipped" in fact]
    facts = by_phase(found)
    assert set(facts) == set(LIMITS_S) == set(EXPECTED)
    for phase, whats in EXPECTED.items():
        assert whats <= set(facts[phase]), phase
    assert facts["forwards"]["bits"]["equal_runs"] and facts["forwards"]["bits"]["finite"]
    assert facts["host"]["ops"]["ops_a_block"] == 8
    assert facts["host"]["memory"]["blocks"] == 50
    assert facts["pages"]["a page to the host and back"]["equal"] and facts["ranks"]["one rank"]["equal"]
    assert facts["server"]["wan-hiar, 2 at once"]["segments"]
    for name in ("wan-hiar", "wan-self-forcing"):
        served = facts["serving"][name]
        assert isinstance(served["device_ms"], dict) and {"D", "V"} <= set(served["device_ms"])  # a D may hold commits
        assert isinstance(served["pictures_per_s"], float) and served["pictures_per_s"] > 0
    for text in (printed, table(found)):
        assert len(text) < TABLE_CHARACTERS + 100
        assert "serving | wan-hiar |" in text


def run_main(out: Path, *arguments: str) -> tuple[int, Facts]:
    result = CliRunner().invoke(main, ["--out", str(out), "--device", "cpu", "--tiny", *arguments])
    return result.exit_code, by_phase(read(out / "facts.jsonl"))


@pytest.mark.slow
def test_a_phase_that_breaks_is_a_line_and_a_status_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(command.LIMITS_S, "unwritten", 60.0)
    status, facts = run_main(tmp_path, "--phases", "unwritten,machine")
    assert status == 1
    assert "ModuleNotFoundError" in str(facts["unwritten"]["phase"]["error"])
    assert "error" not in facts["machine"]["versions"]
    assert "Traceback" in (tmp_path / "facts.log").read_text()


def test_a_phase_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(command.LIMITS_S, "machine", 0.01)
    status, facts = run_main(tmp_path, "--phases", "machine")
    assert status == 1
    assert "was ended" in str(facts["machine"]["phase"]["error"])


def test_without_time_a_phase_is_not_begun(tmp_path: Path) -> None:
    status, facts = run_main(tmp_path, "--budget", "1")
    assert status == 0
    assert list(facts) == list(LIMITS_S)
    assert all("skipped" in whats["phase"] for whats in facts.values())


def test_a_process_that_dies_is_a_line(tmp_path: Path) -> None:
    facts = tmp_path / "facts.jsonl"
    setting = Setting(facts=str(facts), scratch=str(tmp_path), model=str(tmp_path / "no"), device="cpu", seconds=9)
    with (tmp_path / "log").open("w") as log:
        Run(setting=setting, ends_s=time.monotonic() + 60, log=log).phase("machine")
    assert "status 1" in json.dumps(read(facts))
    assert "model.path" in (tmp_path / "log").read_text()


def test_unknown_phases_and_true_sizes_on_a_cpu_are_refused(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path)]
    unknown = CliRunner().invoke(main, [*out, "--device", "cpu", "--tiny", "--phases", "machine,forward"])
    assert unknown.exit_code == 2 and "'forward' is not allowed; allowed: machine, attention" in unknown.output
    assert CliRunner().invoke(main, [*out, "--device", "cpu"]).exit_code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_the_command_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--out", str(tmp_path)])
    assert result.exit_code == 2 and "--device cpu" in result.output
