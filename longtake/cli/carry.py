"""`longtake export` and `longtake import`: a session into a file, and one that goes on from a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import click

from longtake.cli import values
from longtake.cli.json_lines import json_option, show_json
from longtake.cli.server import Server, server_options
from longtake.client.client import PART_BYTES
from longtake.v1 import longtake_pb2 as pb


@click.command(name="export")
@click.argument("session_id", metavar="SESSION", callback=values.text)
@click.argument("file", type=values.AnyPath())
@server_options
def export_command(session_id: str, file: Path, server: Server) -> None:
    """Write SESSION to FILE, to go on from elsewhere.

    The session itself goes on undisturbed. `longtake import` makes one of the file, as often as wanted. The file holds
    prompts, and latents from which pictures can be made.
    """
    size_bytes = asyncio.run(_export(server, session_id, file))
    click.echo(f"{file}: {size_bytes} bytes")


async def _export(server: Server, session_id: str, file: Path) -> int:
    """Write to a file beside it first, so that there is a whole one or none; returns its size in bytes."""
    part_file = file.with_name(f"{file.name}.part")
    written = 0
    try:
        async with server.client() as client:
            with os.fdopen(os.open(part_file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as output:
                async for part in client.export_session(session_id):
                    written += output.write(part)
        part_file.replace(file)
    finally:
        part_file.unlink(missing_ok=True)
    return written


@click.command(name="import")
@click.argument("file", type=values.InputFile())
@server_options
@json_option
def import_command(file: Path, server: Server, as_json: bool) -> None:
    """Make a session of FILE, which `longtake export` wrote.

    The session waits for its client. Prints its id, and the token with which a client goes on (`Client.resume` in
    Python): keep it as a password.
    """
    with file.open("rb") as source:
        answer = asyncio.run(_import(server, source))
    token = answer.resume_token.hex()
    if as_json:
        show_json({"session_id": answer.session_id, "resume_token": token, "block": answer.block})
        return
    click.echo(f"session {answer.session_id}\nresume token {token}\nmade again from block {answer.block}")


async def _import(server: Server, source: BinaryIO) -> pb.ImportResponse:
    async with server.client() as client:
        return await client.import_session(_parts(source))


async def _parts(source: BinaryIO) -> AsyncIterator[bytes]:
    while part := source.read(PART_BYTES):
        yield part
