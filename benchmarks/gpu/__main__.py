"""The command: runs the phases one after the other, each in a process with a time limit, and prints a table."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

import click
import torch

from benchmarks.gpu.bench import Setting
from benchmarks.gpu.lines import append, read, table

WAN_1_3B = Path(__file__).parent.parent / "wan2.1-1.3b"
LIMITS_S = {
    "machine": 60.0,
    "attention": 60.0,
    "forwards": 150.0,
    "host": 170.0,
    "decoder": 120.0,
    "serving": 220.0,
    "server": 240.0,
    "pages": 40.0,
    "ranks": 40.0,
}
"""The phases in their order, each a module of this package, and after how many seconds each is ended."""
_STOP_EARLY_S = 8.0
"""By so much a phase ends itself before it is ended."""
_LEAST_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that phases have in common, and when the last of them must be over."""

    setting: Setting
    ends_s: float
    log: IO[str]

    def phase(self, name: str) -> None:
        """Run one; facts tell how it ended."""
        facts, left_s = Path(self.setting.facts), self.ends_s - time.monotonic()
        if left_s < _LEAST_S:
            append(facts, name, "phase", {"skipped": f"{max(0.0, left_s):.0f} s are left, it needs {_LEAST_S:.0f}"})
            return
        limit_s = min(LIMITS_S[name], left_s)
        given = json.dumps(asdict(replace(self.setting, seconds=limit_s - _STOP_EARLY_S)))
        command = [sys.executable, "-u", "-m", "benchmarks.gpu.phase", name, given]
        began_s = time.monotonic()
        try:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, timeout=limit_s, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            append(facts, name, "phase", {"error": f"it was ended after {limit_s:.0f} s"})
        else:
            if code:
                append(facts, name, "phase", {"error": f"it ended with status {code}; facts.log says more"})
        append(facts, name, "took", {"s": time.monotonic() - began_s})


def _chosen(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(value.split(","))
    for name in names:
        if name not in LIMITS_S:
            raise click.BadParameter(f"{name!r} is not allowed; allowed: {', '.join(LIMITS_S)}")
    return names


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for facts.jsonl and facts.log.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--model", type=click.Path(path_type=Path), default=WAN_1_3B, help="Directory with a model.json.")
@click.option("--tiny", is_flag=True, help="A tiny model in place of it: the one size for a CPU.")
@click.option("--phases", callback=_chosen, default=",".join(LIMITS_S), show_default=True, help="Names with commas.")
@click.option("--budget", default=540.0, show_default=True, help="Seconds for all phases together.")
def main(out: Path, device: str, model: Path, tiny: bool, phases: tuple[str, ...], budget: float) -> None:
    """Measure one device. The status is 1 if anything broke; what found no time is a line and breaks nothing."""
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("no CUDA device is here; see --device cpu --tiny")
    if device == "cpu" and not tiny:
        raise click.UsageError("the true sizes need a GPU; add --tiny")
    out.mkdir(parents=True, exist_ok=True)
    facts = out.absolute() / "facts.jsonl"
    facts.write_text("")
    with tempfile.TemporaryDirectory() as scratch, (out / "facts.log").open("w") as log:
        setting = Setting(
            facts=str(facts),
            scratch=scratch,
            model="" if tiny else str(model.absolute()),
            device=device,
            seconds=budget,
        )
        run = Run(setting=setting, ends_s=time.monotonic() + budget, log=log)
        for name in phases:
            run.phase(name)
    found = read(facts)
    click.echo(table(found))
    sys.exit(any("error" in fact for fact in found))


if __name__ == "__main__":
    main()
