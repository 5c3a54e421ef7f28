"""Attacks on the port for clients, below gRPC: each is refused or bounded, and no other stream notices."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from benchmarks import http2
from benchmarks.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    RawClient,
    field,
    frame,
    message,
    request,
)
from cluster.frontend.offer import WireLimits
from cluster.net import grpc_options
from cluster.net.descriptors import CLIENTS, ENOUGH_FILES, RESERVED_FILES, Connections
from cluster.net.grpc_options import server_options
from longtake.client.route import CHANNEL_OPTIONS
from longtake.client.sync import SyncClient
from tests.hostile.answers import refused
from tests.hostile.cell import Cell, Witness, running, wait_for

ENHANCE_YOUR_CALM = 11
HALF_OPEN = 300
LEAST_SEGMENTS = 10
OWN_FILES = 4
"""What gRPC may open for itself as it grows, such as pollers. Attacks that leave connections leave dozens."""
CUT_S = 3 * grpc_options.HANDSHAKE_MS / 1000


@pytest.fixture(scope="module")
def quiet(cell: Cell) -> list[str]:
    """The hashes of the witness's segments when nobody attacks."""
    with Witness(cell.address) as witness:
        witness.sees(3 * LEAST_SEGMENTS)
    with Witness(cell.address, seed=6) as other:
        other.sees(3)
    assert set(other.hashes[:3]).isdisjoint(witness.hashes)
    return witness.hashes


# --- attacks: each asserts what becomes of it -------------------------------------------------------------------------


def garbage(address: str) -> None:
    """Bytes that are no protocol."""
    for _ in range(50):
        with RawClient(address, greet=False) as client:
            client.send(b"\x00" + os.urandom(4095))
            assert client.is_cut()


def http1(address: str) -> None:
    """Another protocol."""
    with RawClient(address, greet=False) as client:
        client.send(b"POST /longtake.v1.LongtakeService/Drain HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        assert client.is_cut()
        assert not list(client.frames(0.1))


def silence(address: str) -> None:
    """Connections that say nothing, and such as stop after the preface."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(RawClient(address, source=f"127.0.0.{2 + number % 4}", greet=False))
            for number in range(HALF_OPEN)
        ]
        for client in clients[::2]:
            client.send(PREFACE)
        assert all(client.is_cut(CUT_S) for client in clients)


def pings(address: str) -> None:
    """More pings than the server owes an answer."""
    with RawClient(address) as client:
        for _ in range(100):
            if not client.send(frame(PING, b"12345678") * 100):
                break
        end = client.goaway()
        assert end is not None and (end.error, end.debug) == (ENHANCE_YOUR_CALM, b"too_many_pings")
        assert client.is_cut()


def no_acknowledgement(address: str) -> None:
    """A client that does not agree to the server's limits is not held to them, so it may not stay."""
    with RawClient(address, acknowledge=False) as client:
        assert client.is_cut(CUT_S)
        assert not list(client.frames(0.1))


def settings(address: str) -> None:
    """Settings without end, none of whose acknowledgements is read."""
    with RawClient(address) as client:
        client.socket.settimeout(1)
        for _ in range(3000):
            if not client.send(frame(SETTINGS) * 100):
                return  # it has stopped reading


def rapid_reset(address: str) -> None:
    """Calls that are taken back at once (CVE-2023-44487)."""
    with RawClient(address) as client:
        client.socket.settimeout(1)
        for first in range(1, 20_001, 200):
            calls = (
                frame(HEADERS, request(), flags=END_HEADERS, stream=stream)
                + frame(RST_STREAM, b"\0\0\0\x08", stream=stream)
                for stream in range(first, first + 200, 2)
            )
            if not client.send(b"".join(calls)):
                return


def continuations(address: str) -> None:
    """Headers that never end (CVE-2024-27316), of many bytes and of none."""
    for payload in (field("x-a", "b" * 1000) * 10, b""):
        with RawClient(address) as client:
            client.send(frame(HEADERS, request(), stream=1))
            for _ in range(500):
                if not client.send(frame(CONTINUATION, payload, stream=1)):
                    break
            assert not any(each.kind == HEADERS and b"grpc-status\x010" in each.payload for each in client.frames(0.2))


def header_bomb(address: str) -> None:
    """Few bytes that unfold to many: a header in the table, named thousands of times."""
    with RawClient(address) as client:
        kept = b"\x40" + field("x-a", "b" * 3000)[1:]
        client.send(frame(HEADERS, request(http2.STREAM_PATH, kept) + b"\xbe" * 8000, flags=END_HEADERS, stream=1))
        refused(client, grpc.StatusCode.RESOURCE_EXHAUSTED)


def large_headers(address: str) -> None:
    """More headers than a call may have."""
    with RawClient(address) as client:
        many = b"".join(field(f"x-{number}", "b" * 400) for number in range(60))
        client.send(frame(HEADERS, request(http2.STREAM_PATH), stream=1))
        client.send(frame(CONTINUATION, many[:16_000], stream=1))
        client.send(frame(CONTINUATION, many[16_000:], flags=END_HEADERS, stream=1))
        refused(client, grpc.StatusCode.RESOURCE_EXHAUSTED)


def zip_bomb(address: str) -> None:
    """A small message that unfolds to 32 MiB, and one that does not."""
    for size in (32 << 20, 10):
        with RawClient(address) as client:
            headers = request(http2.STREAM_PATH, field("grpc-encoding", "gzip"))
            client.send(frame(HEADERS, headers, flags=END_HEADERS, stream=1))
            bomb = message(gzip.compress(bytes(size)), compressed=True)
            client.send(frame(DATA, bomb[:16_000], stream=1))
            refused(client, grpc.StatusCode.UNIMPLEMENTED, "'gzip' is disabled")


def large_message(address: str) -> None:
    """A message that says it is larger than any may be; nothing waits for the rest of it."""
    with RawClient(address) as client:
        claim = b"\0" + (1 << 31).to_bytes(4, "big")
        client.send(frame(HEADERS, request(), flags=END_HEADERS, stream=1) + frame(DATA, claim, stream=1))
        refused(client, grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max (2147483648 vs. 1048576)")


def large_frame(address: str) -> None:
    """A frame longer than the server has allowed."""
    with RawClient(address) as client:
        client.send(b"\xff\xff\xff" + bytes((DATA, 0)) + b"\0\0\0\x01" + bytes(1000))
        assert client.is_cut()


def crowded_connection(address: str) -> None:
    """More calls at once than one connection may have, none of which says what it wants."""
    with RawClient(address) as client:
        calls = 2 * grpc_options.STREAMS
        for first in range(1, 2 * calls, 256):
            numbers = range(first, min(first + 256, 2 * calls), 2)
            client.send(b"".join(frame(HEADERS, request(), flags=END_HEADERS, stream=number) for number in numbers))
        wanted = calls - grpc_options.STREAMS
        refused_at_once = 0
        for each in client.frames():
            refused_at_once += each.kind == RST_STREAM
            if refused_at_once == wanted:
                return
        raise AssertionError(f"{refused_at_once} of {calls} calls were refused, not {wanted}")


ATTACKS: tuple[Callable[[str], None], ...] = (
    garbage, http1, silence, pings, no_acknowledgement, settings, rapid_reset, continuations, header_bomb,
    large_headers, zip_bomb, large_message, large_frame, crowded_connection,
)  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_gets_nothing_and_no_other_stream_notices(
    cell: Cell, quiet: list[str], attack: Callable[[str], None]
) -> None:
    files, resident_bytes = cell.files(), cell.resident_bytes()
    with Witness(cell.address) as witness, SyncClient(cell.address) as client:
        attack(cell.address)
        witness.sees(LEAST_SEGMENTS)
        assert len(client.list_sessions()) == 1, "only the witness has a session"
    compared = min(len(quiet), len(witness.hashes))
    assert compared >= LEAST_SEGMENTS
    assert witness.hashes[:compared] == quiet[:compared]
    wait_for(lambda: cell.files() <= files + OWN_FILES, f"{files} open files, as before")
    assert cell.is_alive()
    assert cell.resident_bytes() - resident_bytes < 64 << 20


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_connections_beyond_the_bound_are_refused_and_streams_go_on(tmp_path: Path) -> None:
    bound = 20
    with running(tmp_path, files=RESERVED_FILES + 2 * bound) as cell, ExitStack() as stack:
        with Witness(cell.address) as witness:
            files = cell.files()
            clients = [stack.enter_context(RawClient(cell.address)) for _ in range(3 * bound)]
            taken = [client for client in clients if client.is_open]
            assert len(taken) == bound - 1
            witness.sees(LEAST_SEGMENTS)
            assert cell.files() == files + len(taken)
        for client in clients:
            client.socket.close()
        wait_for(lambda: cell.files() < files + 1, "the files of the connections are given back")
        with Witness(cell.address) as witness:
            witness.sees(LEAST_SEGMENTS)


def test_the_ports_share_what_files_there_are() -> None:
    for files in (300, 1024, 4096, ENOUGH_FILES, 1 << 20):
        shares = Connections.allowed(files)
        assert RESERVED_FILES + shares.clients + shares.workers + 2 * shares.browsers <= files
    assert Connections.allowed(1024).clients == 384
    assert Connections.allowed(ENOUGH_FILES).clients == CLIENTS == Connections.allowed(1 << 20).clients
    assert Connections.allowed(10) == Connections(clients=1, workers=1, browsers=1)


def test_every_option_is_one_that_the_library_knows() -> None:
    """It ignores others without a word: one was misspelt here and set nothing."""
    held = b"".join(path.read_bytes() for path in (Path(grpc.__file__).parent / "_cython").glob("cygrpc*.so"))
    own = server_options(max_message_bytes=WireLimits().max_message_bytes, connections=1)
    for name, _ in (*own, *grpc_options.TO_CLIENTS, *CHANNEL_OPTIONS):
        assert re.search(re.escape(name.encode()) + rb"[^a-z_.]", held), name
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms" not in held
