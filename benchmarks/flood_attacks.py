"""Floods at the ports of a server, in a process of their own: what each tried, and what the server made of it.

python -m benchmarks.flood_attacks NAME HOST:PORT SECONDS: one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    RawClient,
    frame,
    request,
)

ATTACH = "/longtake.link.v1.LinkService/Attach"
UNARY = "/longtake.v1.LongtakeService/GetStatus"
IDLE = 1100
CALLERS = 32
HELLO_BYTES = 60 << 20
BODY_BYTES = 1 << 20
CONNECT_S = 20.0
"""So long it is tried to have as many idle connections."""
GIVE_UP_S = 20.0
"""After which a caller whose message is not taken gives up."""
_WINDOW_BYTES = 65_535
_INITIAL_WINDOW = 4
"""The name of that setting in HTTP/2."""
_FRAME_BYTES = 16_384
_BATCH_BYTES = 1 << 20
"""The most that is sent before it is looked at what the server says."""

Counts = dict[str, float]


def raise_files(wanted: int) -> None:
    """Let this process have so many file descriptors, if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, wanted)), hard))


def metrics(address: str, seconds: float) -> Counts:
    """Connections that say nothing."""
    raise_files(4 * IDLE)
    host, _, port = address.rpartition(":")
    watched, sockets, refused = select.epoll(), dict[int, socket.socket](), 0
    until_s = time.monotonic() + CONNECT_S
    while len(sockets) < IDLE and time.monotonic() < until_s:
        try:
            made = socket.create_connection((host, int(port)), timeout=1.0)
        except OSError:
            refused += 1
            continue
        sockets[made.fileno()] = made
        watched.register(made.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
    made_count, until_s = len(sockets), time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        for number, _ in watched.poll(left_s):
            watched.unregister(number)
            sockets.pop(number).close()
    for each in sockets.values():
        each.close()
    return {"connections": made_count, "refused": refused, "cut": made_count - len(sockets)}


@dataclass(slots=True)
class _Windows:
    """What HTTP/2 lets a caller send now, in bytes; the server widens it as it reads."""

    connection: int = _WINDOW_BYTES
    stream: int = _WINDOW_BYTES
    initial: int = _WINDOW_BYTES

    def room(self) -> int:
        return min(_BATCH_BYTES, self.connection, self.stream)

    def sent(self, count: int) -> None:
        self.connection -= count
        self.stream -= count

    def hear(self, said: Frame) -> bytes:
        """Take note of a frame; returns what is to be said to it."""
        if said.kind == WINDOW_UPDATE:
            more = int.from_bytes(said.payload, "big")
            self.connection += more * (said.stream == 0)
            self.stream += more * (said.stream == 1)
        elif said.kind == SETTINGS and not said.flags & ACK:
            for name, value in struct.iter_unpack(">HI", said.payload):
                if name == _INITIAL_WINDOW:
                    self.stream, self.initial = self.stream + value - self.initial, value
            return frame(SETTINGS, flags=ACK)
        elif said.kind == PING and not said.flags & ACK:
            return frame(PING, said.payload, flags=ACK)
        return b""


def data(payload: bytes, *, is_end: bool) -> bytes:
    """Frames of a call's message, the last one with the mark of its end if it is that."""
    starts = range(0, len(payload), _FRAME_BYTES)
    return b"".join(
        frame(DATA, payload[at : at + _FRAME_BYTES], flags=END_STREAM * (is_end and at == starts[-1]), stream=1)
        for at in starts
    )


def call_without_end(address: str, path: str, size: int) -> int:
    """Make a call with a message of `size` bytes, as fast as the server lets us; returns how many bytes went out, with
    the five before the message.

    It stops where the call is ended.
    """
    head = b"\0" + size.to_bytes(4, "big")
    windows, sent, whole = _Windows(), 0, len(head) + size
    with RawClient(address, acknowledge=False) as client:
        client.send(frame(HEADERS, request(path), flags=END_HEADERS, stream=1))
        until_s = time.monotonic() + GIVE_UP_S
        while sent < whole and client.is_open and time.monotonic() < until_s:
            count = min(windows.room(), whole - sent)
            if count > 0 and not client.send(data((head + bytes(count))[:count], is_end=sent + count == whole)):
                break
            head, sent = b"", sent + count
            windows.sent(count)
            for each in client.frames(0.001 if count else 0.5):
                if each.kind == RST_STREAM or (each.kind == HEADERS and b"grpc-status" in each.payload):
                    return sent
                client.send(windows.hear(each))
    return sent


def _again_and_again(address: str, seconds: float, path: str, size: int) -> Counts:
    """Many callers at once, each call after call."""
    until_s = time.monotonic() + seconds

    def caller(_: int) -> list[int]:
        sent = []
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError):
                sent.append(call_without_end(address, path, size))
        return sent

    with ThreadPoolExecutor(CALLERS) as threads:
        sent = [count for each in threads.map(caller, range(CALLERS)) for count in each]
    return {"calls": len(sent), "most_mb_of_one": max(sent, default=0) / 1e6, "mb": sum(sent) / 1e6}


def hellos(address: str, seconds: float) -> Counts:
    """Workers' hellos of 60 MB by who is no worker."""
    return _again_and_again(address, seconds, ATTACH, HELLO_BYTES)


def bodies(address: str, seconds: float) -> Counts:
    """Unary requests of 1 MiB without a token."""
    return _again_and_again(address, seconds, UNARY, BODY_BYTES)


FLOODS: dict[str, Callable[[str, float], Counts]] = {each.__name__: each for each in (metrics, hellos, bodies)}


def main() -> None:
    """Do one flood and print what came of it, and which share of a processor it took itself."""
    name, address, seconds = sys.argv[1:]
    began_s = time.monotonic()
    counts = FLOODS[name](address, float(seconds))
    counts["share_of_a_core"] = time.process_time() / (time.monotonic() - began_s)
    sys.stdout.write(json.dumps({key: round(value, 2) for key, value in counts.items()}) + "\n")


if __name__ == "__main__":
    main()
