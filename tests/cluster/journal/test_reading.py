"""What a server that starts finds: all that is whole, whatever is not; and what it leaves alone."""

from __future__ import annotations

import errno
from random import Random

import pytest

from cluster.journal.files import BLOCKS_PER_FILE, TRUTH, folder_of, is_session_folder
from cluster.journal.reading import Damage, JournalFolder
from cluster.journal.records import HEADER_BYTES, GoodRecord, Head, RecordKind, framed, scan
from cluster.journal.writer import RETRY_S
from cluster.journal.writes import TakeOver, WriteAck, WriteEnd
from longtake.core.work import SessionId
from tests.cluster.journal.fake_disk import FakeDisk, works
from tests.cluster.journal.world import (
    FIRST_FILE,
    SECOND_FILE,
    A,
    B,
    Stepped,
    begin,
    cue,
    found,
    latents,
    payloads_of,
)

TRUTH_FILE = f"session-a/{TRUTH}"
ONE = 96 + HEADER_BYTES
"""Bytes of one record of latents in these tests."""


def records_of(disk: FakeDisk, path: str) -> list[GoodRecord]:
    data = bytes(disk.files[path].content)
    return [each for each in scan(lambda at, size: data[at : at + size], len(data)) if isinstance(each, GoodRecord)]


def flip(disk: FakeDisk, path: str, place: int) -> None:
    disk.files[path].content[place] ^= 1 << place % 8


def written(*blocks: int) -> Stepped:
    stepped = Stepped()
    stepped.write(begin(), cue(1), *(latents(block) for block in blocks))
    stepped.later()
    return stepped


@pytest.mark.parametrize("missing", range(1, ONE))
def test_latents_torn_at_any_byte_are_not_there_and_what_is_appended_later_is(missing: int) -> None:
    stepped = written(0, 1, 2)
    del stepped.disk.files[FIRST_FILE].content[-missing:]
    stored = stepped.found()[A]
    assert stored.runs(4) == (range(2),)
    assert stored.sizes_bytes[FIRST_FILE.split("/")[1]] == 2 * ONE
    assert stored.damages == ()
    following = stepped.restarted()
    assert len(stepped.disk.files[FIRST_FILE].content) == 2 * ONE
    following.write(latents(2), latents(3))
    assert following.payloads() == payloads_of([latents(block) for block in range(4)])
    assert following.found()[A].sizes_bytes[FIRST_FILE.split("/")[1]] == 4 * ONE


def test_a_cue_torn_at_any_byte_was_never_told_and_is_not_there() -> None:
    whole = len(written().disk.files[TRUTH_FILE].content)
    missing = 0
    while True:
        stepped = written()
        stepped.write(cue(2))
        content, missing = stepped.disk.files[TRUTH_FILE].content, missing + 1
        if len(content) - missing == whole:
            break
        del content[-missing:]
        following = stepped.restarted()
        following.write(cue(3))
        assert following.found()[A].cues == (cue(1).cue, cue(3).cue)
    assert missing > 80


def test_a_record_torn_at_any_byte_is_no_session() -> None:
    size = len(written().disk.files[TRUTH_FILE].content)
    first = records_of(written().disk, TRUTH_FILE)[0].end
    assert first < size
    for left in range(first):
        stepped = written(0)
        del stepped.disk.files[TRUTH_FILE].content[left:]
        assert stepped.found() == {}
        assert stepped.disk.files == {}
        assert stepped.disk.list_folder().folders == frozenset()


def test_a_flipped_bit_anywhere_in_latents_costs_these_alone() -> None:
    for place in range(3 * ONE):
        stepped = written(0, 1, 2, 3)
        flip(stepped.disk, FIRST_FILE, place)
        hit = place // ONE
        stored = stepped.found()[A]
        assert stored.runs(4) == tuple(each for each in (range(hit), range(hit + 1, 4)) if each)
        assert stored.damages == (Damage(file=FIRST_FILE.split("/")[1], offset=hit * ONE, length_bytes=ONE),)
        assert stepped.payloads() == payloads_of([latents(block) for block in range(4) if block != hit])


def test_a_flipped_bit_in_a_cue_costs_it_and_what_was_made_with_it() -> None:
    stepped = Stepped()
    stepped.write(begin(), cue(1, block=2), cue(2, block=4))
    stepped.write(*(latents(block, version=block // 2) for block in range(6)))
    flip(stepped.disk, TRUTH_FILE, records_of(stepped.disk, TRUTH_FILE)[1].offset + 5)
    stored = stepped.found()[A]
    assert stored.cues == (cue(2, block=4).cue,)
    assert [damage.file for damage in stored.damages] == [TRUTH]
    assert stored.runs(4) == (range(2),)


def test_a_flipped_bit_in_the_newest_record_leaves_the_one_before() -> None:
    stepped = written(0)
    stepped.write(begin(token="1"), cue(2))
    flip(stepped.disk, TRUTH_FILE, records_of(stepped.disk, TRUTH_FILE)[2].offset + 5)
    stored = stepped.found()[A]
    assert stored.record.tokens_sha256 == ("0" * 64,)
    assert stored.cues == (cue(1).cue, cue(2).cue)


def test_latents_that_become_bad_after_they_were_found_are_not_given_out() -> None:
    stepped = written(0, 1)
    stored = stepped.found()[A]
    flip(stepped.disk, FIRST_FILE, HEADER_BYTES + 3)
    assert stored.payload(stepped.disk, 0, 4) is None
    assert stored.payload(stepped.disk, 1, 4) == latents(1).data
    assert stored.payload(stepped.disk, 2, 4) is None
    stepped.disk.fault = lambda call, _path: errno.EIO if call == "read" else 0
    assert stored.payload(stepped.disk, 1, 4) is None


def test_latents_of_a_cue_that_was_not_durable_are_cut_off_for_good() -> None:
    """The next cue has the same version: with its record these latents would look as if they were made with it."""
    stepped = written(0, 1)
    stepped.write(latents(2, version=2), latents(3), latents(BLOCKS_PER_FILE, version=2))
    stored = stepped.found()[A]
    assert stored.runs(4) == (range(2),)
    following = stepped.restarted()
    following.write(cue(2, block=9))
    assert following.found()[A].runs(4) == (range(2),)


def test_runs_tell_where_latents_are_missing() -> None:
    stepped = written(0, 1, 2, 5, 6, 9)
    stepped.write(latents(3, step=1))
    stored = stepped.found()[A]
    assert stored.runs(4) == (range(3), range(5, 7), range(9, 10))
    assert stored.runs(1) == (range(3, 4),)
    assert stored.runs(2) == ()


def test_a_session_that_has_ended_is_removed() -> None:
    stepped = written(0)
    stepped.disk.fault = lambda call, _path: errno.EIO if call == "remove" else 0
    stepped.write(WriteEnd(session=A))
    assert TRUTH_FILE in stepped.disk.files
    stepped.disk.fault = works
    assert found(stepped.disk) == {}
    assert stepped.disk.list_folder().folders == frozenset()


def test_sessions_that_begin_while_others_are_read_are_not_touched() -> None:
    """Their record may not be there yet."""
    stepped = written(0)
    folder = JournalFolder(stepped.disk)
    stepped.disk.make_folder(folder_of(B))
    assert [each.record.session for each in folder.sessions()] == [A]
    assert folder_of(B) in stepped.disk.list_folder().folders


def test_sessions_are_read_one_at_a_time() -> None:
    stepped = written(0)
    stepped.write(begin(B))
    read: list[str] = []

    def note(call: str, path: str) -> int:
        read.append(path.split("/")[0])
        return 0

    stepped.disk.fault = note
    sessions = JournalFolder(stepped.disk).sessions()
    next(sessions)
    assert folder_of(B) not in read
    next(sessions)
    assert folder_of(B) in read


# --- what is left alone ---------------------------------------------------------------------------------------------


def test_what_is_not_the_journals_is_left_alone_and_named() -> None:
    stepped = written(0)
    disk = stepped.disk
    strangers = ["notes.txt", "session-a/notes", "session-a/latents-1", "session-b/notes"]
    for name in ("lost+found", "session-b", "Session-c"):
        disk.make_folder(name)
    for path in strangers:
        disk.append(disk.open(path), [b"mine"])
    folder = JournalFolder(disk)
    assert [each.record.session for each in folder.sessions()] == [A]
    assert set(folder.left_alone) == {*strangers, "lost+found", "Session-c"}
    stepped.write(WriteEnd(session=A))
    assert set(disk.files) == set(strangers)
    assert all(disk.files[path].content == b"mine" for path in strangers)
    assert stepped.writer.is_healthy


def test_a_record_of_another_version_of_longtake_is_left_alone() -> None:
    stepped = written(0)
    content = stepped.disk.files[TRUTH_FILE].content
    parts = framed(Head(kind=RecordKind.RECORD), b'{"session":"a","something":"new"}')
    content[:] = b"".join(parts)
    before = {path: bytes(file.content) for path, file in stepped.disk.files.items()}
    folder = JournalFolder(stepped.disk)
    assert list(folder.sessions()) == []
    assert "record." in folder.left_alone[folder_of(A)]
    assert {path: bytes(file.content) for path, file in stepped.disk.files.items()} == before


@pytest.mark.parametrize("path", [TRUTH_FILE, FIRST_FILE])
def test_a_disk_that_cannot_be_read_in_one_place_costs_what_lies_there(path: str) -> None:
    stepped = written(0, BLOCKS_PER_FILE)
    stepped.write(begin(B))
    stepped.disk.fault = lambda call, where: errno.EIO if call == "read" and where == path else 0
    folder = JournalFolder(stepped.disk)
    stored = {each.record.session: each for each in folder.sessions()}
    stepped.disk.fault = works
    if path == TRUTH_FILE:
        assert set(stored) == {B}
        assert "Input/output error" in folder.left_alone[folder_of(A)]
        assert found(stepped.disk)[A].runs(4) == (range(1), range(BLOCKS_PER_FILE, BLOCKS_PER_FILE + 1))
    else:
        assert set(stored) == {A, B}
        assert stored[A].runs(4) == (range(BLOCKS_PER_FILE, BLOCKS_PER_FILE + 1),)
        assert [damage.file for damage in stored[A].damages] == [FIRST_FILE.split("/")[1]]


def test_a_read_only_disk_can_be_read_and_is_cut_when_it_can_be_written() -> None:
    stepped = written(0, 1)
    stepped.disk.files[FIRST_FILE].content += b"torn"
    following = Stepped(stepped.disk)
    stepped.disk.fault = lambda call, _path: 0 if call in ("read", "list") else errno.EROFS
    (stored,) = found(stepped.disk).values()
    assert stored.runs(4) == (range(2),)
    following.write(TakeOver(stored=stored))
    assert not following.writer.is_healthy
    stepped.disk.fault = works
    following.later(RETRY_S)
    following.write(latents(2))
    assert len(stepped.disk.files[FIRST_FILE].content) == 3 * ONE


def test_acknowledgements_and_latents_in_any_file_count() -> None:
    stepped = written(0)
    stepped.write(latents(1), WriteAck(session=A, block=0))
    stepped.later()
    stepped.write(latents(BLOCKS_PER_FILE), WriteAck(session=A, block=1))
    stepped.later()
    assert stepped.found()[A].acknowledged == 1
    assert SECOND_FILE in stepped.disk.files


@pytest.mark.parametrize(
    "session",
    ["a", "9f-0", "", ".", "..", "../../etc", "A", "a/b", "a\x00b", "ä", "x" * 65, "\ud800", "con ", "-", "a.", "a.b.c",
     "east-1.00ff", f"{'x' * 63}.{'0' * 24}"],
)  # fmt: skip
def test_every_session_id_has_a_folder_of_its_own_with_a_harmless_name(session: str) -> None:
    name = folder_of(SessionId(session))
    assert name.replace("-", "").replace(".", "", 1).isalnum() and not name.endswith(".")
    assert is_session_folder(name)
    assert name.isascii()
    assert name == name.lower()
    assert len(name) < 100
    others = [SessionId(text) for text in ("b", "a ", "A.", "hashed", name)]
    assert name not in map(folder_of, others)


def test_random_bytes_are_read_without_an_exception() -> None:
    chance = Random(5)
    for _ in range(300):
        stepped = written(0, 1)
        for path in (TRUTH_FILE, FIRST_FILE):
            content = stepped.disk.files[path].content
            for _ in range(chance.randint(0, 3)):
                place = chance.randrange(len(content) + 1)
                content[place : place + chance.randint(0, 40)] = chance.randbytes(chance.randint(0, 40))
        following = stepped.restarted()
        if A in following.found():
            following.write(cue(5), latents(7))
            assert following.found()[A].cues[-1] == cue(5).cue
            assert (7, 4) in following.payloads()
