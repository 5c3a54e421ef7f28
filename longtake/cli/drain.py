"""`longtake drain`: shuts a server down in order, and waits for its end if asked to."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from fractions import Fraction

import click
import grpc

from longtake.cli import values
from longtake.cli.server import Server, server_options
from longtake.client.errors import ClientError

_LOOK_S = 0.5


@click.command(name="drain")
@server_options
@click.option(
    "--grace",
    callback=values.grace,
    default="0s",
    show_default=True,
    metavar="TIME",
    help="How long open streams may go on, such as 10m; at most 24h.",
)
@click.option("--end-streams", is_flag=True, help="Do not keep them on disk for the next server.")
@click.option("--wait", is_flag=True, help="Until the server has ended, telling what is still open.")
def drain_command(server: Server, grace: Fraction, end_streams: bool, wait: bool) -> None:
    """Shut a server down: nothing new is opened, open streams end after a grace, then the server ends.

    Where streams are kept on disk ([journal] path) they stop then, and go on with the next server.
    """
    asyncio.run(_drain(server, grace, end_streams=end_streams, wait=wait))


async def _drain(server: Server, grace: Fraction, *, end_streams: bool, wait: bool) -> None:
    async with server.client() as client:
        count = await client.drain(grace, end_streams=end_streams)
    until = f"; they go on for {timedelta(seconds=round(grace))}" if count and grace else ""
    click.echo(f"draining: {_sessions(count)} open{until}")
    if not wait:
        return
    told, refusals = count, 0
    while refusals < 2:  # once may be an accident of the network; a server that has ended stays away
        await asyncio.sleep(_LOOK_S)
        try:
            async with server.client() as client:
                status = await client.get_status()
        except ClientError as error:
            if error.code is not grpc.StatusCode.UNAVAILABLE:
                raise
            refusals += 1
            continue
        refusals = 0
        if status.sessions != told:
            told = status.sessions
            click.echo(f"{_sessions(told)} open, {timedelta(seconds=round(status.drains_in_s))} left")
    click.echo("the server has ended")


def _sessions(count: int) -> str:
    return f"{count} session{'' if count == 1 else 's'}"
