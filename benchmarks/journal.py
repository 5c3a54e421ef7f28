"""What the journal costs on a disk: bytes a second, bytes written for each byte kept, waits until cues are durable.

python -m benchmarks.journal --path /var/tmp --json                 # latents of Wan 1.3B at 480p
python -m benchmarks.journal --path /var/tmp --latent-bytes 6144    # those of the pocket model

Theory of operation. The writer and its thread are those of the server, in a folder that is removed again. `--path`
must be on the disk that is asked about; a file system in memory says nothing. Cues are appended one by one, each when
the one before is durable, first with nothing beside them and then with latents at a steady rate. In a folder of their
own latents are appended as fast as they are taken, with floors that rise as those of a stream do, until all are
durable; then they are read as by a server that starts, from memory mostly.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from cluster.journal.facts import SessionRecord
from cluster.journal.thread import DiskJournal
from cluster.journal.writer import Reached
from cluster.journal.writes import Write, WriteCue, WriteLatents, WriteRecord
from longtake.core.adoption import PlacedCue
from longtake.core.effects import Trim
from longtake.core.flow import Pace
from longtake.core.work import LatentRef, SegmentSettings, SessionId

_MEGA = 1e6
_PAUSE_S = 0.001
_MOST_WAITING_BYTES = 64 << 20
STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is written."""

    sessions: int
    blocks: int
    """Of each session."""
    latent_bytes: int
    """Of one block entering one step; there are four a block."""
    kept_blocks: int
    """So many blocks of each session are wanted at a time."""
    cues: int
    """How many waits are measured, with and without latents beside them."""
    beside_bytes_per_s: float
    """How fast latents come beside cues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Milliseconds."""

    median: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: list[float]) -> Waits:
        ordered = sorted(1000 * each for each in seconds)
        return cls(
            median=round(statistics.median(ordered), 2),
            p99=round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 2),
            longest=round(ordered[-1], 2),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Latents as fast as they are taken."""

    megabytes_per_s: float
    """From the first latents until all are durable and the journal is closed."""
    written_per_kept: float
    """Bytes that the journal gave to the system for each byte of latents."""
    stored_per_kept: float
    """The same as the system counts what it gave to the storage: file systems round up, and removal saves."""
    cpu_ms_per_megabyte: float
    """Of the whole process."""
    dropped_latents: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What it cost."""

    load: Load
    throughput: Throughput
    durable_ms: Waits
    """From the append of a cue until it is told to be durable, with nothing beside it."""
    durable_beside_ms: Waits
    """The same while latents are written."""
    read_megabytes_per_s: float


class Measured:
    """A journal in a folder, and who waits for it."""

    def __init__(self, path: Path, load: Load) -> None:
        self._load = load
        self._changed = threading.Condition()
        self._reached = self._version = 0
        self._data = bytes(load.latent_bytes)
        self._names = [SessionId(f"measured-{number}") for number in range(load.sessions)]
        self.journal = DiskJournal(path, self._told, field="path")
        for name in self._names:
            self.wait_for(self.append(WriteRecord(record=_record(name))))

    def _told(self, reached: Reached) -> None:
        with self._changed:
            self._reached = reached.number
            self._changed.notify()

    def append(self, write: Write) -> int:
        return self.journal.writer.append(write)

    def wait_for(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._reached >= number)

    def write_block(self, block: int) -> int:
        """One block of every session, without waiting; returns its bytes."""
        for name in self._names:
            for step in range(1, STEPS + 1):
                ref = LatentRef(session=name, block=block, step=step)
                self.append(WriteLatents(ref=ref, version=0, data=self._data))
            self.append(Trim(session=name, floors=(block - self._load.kept_blocks,) * STEPS, sinks=0))
        return len(self._names) * STEPS * len(self._data)

    def make_room(self) -> None:
        """Wait until little waits to be written: what waits so long that it is not wanted any more is not written."""
        block_bytes = len(self._names) * STEPS * len(self._data)
        while self.journal.writer.figures.waiting_bytes > min(
            _MOST_WAITING_BYTES, self._load.kept_blocks * block_bytes // 2
        ):
            time.sleep(_PAUSE_S)

    def durable_s(self, cues: int) -> list[float]:
        """How long each of so many cues took."""
        waits = []
        for _ in range(cues):
            self._version += 1
            fact = PlacedCue(block=self._version, version=self._version, cue=None, prompt="a red ball " * 10)
            began_s = time.perf_counter()
            self.wait_for(self.append(WriteCue(session=self._names[0], cue=fact)))
            waits.append(time.perf_counter() - began_s)
        return waits

    @contextmanager
    def latents_beside(self) -> Iterator[None]:
        """Latents come at a steady rate, in a thread of their own."""
        over = threading.Event()

        def write() -> None:
            block, written, began_s = 0, 0, time.perf_counter()
            while not over.is_set():
                written += self.write_block(block)
                block += 1
                over.wait(max(0.0, began_s + written / self._load.beside_bytes_per_s - time.perf_counter()))

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _record(session: SessionId) -> SessionRecord:
    return SessionRecord(
        session=session, tenant="default", tokens_sha256=("0" * 64,), model_digest="", recipe="", recipe_digest="",
        denoise_numerics="", decode_numerics="", seed=0, prompt="a red ball",
        settings=SegmentSettings(codec="raw", quality=0), pace=Pace.FAST, window=4, picture_limit=None,
    )  # fmt: skip


def _stored_bytes() -> int:
    """What this process has caused the storage to be given, less what was removed before it got there."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["write_bytes"]) - int(counts["cancelled_write_bytes"])


def _throughput(path: Path, load: Load) -> Throughput:
    """Latents as fast as they are taken, until all are durable."""
    measured = Measured(path, load)
    stored, began_s, began_cpu_s = _stored_bytes(), time.perf_counter(), time.process_time()
    appended = 0
    for block in range(load.blocks):
        measured.make_room()
        appended += measured.write_block(block)
    measured.journal.close()
    took_s, took_cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    figures = measured.journal.writer.figures
    return Throughput(
        megabytes_per_s=round(appended / _MEGA / took_s, 1),
        written_per_kept=round(figures.written_bytes / appended, 4),
        stored_per_kept=round((_stored_bytes() - stored) / appended, 3),
        cpu_ms_per_megabyte=round(1000 * took_cpu_s / (appended / _MEGA), 3),
        dropped_latents=figures.dropped_latents,
        failures=figures.failures,
    )


def _waits(path: Path, load: Load) -> tuple[Waits, Waits]:
    """Cues with nothing beside them, and with latents."""
    measured = Measured(path, load)
    alone = Waits.of(measured.durable_s(load.cues))
    with measured.latents_beside():
        beside = Waits.of(measured.durable_s(load.cues))
    measured.journal.close()
    return alone, beside


def _read_megabytes_per_s(path: Path) -> float:
    journal = DiskJournal(path, lambda reached: None, field="path")
    began_s = time.perf_counter()
    read = sum(sum(stored.sizes_bytes.values()) for stored in journal.found.sessions())
    took_s = time.perf_counter() - began_s
    journal.close()
    return round(read / _MEGA / took_s, 1)


def measure(path: Path, load: Load) -> Report:
    """Write in `path`, an empty folder, and read it again."""
    alone, beside = _waits(path / "waits", load)
    throughput = _throughput(path / "throughput", load)
    read = _read_megabytes_per_s(path / "throughput")
    return Report(
        load=load,
        throughput=throughput,
        durable_ms=alone,
        durable_beside_ms=beside,
        read_megabytes_per_s=read,
    )


@click.command()
@click.option("--path", type=click.Path(path_type=Path, exists=True), required=True, help="A folder on the disk.")
@click.option("--sessions", default=8, show_default=True)
@click.option("--blocks", default=200, show_default=True)
@click.option("--latent-bytes", default=599_040, show_default=True)
@click.option("--kept-blocks", default=64, show_default=True)
@click.option("--cues", default=300, show_default=True)
@click.option("--beside", default=51.2, show_default=True, help="Megabytes of latents a second beside cues.")
@click.option("--json", "as_json", is_flag=True)
def main(path: Path, beside: float, as_json: bool, **load: int) -> None:
    """Measure the journal on the disk of PATH."""
    with tempfile.TemporaryDirectory(dir=path) as folder:
        report = measure(Path(folder), Load(beside_bytes_per_s=beside * _MEGA, **load))
    if as_json:
        click.echo(json.dumps(asdict(report)))
        return
    for name, value in asdict(report).items():
        click.echo(f"{name:24} {value}")


if __name__ == "__main__":
    main()
