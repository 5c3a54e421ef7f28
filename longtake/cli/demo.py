"""`longtake demo`: what a new user would type, one command after the other, each in a process of its own."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import click

from longtake.cli.local_server import local_server
from longtake.cli.server import Server
from longtake.cli.stream import StreamOutput, stream_to
from longtake.cli.targets import File
from longtake.client import CueAt, StreamOptions

PROMPT = "a red ball circling in the fog"
CUE = CueAt(prompt="a blue box swaying at night", time_s=Fraction(10))
DURATION_S = Fraction(20)
SEED = 7


def run_demo(output: str) -> int:
    """Serve on a free port, stream to `output`, end the server; returns the exit status."""
    target = File(output)
    target.check("h264")
    click.echo("$ longtake serve --port 0")
    with local_server(click.echo) as address:
        options = StreamOptions(seed=SEED, duration_s=DURATION_S, cues=(CUE,))
        click.echo(
            f'$ longtake stream "{PROMPT}" --cue 10s="{CUE.prompt}" --duration 20s --seed {SEED} '
            f"-o {output} --server {address}"
        )
        return asyncio.run(stream_to(Server(target=address), PROMPT, options, StreamOutput(target=target)))
