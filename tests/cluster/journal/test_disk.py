"""A real folder and a real thread: one engine at a time, nobody else reads, what a killed process wrote is there."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster.journal.disk import Handle, LocalDisk
from cluster.journal.reading import JournalFolder
from cluster.journal.thread import DiskJournal
from cluster.journal.writes import TakeOver, WriteAck, WriteEnd
from longtake.core.errors import InvalidField, Unavailable
from tests.cluster.journal.world import A, B, Told, begin, below, cue, latents, record


def test_what_was_told_is_there_for_the_next_server(tmp_path: Path) -> None:
    told = Told()
    journal = DiskJournal(tmp_path, told)
    assert list(journal.found.sessions()) == []
    told.wait_for(journal.writer.append(begin(sink_blocks=1)))
    told.wait_for(journal.writer.append(cue(1)))
    for block in range(70):
        journal.writer.append(latents(block))
    journal.writer.append(WriteAck(session=A, block=5))
    journal.writer.append(begin(B))
    journal.writer.append(WriteEnd(session=B))
    journal.close()
    assert {failed for reached in told.reached for failed in reached.failed} == set()
    marks = [(reached.number, reached.latents) for reached in told.reached]
    assert marks == sorted(set(marks)) and marks[-1][1] == marks[-1][0], "latents, too, are durable in the end"

    journal = DiskJournal(tmp_path, told := Told())
    (stored,) = journal.found.sessions()
    assert (stored.record, stored.cues, stored.acknowledged) == (record(sink_blocks=1), (cue(1).cue,), 5)
    assert stored.runs(4) == (range(70),)
    assert stored.payload(journal.disk, 69, 4) == latents(69).data
    journal.writer.append(TakeOver(stored=stored))
    told.wait_for(journal.writer.append(cue(2)))
    journal.writer.append(below({4: 68}, A))
    journal.close()
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"lock", "session-a/truth", "session-a/sinks", "session-a/latents-000000000064"}
    with pytest.raises(Unavailable):
        journal.writer.append(cue(3))
    assert journal.writer.append(latents(71)) > 0


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        journal = DiskJournal(tmp_path / "deep" / "journal", Told())
        journal.writer.append(begin(sink_blocks=1))
        journal.writer.append(latents(0))
        journal.writer.append(latents(1))
        journal.close()
    finally:
        os.umask(before)
    paths = [tmp_path / "deep" / "journal", *(tmp_path / "deep" / "journal").rglob("*")]
    assert len(paths) == 6
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_two_engines_never_share_a_folder(tmp_path: Path) -> None:
    first = DiskJournal(tmp_path, Told())
    with pytest.raises(InvalidField) as caught:
        DiskJournal(tmp_path, Told())
    assert (caught.value.field, caught.value.value) == ("journal.path", str(tmp_path))
    assert "no other engine" in caught.value.allowed
    code = "import sys, pathlib; from cluster.journal.disk import LocalDisk; LocalDisk(pathlib.Path(sys.argv[1]))"
    other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "InvalidField: journal.path" in other.stderr
    first.close()
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True).returncode == 0
    LocalDisk(tmp_path).release()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "lock").mkdir(parents=True)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "lock").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "file/below", "folder", "linked"):
        with pytest.raises(InvalidField) as caught:
            LocalDisk(tmp_path / name)
        assert caught.value.field == "journal.path"
    assert not (tmp_path / "elsewhere").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Whoever can write to the folder makes the journal write nowhere else."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "truth").write_text("mine")
    disk = LocalDisk(tmp_path / "journal")
    (tmp_path / "journal" / "session-a").symlink_to(outside)
    disk.make_folder("session-b")
    (tmp_path / "journal" / "session-b" / "truth").symlink_to(outside / "truth")
    folder = JournalFolder(disk)
    assert list(folder.sessions()) == []
    assert set(folder.left_alone) == {"session-a", "session-b/truth"}
    with pytest.raises(OSError, match="symbolic links"):
        disk.open("session-b/truth")
    assert (outside / "truth").read_text() == "mine"
    disk.release()


def test_parts_of_any_number_and_size_are_written_in_order(tmp_path: Path) -> None:
    disk = LocalDisk(tmp_path)
    file = disk.open("probe")
    parts = [bytes([number % 251]) * (number % 7) for number in range(3000)]
    disk.append(file, parts)
    disk.append(file, [])
    whole = b"".join(parts)
    assert disk.read("probe", 0, len(whole) + 10) == whole
    assert disk.read("probe", 5, 7) == whole[5:12]
    disk.truncate(file, 10)
    disk.append(file, [b"x"])
    disk.sync(file)
    assert disk.read("probe", 0, 100) == whole[:10] + b"x"
    disk.close(file)
    disk.release()


def test_what_a_write_leaves_out_is_written_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = LocalDisk(tmp_path)
    file = disk.open("probe")
    writev = os.writev
    monkeypatch.setattr(os, "writev", lambda handle, parts: writev(handle, [bytes(parts[0])[:3]]))
    disk.append(file, [b"0123456789", b"", b"abcdefg"])
    assert disk.read("probe", 0, 100) == b"0123456789abcdefg"
    disk.close(file)
    disk.release()


def test_a_full_device_is_told(tmp_path: Path) -> None:
    disk = LocalDisk(tmp_path)
    full = Handle(os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="No space left"):
        disk.append(full, [b"x"])
    disk.close(full)
    disk.release()


_WRITES_UNTIL_KILLED = """
import sys, pathlib
from cluster.journal.thread import DiskJournal
from tests.cluster.journal.world import Told, begin, cue, latents

told = Told()
journal = DiskJournal(pathlib.Path(sys.argv[1]), told)
told.wait_for(journal.writer.append(begin()))
version = 0
while True:
    version += 1
    for step in range(1, 5):
        journal.writer.append(latents(version, step, size=20_000))
    told.wait_for(journal.writer.append(cue(version)))
    print(version, flush=True)
"""


def test_a_killed_process_leaves_what_it_told(tmp_path: Path) -> None:
    """As the system has it; what a loss of power leaves is tested on the fake disk."""
    for trial in range(3):
        root = tmp_path / str(trial)
        command = [sys.executable, "-c", _WRITES_UNTIL_KILLED, str(root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(5 + trial):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            said = 5 + trial + len(process.stdout.read().splitlines())
        disk = LocalDisk(root)
        (stored,) = JournalFolder(disk).sessions()
        assert [each.version for each in stored.cues][:said] == list(range(1, said + 1))
        assert len(stored.cues) <= said + 1
        assert stored.damages == ()
        for block, step in stored.latents:
            assert stored.payload(disk, block, step) == latents(block, step, size=20_000).data
        disk.release()


def test_a_defect_of_the_writer_refuses_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    journal = DiskJournal(tmp_path, Told())

    def broken(_folder: str) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(journal.disk, "make_folder", broken)
    journal.writer.append(begin())
    journal.close()
    assert [str(error) for error in seen] == ["a defect"]
    with pytest.raises(Unavailable, match="its writer has ended"):
        journal.writer.append(cue(1))
    LocalDisk(tmp_path).release()
