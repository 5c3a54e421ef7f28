"""Where workers meet and exchange tensors nobody is asked who they are; bytes that mean nothing break nothing there.

Who can reach these ports and knows their protocol can do more (docs/security.md): only the network keeps them away.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import torch

from tests.hostile.cell import wait_for
from workers.peers import MeetingPoint, Pair

VALIDATE = b"\x00" + struct.pack("<I", 0x3C85F7CE)
"""With which a client of the store begins."""
KINDS = 20
LENGTHS = (0, 1, 8, 1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def nonsense() -> Iterator[bytes]:
    """Bytes of no protocol, then requests of the store's that lie about their length."""
    draw = random.Random(11)
    yield from (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" * 64)
    yield from (draw.randbytes(draw.randrange(300)) for _ in range(40))
    for kind in range(KINDS):
        for length in LENGTHS:
            yield VALIDATE + bytes((kind,)) + struct.pack("<Q", length) + draw.randbytes(16)


def say(address: tuple[str, int], what: bytes) -> None:
    """Say it and go, whatever is answered."""
    with suppress(OSError), socket.create_connection(address, timeout=5) as stranger:
        stranger.sendall(what)


def listening() -> set[tuple[str, int]]:
    """Where this process listens on 127.0.0.1."""
    own = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            own.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    found = [row[1].split(":") for row in rows if row[3] == "0A" and row[9] in own]
    return {("127.0.0.1", int(port, 16)) for host, port in found if host == "0100007F"}


def exchange(ends: tuple[Pair, Pair]) -> None:
    """One tensor from one end to the other, whole."""
    sent, received = torch.arange(1000.0), torch.zeros(1000)
    with ThreadPoolExecutor() as threads:
        sending = threads.submit(ends[0].send, sent)
        ends[1].receive(received)
        sending.result()
    assert torch.equal(sent, received)


def meet(point: MeetingPoint, name: str) -> tuple[Pair, Pair]:
    with ThreadPoolExecutor() as threads:
        first, second = (threads.submit(Pair, point.address, name, rank, timeout_s=30) for rank in (0, 1))
        return first.result(), second.result()


def test_nonsense_at_the_meeting_point_keeps_nobody_from_meeting() -> None:
    point = MeetingPoint()
    host, _, port = point.address.rpartition(":")
    for what in nonsense():
        say((host, int(port)), what)
    with ExitStack() as held:
        for _ in range(200):
            held.enter_context(socket.create_connection((host, int(port)), timeout=5))
        exchange(meet(point, "after"))


def test_nonsense_at_the_ports_of_a_pair_changes_no_tensor() -> None:
    point = MeetingPoint()
    before = listening()
    ends = meet(point, "pair")
    ports = listening() - before
    assert ports, "each end listens"
    for number, what in enumerate(nonsense()):
        for port in ports:
            say(port, what)
        if number % 50 == 0:
            exchange(ends)
    with ExitStack() as held:
        for port in ports:
            for _ in range(50):
                with suppress(OSError):
                    held.enter_context(socket.create_connection(port, timeout=5))
        exchange(ends)
    del ends
    wait_for(lambda: not listening() - before, "the ports of the pair are closed")
