"""`longtake demo`: what a new user would type, one command after the other, each in a process of its own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from fractions import Fraction

import click

from longtake.cli_stream import Output, stream_to_file
from longtake.client import CueAt, StreamOptions

PROMPT = "a red ball circling in the fog"
CUE = CueAt(prompt="a blue box swaying at night", time_s=Fraction(10))
DURATION_S = Fraction(20)
SEED = 7
STOP_S = 90.0


def run_demo(output: str) -> int:
    """Serve on a free port, stream to `output`, end the server; returns the exit status."""
    target = Output(path=output, as_json=False)
    target.check()
    command = [sys.executable, "-m", "longtake", "serve", "--port", "0"]
    _echo(command)
    # A session of its own, so that Ctrl-C ends the stream first and the server after it.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
        try:
            address = _address(server)
            if not address:
                return 1
            options = StreamOptions(seed=SEED, duration_s=DURATION_S, cues=(CUE,))
            click.echo(
                f'$ longtake stream "{PROMPT}" --cue 10s="{CUE.prompt}" --duration 20s --seed {SEED} '
                f"-o {output} --server {address}"
            )
            return asyncio.run(stream_to_file(address, PROMPT, options, target))
        finally:
            _stop(server)


def _address(server: subprocess.Popen[str]) -> str:
    """HOST:PORT from the line with which the server says that it is ready; empty if it ended before."""
    for line in server.stdout or ():
        click.echo(line, nl=False)
        if line.startswith("ready: "):
            return line.split(" on ", 1)[1].split(" ", 1)[0]
    return ""


def _stop(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGINT)
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()


def _echo(command: list[str]) -> None:
    click.echo("$ longtake " + " ".join(command[3:]))
