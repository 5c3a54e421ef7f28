"""`longtake drain`: shuts a server down in order, and waits for its end if asked to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

import click
import grpc

from longtake.cli import values
from longtake.cli.hand_over import hand_all_over
from longtake.cli.server import Server, server_options
from longtake.client.errors import ClientError
from longtake.net.addresses import DEFAULT_PORT, WrongAddress, parse_address

_LOOK_S = 0.5


def _address(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """HOST:PORT as clients are told it."""
    try:
        return None if value is None else str(parse_address(value, port=DEFAULT_PORT))
    except WrongAddress as error:
        raise click.BadParameter(str(error)) from None


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
@click.option(
    "--hand-over",
    metavar="HOST:PORT",
    help="First hand every stream over to this server, which clients must reach under this address, or --through.",
)
@click.option(
    "--through",
    callback=_address,
    metavar="HOST:PORT",
    help="Where clients go on after --hand-over, if that is a router before both servers.",
)
@click.option("--end-streams", is_flag=True, help="Do not keep them on disk for the next server.")
@click.option("--wait", is_flag=True, help="Wait until the server has ended, and tell what is still open.")
def drain_command(
    server: Server, grace: Fraction, hand_over: str | None, through: str | None, end_streams: bool, wait: bool
) -> None:
    """Shut a server down in order.

    Nothing new is opened from now on. Open streams end after the grace, then the server ends. Where streams are kept on
    disk (journal.path) they stop instead, and go on with the next server.

    With --hand-over streams go on at another server of the same model, which is shown the same credentials. Streams
    that cannot are named, and end, or are kept, with the grace. Until then the server stays, to tell clients that are
    away.
    """
    if through is not None and hand_over is None:
        raise click.UsageError("--through says where clients go on after --hand-over, so give that as well")
    other = None if hand_over is None else replace(server, target=hand_over, option="--hand-over")
    if other is not None:
        asyncio.run(_hand_over(server, other, other.target if through is None else through))
    asyncio.run(_drain(server, grace, end_streams=end_streams, wait=wait))


async def _hand_over(server: Server, other: Server, address: str) -> None:
    done = await hand_all_over(server, other, click.echo, address)
    click.echo(f"handed over: {_sessions(done.moved)}; {len(done.stayed)} stayed")


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
