"""Floods at the ports beside that for clients, and outputs that take nothing: streams and new clients notice none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from benchmarks.flood_attacks import ATTACH, CALLERS, HELLO_BYTES, IDLE, call_without_end
from benchmarks.http2 import END_HEADERS, HEADERS, RawClient, field, frame, request
from cluster.net.descriptors import SCRAPES
from longtake.client.sync import SyncClient
from tests.hostile.answers import refused
from tests.hostile.cell import CONFIG, Cell, Witness, running, wait_for

SERVED = CONFIG + '[metrics]\naddress = "127.0.0.1:0"\n'
FILES = 1024
OWN_FILES = 8


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for as many connections as an enemy has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * IDLE), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def idle_connections(url: str, stack: ExitStack) -> None:
    """As many connections as an enemy has, which say nothing."""
    host, _, port = url.removeprefix("http://").partition("/")[0].rpartition(":")
    for _ in range(IDLE):
        stack.enter_context(socket.create_connection((host, int(port)), timeout=10))


@pytest.mark.usefixtures("many_files")
def test_idle_connections_at_the_metrics_port_keep_nobody_out(cell: Cell) -> None:
    with ExitStack() as held:
        with Witness(cell.address) as witness:
            urllib.request.urlopen(cell.metrics, timeout=10).read()
            files = cell.files()
            idle_connections(cell.metrics, held)
            for _ in range(10):
                with SyncClient(cell.address) as client:  # on a connection of its own
                    assert client.get_model()
                assert urllib.request.urlopen(cell.metrics, timeout=10).status == 200, "Prometheus, too"
                witness.sees(2)
            assert cell.files() <= files + SCRAPES + OWN_FILES
        held.close()
        wait_for(lambda: cell.files() <= files + OWN_FILES, "the descriptors are given back")
        assert len(cell.log()) < 1 << 20


@pytest.fixture(scope="module")
def link() -> str:
    """Where workers are to dial in."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory, link: str) -> Iterator[Cell]:
    """The server that all floods are at."""
    config = f"{SERVED}[link]\nport = {link.rpartition(':')[2]}\n"
    with running(tmp_path_factory.mktemp("flooded"), config, files=FILES) as made:
        yield made


def hello_without_end(address: str) -> int:
    """Send a hello of 60 MB, as fast as the server lets us; returns how much of it went out."""
    return call_without_end(address, ATTACH, HELLO_BYTES)


def test_hellos_of_60_mb_are_not_read_and_no_stream_notices(cell: Cell, link: str) -> None:
    with Witness(cell.address) as witness:
        with ThreadPoolExecutor(CALLERS) as threads:
            list(threads.map(hello_without_end, [link] * 4))  # what the first ones cost once
            before_bytes = cell.resident_bytes()
            peak_bytes, over = 0, threading.Event()

            def weigh() -> None:
                nonlocal peak_bytes
                while not over.wait(0.02):
                    peak_bytes = max(peak_bytes, cell.resident_bytes())

            weighing = threads.submit(weigh)
            enemies = ThreadPoolExecutor(CALLERS)
            sending = [enemies.submit(hello_without_end, link) for _ in range(CALLERS)]
            for _ in range(5):
                began_s = time.monotonic()
                witness.sees(2)
                with SyncClient(cell.address) as client:
                    client.get_status()
                assert time.monotonic() - began_s < SOON_S
            sent = [each.result() for each in sending]
            over.set()
            weighing.result()
        assert max(sent) < 8 << 20, "it was told at once that it is no worker"
        assert peak_bytes < 1.25 * before_bytes
        wait_for(lambda: cell.resident_bytes() < 1.1 * before_bytes, "the memory is as before")
        assert cell.log().count("is no worker") <= 4, "and the log has a line now and then"


def test_who_is_no_worker_is_told_before_a_message_is_there(cell: Cell, link: str) -> None:
    for shown in ((), (field("authorization", "Bearer guess"),)):
        with RawClient(link) as client:
            client.send(frame(HEADERS, request(ATTACH, *shown), flags=END_HEADERS, stream=1))
            began_s = time.monotonic()
            refused(client, grpc.StatusCode.UNAUTHENTICATED)
            assert time.monotonic() - began_s < SOON_S
    assert cell.is_alive()


def test_many_calls_at_the_link_are_refused_at_once(cell: Cell, link: str) -> None:
    with Witness(cell.address) as witness, ExitStack() as stack:
        clients = [stack.enter_context(RawClient(link)) for _ in range(8)]
        for first in range(1, 2001, 100):
            for client in clients:
                calls = (
                    frame(HEADERS, request(ATTACH), flags=END_HEADERS, stream=s) for s in range(first, first + 100, 2)
                )
                client.send(b"".join(calls))
        witness.sees(5)
        assert cell.log().count("\n") < 200


def chatter(address: str, over: threading.Event) -> None:
    """Cause two lines of the log again and again."""
    with SyncClient(address) as client, client.stream("a red ball") as stream:
        while not over.is_set():
            stream.pause()
            stream.play()


SOON_S = 15.0
"""What a flood holds up waits for as long as it lasts; a busy machine does not take so long."""
DROPPED = 'longtake_lines_dropped_total{log="log"}'


@pytest.mark.slow
def test_a_log_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    """For a minute, with LONGTAKE_UNREAD_S=60."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(reading, False)
    over, found, worst_s = threading.Event(), bytearray(), 0.0
    with running(tmp_path, SERVED, log=writing) as cell, ThreadPoolExecutor() as threads:
        until_s = time.monotonic() + float(os.environ.get("LONGTAKE_UNREAD_S", "1"))
        with Witness(cell.address) as witness:
            talking = [threads.submit(chatter, cell.address, over) for _ in range(8)]
            try:
                while time.monotonic() < until_s or not cell.metric(DROPPED):
                    began_s = time.monotonic()
                    witness.sees(1)
                    worst_s = max(worst_s, time.monotonic() - began_s)
            finally:
                over.set()
            for each in talking:
                each.result()
        assert worst_s < SOON_S
        wait_for(lambda: b"are missing here" in read_some(reading, found), "how many are missing")
        lines = [line for line in found.decode().splitlines() if "are missing here" in line]
        assert int(lines[0].split()[3]) == cell.metric(DROPPED)
    os.close(reading)
    os.close(writing)


def read_some(descriptor: int, found: bytearray) -> bytearray:
    with contextlib.suppress(BlockingIOError):
        found.extend(os.read(descriptor, 1 << 16))
    return found
