"""Handing over: every session of one server goes on at another one, one after the other, with a line for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import grpc

from longtake.cli.server import Server
from longtake.client import Client
from longtake.client.errors import ClientError

PASSES = 10
"""So often it is looked whether there are sessions that were opened meanwhile."""
ATTEMPTS = 3
RETRY_S = 1.0
_LATER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""What may be otherwise in a moment: a fork that depends on its parent, say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """What became of the sessions."""

    moved: int
    stayed: tuple[str, ...]


async def hand_all_over(
    old: Server, new: Server, say: Callable[[str], object], address: str | None = None
) -> HandedOver:
    """Hand over every session of `old`, those included that are opened for a while meanwhile; `say` is told of each.

    Clients go on at `address`, that of a router before both servers; None: at that of `new`.

    What cannot be moved stays as it is. ClientError if the old server cannot be asked.
    """
    moved, stayed = 0, list[str]()
    async with old.client() as source, new.client() as target:
        for _ in range(PASSES):
            left = [each for each in await _sessions(source) if each not in stayed]
            if not left:
                break
            for session in left:
                problem = await _hand_over(session, source, target, new.target if address is None else address)
                if problem is None:
                    moved += 1
                    say(f"{session}: moved to {new.target}")
                else:
                    stayed.append(session)
                    say(f"{session}: stays: {problem}")
    return HandedOver(moved=moved, stayed=tuple(stayed))


async def _sessions(client: Client) -> list[str]:
    return [session.session_id for session in await client.list_sessions()]


async def _hand_over(session: str, source: Client, target: Client, address: str) -> str | None:
    """Hand over one session; returns why that cannot be, None if it is done (or has ended by itself)."""
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            await asyncio.sleep(RETRY_S)
        try:
            await _once(session, source, target, address)
        except ClientError as error:
            problem = f"{error.message} [{error.code.name}]"
            if error.code not in _LATER:
                return problem
        else:
            return None
    return problem


async def _once(session: str, source: Client, target: Client, address: str) -> None:
    made = ""
    try:
        answer = await target.import_session(source.export_session(session, hand_over=True))
        made = answer.session_id
        await source.hand_over(session, address, answer.resume_token, new_session_id=made)
    except BaseException:
        # The cues that wait are answered at once, and not in a minute; and nobody will come for the copy.
        with suppress(ClientError):
            await source.hand_over(session)
        if made:
            with suppress(ClientError):
                await target.close_session(made)
        raise
