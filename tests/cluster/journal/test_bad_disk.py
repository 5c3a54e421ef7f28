"""The writer on a disk that is full, read-only or broken: the right refusal, nothing false, and it heals by itself."""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random

import pytest

from cluster.journal.writer import RETRY_S
from cluster.journal.writes import WriteEnd
from longtake.core.errors import Unavailable
from tests.cluster.journal.fake_disk import FakeDisk, Fault, works
from tests.cluster.journal.world import FIRST_FILE, A, B, Stepped, begin, below, cue, found, latents, payloads_of

SEEDS = range(30)


def failing(*calls: str, number: int = errno.EIO, path: str = "") -> Fault:
    """These calls fail, on paths that contain this."""
    return lambda call, where: number if call in calls and path in where else 0


READ_ONLY = failing(
    "make_folder", "open", "append", "sync", "truncate", "sync_folder", "remove", "remove_folder", number=errno.EROFS
)


def running() -> Stepped:
    """One session that runs, with two latents on disk."""
    stepped = Stepped()
    stepped.write(begin(), latents(0), latents(1))
    stepped.later()
    return stepped


def heal(stepped: Stepped) -> None:
    """The disk works again, and some time passes."""
    stepped.disk.fault, stepped.disk.room_bytes = works, None
    stepped.later(RETRY_S)
    assert stepped.writer.is_healthy


def fill(disk: FakeDisk) -> None:
    disk.room_bytes = disk.size_bytes + 50


def breaking(fault: Fault) -> Callable[[FakeDisk], None]:
    def break_it(disk: FakeDisk) -> None:
        disk.fault = fault

    return break_it


BREAK: dict[str, Callable[[FakeDisk], None]] = {
    "full": fill,
    "read-only": breaking(READ_ONLY),
    "broken at write": breaking(failing("append", "open")),
    "broken at sync": breaking(failing("sync")),
}


@pytest.mark.parametrize("trouble", BREAK)
def test_a_disk_in_trouble_refuses_streams_and_cues_and_lets_streams_go_on_until_it_heals(trouble: str) -> None:
    for seed in SEEDS:
        stepped = running()
        BREAK[trouble](stepped.disk)
        (failed,) = stepped.write(cue(1))
        assert failed in stepped.failed
        reason = stepped.writer.figures.trouble
        assert reason in (
            stepped.failed[failed],
            "No space left on device",
            "Read-only file system",
            "Input/output error",
        )
        for write in (begin(B), cue(2)):
            with pytest.raises(Unavailable, match=reason):
                stepped.writer.append(write)
        assert not stepped.writer.is_healthy
        stepped.write(latents(2), latents(3))
        assert stepped.writer.figures.dropped_latents == 2
        for _ in range(5):
            stepped.later(RETRY_S)
            assert not stepped.writer.is_healthy
        heal(stepped)
        assert stepped.writer.figures.trouble == ""
        (number,) = stepped.write(cue(3))
        assert number not in stepped.failed
        stepped.write(latents(4), begin(B))
        stepped.later()
        stepped.disk.crash(Random(seed))
        stored = stepped.found()
        assert set(stored) == {A, B}
        assert stored[A].cues == (cue(3).cue,)
        assert stored[A].damages == ()
        assert stepped.payloads() == payloads_of([latents(0), latents(1), latents(4)])


@pytest.mark.parametrize("trouble", BREAK)
def test_a_record_that_failed_leaves_no_session(trouble: str) -> None:
    for seed in SEEDS:
        stepped = running()
        BREAK[trouble](stepped.disk)
        numbers = [stepped.writer.append(each) for each in (begin(B), cue(1, session=B))]
        assert stepped.step().failed == tuple(numbers)
        assert not stepped.writer.is_healthy
        heal(stepped)
        assert {path.split("/")[0] for path in stepped.disk.files} == {"session-a"}
        stepped.write(latents(0, session=B))
        assert set(stepped.found()) == {A}
        assert stepped.write(begin(B))[0] not in stepped.failed
        stepped.disk.crash(Random(seed))
        assert set(stepped.found()) == {A, B}


def test_a_cue_that_failed_because_another_one_did_is_not_written_later() -> None:
    stepped = running()
    stepped.write(begin(B))
    stepped.disk.fault = failing("sync")
    numbers = [stepped.writer.append(each) for each in (cue(1), cue(1, session=B))]
    assert stepped.step().failed == tuple(numbers)
    heal(stepped)
    stepped.write(cue(2), cue(2, session=B))
    assert [stored.cues for stored in stepped.found().values()] == [(cue(2).cue,), (cue(2).cue,)]


def test_a_session_whose_files_are_still_to_be_removed_does_not_begin() -> None:
    stepped = running()
    stepped.disk.fault = failing("sync", "remove", path="session-b")
    stepped.write(begin(B))
    stepped.disk.fault = failing("remove", path="session-b")
    stepped.later(RETRY_S)
    assert stepped.writer.is_healthy
    (number,) = stepped.write(begin(B))
    assert number in stepped.failed
    heal(stepped)
    (number,) = stepped.write(begin(B))
    assert number not in stepped.failed
    stepped.later(RETRY_S)
    assert set(stepped.found()) == {A, B}


@pytest.mark.parametrize("trouble", BREAK)
def test_a_new_token_that_failed_leaves_the_old_one(trouble: str) -> None:
    stepped = running()
    BREAK[trouble](stepped.disk)
    stepped.write(begin(token="1"))
    heal(stepped)
    assert stepped.found()[A].record.tokens_sha256 == ("0" * 64,)
    stepped.write(begin(token="2"))
    assert stepped.found()[A].record.tokens_sha256 == ("2" * 64,)


def test_what_a_failed_sync_has_lost_is_not_taken_for_durable() -> None:
    """The system says it once: a second sync would succeed, and the bytes would be zeros after a crash."""
    stepped = running()
    stepped.write(latents(2))
    stepped.disk.fault = failing("sync", path=FIRST_FILE)
    stepped.later()
    assert stepped.writer.figures.dropped_latents == 1
    heal(stepped)
    stepped.write(latents(3))
    stepped.later()
    stepped.disk.crash(Random(1))
    assert stepped.payloads() == payloads_of([latents(0), latents(1), latents(3)])
    assert stepped.found()[A].damages == ()


def test_a_full_disk_heals_by_what_the_journal_itself_removes() -> None:
    stepped = Stepped()
    stepped.write(begin(), begin(B), *(latents(block, session=B, size=50_000) for block in range(16)))
    stepped.write(*(latents(block, session=B, size=50_000) for block in range(16, 32)))
    fill(stepped.disk)
    stepped.write(cue(1))
    assert not stepped.writer.is_healthy
    stepped.write(below({4: 32}, B))
    stepped.later(RETRY_S)
    assert stepped.writer.is_healthy


def test_a_session_that_ends_while_the_disk_is_in_trouble_is_gone_when_it_heals() -> None:
    for seed in SEEDS:
        stepped = running()
        stepped.disk.fault = READ_ONLY
        stepped.write(cue(1))
        stepped.write(WriteEnd(session=A))
        assert FIRST_FILE in stepped.disk.files
        heal(stepped)
        assert stepped.disk.files == {}
        assert stepped.disk.list_folder().folders == frozenset()
        stepped.disk.crash(Random(seed))
        assert stepped.found() == {}


def test_what_cannot_be_removed_is_no_trouble_and_is_tried_again() -> None:
    stepped = running()
    stepped.disk.fault = failing("remove")
    stepped.write(latents(40), below({4: 32}, A))
    assert stepped.writer.is_healthy
    assert stepped.writer.figures.failures == 1
    stepped.step()
    assert stepped.writer.figures.failures == 1
    stepped.disk.fault = works
    stepped.later(RETRY_S)
    assert FIRST_FILE not in stepped.disk.files


def test_the_trial_leaves_no_file_and_takes_more_than_a_few_bytes() -> None:
    stepped = running()
    fill(stepped.disk)
    stepped.write(cue(1))
    stepped.disk.room_bytes = stepped.disk.size_bytes + 10_000  # a cue would fit, and not a second one for long
    stepped.later(RETRY_S)
    assert not stepped.writer.is_healthy
    assert "probe" not in stepped.disk.files


def test_the_disk_is_tried_once_a_second() -> None:
    stepped = running()
    tried: list[str] = []

    def fault(call: str, _path: str) -> int:
        tried.append(call)
        return errno.EIO

    stepped.disk.fault = fault
    stepped.write(cue(1))
    tried.clear()
    for _ in range(20):
        stepped.later(RETRY_S / 10)
    assert 1 <= tried.count("open") <= 3


def test_a_lying_disk_loses_what_it_lost_and_nothing_else() -> None:
    """Nobody can know of it; what is there afterwards is nevertheless what was written."""
    lost = 0
    for seed in range(200):
        stepped = Stepped()
        stepped.write(begin())
        stepped.write(begin(B))
        stepped.later()
        stepped.disk.lies = True
        writes = [latents(block) for block in range(5)]
        stepped.write(cue(1), *writes[:3], begin(B, token="1"))
        stepped.later()
        stepped.write(cue(2), *writes[3:])
        following = stepped.restarted(Random(seed))
        stored = following.found()
        assert set(stored) == {A, B}
        assert stored[A].cues in ((), (cue(1).cue,), (cue(1).cue, cue(2).cue))
        there = following.payloads()
        assert there.items() <= payloads_of(writes).items()
        lost += len(writes) - len(there)
        following.write(cue(3), latents(9))
        assert following.found()[A].cues[-1] == cue(3).cue
    assert lost > 0


def test_handles_do_not_leak() -> None:
    chance = Random(3)
    stepped = running()
    for block in range(2, 200):
        calls = [chance.choice(["append", "sync", "open", "truncate", "sync_folder"])]
        stepped.disk.fault = failing(*calls) if chance.random() < 0.3 else works
        stepped.writer.append(latents(block))
        stepped.later(RETRY_S)
    heal(stepped)
    stepped.later()
    stepped.later()
    assert stepped.disk.open_files == 0
    assert found(stepped.disk)[A].damages == ()
