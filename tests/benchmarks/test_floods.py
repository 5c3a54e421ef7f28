"""The benchmark of floods attacks and judges as it says; whole runs of it are a part of `make hostile`."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.flood_attacks import FLOODS, UNARY, call_without_end
from benchmarks.floods import FloodRow, Held, guarded
from benchmarks.http2 import DATA, END_STREAM, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, field, frame
from cluster.access.callers import hash_of
from cluster.access.tenants import TenantsFile
from cluster.config import load_config

BEFORE = Held(files=60, mb={"server": 300.0, "denoise-0": 200.0})
RIGHT = FloodRow(
    flood="hellos", seconds=30.0, live_streams=4, blocks=160, late_blocks=0, worst_late_s=0.0, server_late_blocks=0,
    lost=[], clients_in=50, clients_out=0, worst_entry_s=0.1, before=BEFORE, peak_files=90, peak_server_mb=310.0,
    after=replace(BEFORE, mb={"server": 325.0, "denoise-0": 200.0}), log_bytes=1000,
)  # fmt: skip


def test_a_flood_that_costs_nothing_is_right() -> None:
    assert RIGHT.wrong() == [] == RIGHT.as_dict()["wrong"]
    assert RIGHT.as_dict()["all_mb_after"] == 525.0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (replace(RIGHT, late_blocks=2), "2 blocks came late"),
        (replace(RIGHT, server_late_blocks=3), "the server counts 3 late blocks"),
        (replace(RIGHT, lost=["lost: a worker"]), "a stream was lost: lost: a worker"),
        (replace(RIGHT, blocks=0), "no block came"),
        (replace(RIGHT, clients_out=1), "1 new clients did not get in"),
        (replace(RIGHT, after=replace(RIGHT.after, files=63)), "63 descriptors, before 60"),
        (
            replace(RIGHT, after=Held(files=60, mb={"server": 331.0, "denoise-0": 200.0})),
            "the server hold 331.0 MB, before 300.0",
        ),
        (
            replace(RIGHT, after=Held(files=60, mb={"server": 300.0, "denoise-0": 251.0})),
            "all processes hold 551.0 MB, before 500.0",
        ),
        (replace(RIGHT, peak_server_mb=376.0), "the server held 376.0 MB meanwhile, before 300.0"),
        (replace(RIGHT, log_bytes=1_000_000), "1000000 bytes of log"),
    ],
)
def test_each_thing_that_should_not_be_is_told(changed: FloodRow, told: str) -> None:
    assert changed.wrong() == [told]


def test_what_is_back_is_what_nothing_is_told_of() -> None:
    assert RIGHT.after.is_back(BEFORE)
    assert not Held(files=63, mb=BEFORE.mb).is_back(BEFORE)
    assert not Held(files=60, mb={"server": 331.0, "denoise-0": 100.0}).is_back(BEFORE)


def test_the_server_asks_for_tokens_and_has_few_files(tmp_path: Path) -> None:
    setup, credentials = guarded(tmp_path, 4, "pocket")
    (tmp_path / "server.toml").write_text(setup.text(tmp_path, ""))
    config = load_config(tmp_path / "server.toml")
    assert config.link.port == setup.link_port != 0 and config.metrics.address
    assert hash_of(credentials.token) in Path(config.auth.tenants).read_text()
    assert TenantsFile(Path(config.auth.tenants)).tenants.quotas.keys() == {"acme"}
    assert sorted(FLOODS) == ["bodies", "hellos", "metrics"]


class Taker:
    """A server of HTTP/2 that gives room for some bytes and then ends the call, or never does."""

    def __init__(self, more: int, *, ends: bool, by_setting: bool = False) -> None:
        self._more, self._ends, self._by_setting = more, ends, by_setting
        self.got = 0
        self.is_whole = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._listening, self._listening.accept()[0] as connection:
            room = struct.pack(">I", self._more)
            if self._by_setting:  # as gRPC does when it reads a long message
                connection.sendall(frame(SETTINGS, struct.pack(">HI", 4, 65_535 + self._more)))
            else:
                connection.sendall(frame(SETTINGS))
            if self._more:
                connection.sendall(frame(WINDOW_UPDATE, room))
            if self._more and not self._by_setting:
                connection.sendall(frame(WINDOW_UPDATE, room, stream=1))
            if self._ends:
                connection.sendall(frame(HEADERS, field("grpc-status", "16"), stream=1))
            data = bytearray()
            while some := connection.recv(1 << 16):
                data += some
        rest = bytes(data)[len(PREFACE) :]
        while len(rest) >= 9:
            size = int.from_bytes(rest[:3], "big")
            self.got += size * (rest[3] == DATA)
            self.is_whole = self.is_whole or (rest[3] == DATA and rest[4] == END_STREAM)
            rest = rest[9 + size :]

    def over(self) -> None:
        self._thread.join()


@pytest.fixture
def takers() -> Iterator[list[Taker]]:
    made: list[Taker] = []
    yield made
    for each in made:
        each.over()


@pytest.mark.parametrize("by_setting", [False, True])
@pytest.mark.parametrize(("more", "size"), [(0, 60_000), (100_000, 150_000)])
def test_a_call_sends_all_of_its_message_where_there_is_room(
    takers: list[Taker], more: int, size: int, by_setting: bool
) -> None:
    takers.append(Taker(more, ends=False, by_setting=by_setting))
    assert call_without_end(takers[0].address, UNARY, size) == 5 + size
    takers[0].over()
    assert takers[0].got == 5 + size and takers[0].is_whole


def test_a_call_that_is_ended_sends_no_more(takers: list[Taker]) -> None:
    takers.append(Taker(0, ends=True))
    sent = call_without_end(takers[0].address, UNARY, 1 << 20)
    assert sent <= 65_535
    takers[0].over()
    assert takers[0].got == sent and not takers[0].is_whole
