"""What import refuses: files that are none, and sessions that cannot be, each with its field; none does any harm."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from cluster.frontend import exported as files
from cluster.frontend import imported
from cluster.journal.facts import SessionRecord
from longtake.client import Client, SegmentEvent
from longtake.client.errors import ClientError
from longtake.core.errors import InvalidField
from longtake.core.limits import Limits
from tests.cluster.frontend.carried import (
    Facts,
    counting_cell,
    file_after,
    file_of,
    header_of,
    in_parts,
    refused,
    with_facts,
    with_header,
)
from tests.cluster.frontend.reading import upto
from tests.cluster.frontend.toy import GEOMETRY, offer

STEPS = 2


@pytest.fixture(scope="module")
def file() -> bytes:
    """A session after segment 17, with a cue behind it and one before it."""
    return asyncio.run(file_after(17))


# --- what is refused --------------------------------------------------------------------------------------------------


def put(*path: str | int, value: object) -> Callable[[Facts], None]:
    """A change of one value in the metadata."""

    def change(facts: Facts) -> None:
        at: Any = facts
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


WRONG_FACTS: dict[str, tuple[Callable[[Facts], object], str]] = {
    "format": (put("format", value=2), "format"),
    "a field too many": (put("more", value=1), "session.more"),
    "a field too few": (lambda facts: facts.pop("cues"), "session.cues"),
    "a text for a number": (put("acknowledged", value="3"), "session.acknowledged"),
    "acknowledged": (put("acknowledged", value=-2), "session.acknowledged"),
    "another model": (put("record", "model_digest", value="other"), "record.model_digest"),
    "another recipe": (put("record", "recipe_digest", value="other"), "record.recipe_digest"),
    "an empty prompt": (put("record", "prompt", value=" "), "record.prompt"),
    "a long prompt": (put("record", "prompt", value="x" * 5000), "record.prompt"),
    "seed": (put("record", "seed", value=1 << 64), "record.seed"),
    "window": (put("record", "window", value=10**6), "record.window"),
    "no window": (put("record", "window", value=0), "record.window"),
    "pictures": (put("record", "picture_limit", value=0), "record.picture_limit"),
    "codec": (put("record", "settings", "codec", value="gif"), "record.settings.codec"),
    "quality": (put("record", "settings", "quality", value=99), "record.settings.quality"),
    "decoder": (put("record", "settings", "decoder", value="tiny"), "record.settings.decoder"),
    "a tenant with controls": (put("record", "tenant", value="a\x1b[31m"), "record.tenant"),
    "media type": (put("record", "media_type", value="v" * 300), "record.media_type"),
    "header": (put("record", "header", value="A" * 100_000), "record.header"),
    "tokens": (put("record", "tokens_sha256", value=["00" * 32]), "record.tokens_sha256"),
    "seeds beyond the fork": (put("record", "seeds", value=[[3, 1]]), "record.seeds"),
    "cue of no version": (put("cues", 0, "version", value=0), "session.cues[0].version"),
    "two cues of one version": (put("cues", 1, "version", value=1), "session.cues[1].version"),
    "a cue far away": (put("cues", 0, "block", value=1 << 50), "session.cues[0].block"),
    "a cue without an id": (put("cues", 0, "cue", value=""), "session.cues[0].cue"),
    "a cue without a prompt": (put("cues", 0, "prompt", value=""), "session.cues[0].prompt"),
    "many cues": (
        lambda facts: facts["cues"].extend({**facts["cues"][0], "version": 10 + n} for n in range(5000)),
        "session.cues[4160]",
    ),
    "no versions": (put("versions", value=[]), "session.versions"),
    "cues that are not here": (
        lambda facts: facts["record"].update(known_from=1 << 40),
        "latents",
    ),
}


@pytest.mark.parametrize("name", WRONG_FACTS)
async def test_a_session_that_cannot_be_is_refused_with_its_field(file: bytes, name: str) -> None:
    change, field = WRONG_FACTS[name]
    async with counting_cell() as cell, Client(cell.target) as client:
        with refused("INVALID_ARGUMENT", field):
            await client.import_session(in_parts(with_facts(file, change)))
        assert cell.engine.scheduler.sessions() == () and cell.engine.journal.sessions == ()
        answer = await client.import_session(in_parts(file))
        assert answer.session_id, "the one that is right is taken"


def tensor(header: dict[str, object], **changes: object) -> None:
    """Change what is said of the first tensor."""
    name = next(name for name in header if name.startswith("latents/"))
    entry = header[name]
    assert isinstance(entry, dict)
    entry.update(changes)


def rename(header: dict[str, object], to: str) -> None:
    name = next(name for name in header if name.startswith("latents/"))
    header[to] = header.pop(name)


def nan(file: bytes) -> bytes:
    header, rest = header_of(file)
    return file_of(header, rest[:40] + np.array([np.nan], "<f4").tobytes() + rest[44:])


def without_latents(file: bytes) -> bytes:
    """No latents at all: of a session that has forgotten a cue."""
    header, _ = header_of(file)
    facts = json.loads(header["__metadata__"]["longtake"])
    assert facts["record"]["known_from"] == 9
    facts["versions"] = []
    return file_of({"__metadata__": {"longtake": json.dumps(facts, separators=(",", ":"))}}, b"")


FIRST = "latents/1/14"
WRONG_FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda file: b"", "data"),
    "a few bytes": (lambda file: file[:7], "data"),
    "a header of 2^62 bytes": (lambda file: (1 << 62).to_bytes(8, "little") + file[8:], "header"),
    "a header that is none": (lambda file: (4).to_bytes(8, "little") + b"[1]]", "header"),
    "nested without end": (lambda file: file_of({}, b"")[:8] + b"[" * 2, "header"),
    "no metadata": (lambda file: with_header(file, lambda header: header.pop("__metadata__")), "header.__metadata__"),
    "metadata of another": (lambda file: file_of({"__metadata__": {"format": "pt"}}, b""), "header.__metadata__"),
    "half": (lambda file: file[: len(file) // 2], "data"),
    "more": (lambda file: file + b"\0", "data"),
    "float16": (lambda file: with_header(file, lambda header: tensor(header, dtype="F16")), f"{FIRST}.dtype"),
    "shape": (lambda file: with_header(file, lambda header: tensor(header, shape=[1, 2])), f"{FIRST}.shape"),
    "offsets": (
        lambda file: with_header(file, lambda header: tensor(header, data_offsets=[1, 2])), f"{FIRST}.data_offsets"
    ),
    "a step too many": (lambda file: with_header(file, lambda header: rename(header, "latents/3/14")), "header"),
    "a block beyond all": (
        lambda file: with_header(file, lambda header: rename(header, "latents/1/99999999999999")), "header"
    ),
    "a tensor of another name": (lambda file: with_header(file, lambda header: rename(header, "x")), "header"),
    "NaN": (nan, FIRST),
    "latents that a block needs whose cues were forgotten": (without_latents, "latents"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_FILES)
async def test_a_file_that_is_none_is_refused_with_what_is_wrong(file: bytes, name: str) -> None:
    spoil, field = WRONG_FILES[name]
    first = min(name for name in header_of(file)[0] if name.startswith("latents/1/"))
    async with counting_cell() as cell, Client(cell.target) as client:
        with refused("INVALID_ARGUMENT", field.replace(FIRST, first)):
            await client.import_session(in_parts(spoil(file)))
        assert cell.engine.scheduler.sessions() == () and cell.engine.journal.sessions == ()


async def test_more_than_a_session_may_have_is_refused_while_it_arrives() -> None:
    async def without_end(sent: list[int]) -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield bytes(1 << 20)

    async with counting_cell() as cell, Client(cell.target) as client:
        for _ in range(8):  # a client that forgets why it was refused forgets it every other time
            sent: list[int] = []
            with refused("INVALID_ARGUMENT", "data"):
                await client.import_session(without_end(sent))
            assert len(sent) < 40, "8 MB of header and what 32 segments of window need, and no more"


async def test_an_import_that_is_given_up_asks_for_no_more_parts() -> None:
    asked, given_up = asyncio.Event(), asyncio.Event()

    async def never(first: bytes) -> AsyncIterator[bytes]:
        yield first
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    async with counting_cell() as cell, Client(cell.target) as client:
        importing = asyncio.create_task(client.import_session(never(bytes(1000))))
        await asked.wait()
        importing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await importing
        await asyncio.wait_for(given_up.wait(), 10)


def test_cut_anywhere_and_with_any_byte_changed_it_is_refused_or_read(file: bytes) -> None:
    draw = random.Random(3)
    end = len(file) - len(header_of(file)[1])
    served = offer()

    def form(record: SessionRecord) -> files.Form:
        served.identity.here(record)
        return files.Form(geometry=GEOMETRY, steps=STEPS)

    taken = 0
    cuts = [file[:length] for length in (*range(0, 40), *draw.sample(range(len(file)), 60))]
    flips = []
    for place in (*range(8), *draw.sample(range(end), 600), *draw.sample(range(end, len(file)), 100)):
        flips.append(file[:place] + bytes([file[place] ^ (1 << draw.randrange(8))]) + file[place + 1 :])
    for spoilt in (*cuts, *flips):
        try:
            imported.check(files.read(spoilt, form), served)
        except InvalidField as error:
            assert len(str(error)) < 2000
        else:
            taken += 1
    assert 0 < taken < len(flips), "a digit or a latent may be another one, and everything else is seen"
    for spoilt in cuts:
        with pytest.raises(InvalidField):
            files.read(spoilt, form)


async def test_what_was_changed_and_is_taken_breaks_no_engine(file: bytes) -> None:
    draw = random.Random(4)
    end = len(file) - len(header_of(file)[1])
    async with counting_cell(limits=Limits(max_sessions=500)) as cell, Client(cell.target) as client:
        for place in draw.sample(range(8, end), 80):
            spoilt = file[:place] + bytes([file[place] ^ (1 << draw.randrange(5))]) + file[place + 1 :]
            try:
                answer = await client.import_session(in_parts(spoilt))
            except ClientError as error:
                assert error.code.name == "INVALID_ARGUMENT", error
            else:
                await client.close_session(answer.session_id)
        assert (await client.get_status()).sessions == 0
        cell.engine.scheduler.check()


async def test_numbers_beyond_all_measure_take_no_time(file: bytes) -> None:
    """The same session, a thousand thousand years later."""
    far = 1 << 39

    def later(header: dict[str, Any]) -> None:
        facts = json.loads(header["__metadata__"]["longtake"])
        facts["acknowledged"] += far
        facts["record"] |= {"picture_limit": None, "known_from": facts["record"]["known_from"] + far}
        for cue in facts["cues"]:
            cue["block"] += far
        facts["versions"] = [[step, block + far, version] for step, block, version in facts["versions"]]
        header["__metadata__"]["longtake"] = json.dumps(facts, separators=(",", ":"))
        for name in [name for name in header if name.startswith("latents/")]:
            _, step, block = name.split("/")
            header[f"latents/{step}/{int(block) + far}"] = header.pop(name)

    async with counting_cell() as cell, Client(cell.target) as client:
        answer = await client.import_session(in_parts(with_header(file, later)))
        assert answer.block > far
        async with client.resume(answer.resume_token, far + 17) as stream:
            event = await upto(stream, SegmentEvent)
            assert isinstance(event, SegmentEvent) and event.index == far + 18
        cell.engine.scheduler.check()
