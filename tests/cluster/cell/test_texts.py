"""Text workers with the real engine: a prompt that takes long to encode delays no segment of any stream."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cluster.cell.engine import Engine
from cluster.cell.outbox import ClientMessage, Outbox, SegmentOut
from cluster.render import in_process_engine, in_process_workers
from longtake.core.effects import Closed, CueAccepted, CueApplied, Notice
from longtake.core.endings import Ending
from longtake.core.events import Ack, Close, Cue, CueRequest
from longtake.core.openings import Opened
from longtake.core.work import CueId, Role, SessionId
from tests.cluster.cell.world import open_event, segments, stream
from tests.workers.text_dir import info, write_text_model
from workers.models.api import EncodedText
from workers.models.umt5 import UMT5Text

SLOW = "a prompt that takes long"


class Reader:
    """A client that acknowledges whatever it is told, and keeps it."""

    def __init__(self, engine: Engine, session: str, prompt: str) -> None:
        self.engine, self.session = engine, SessionId(session)
        self.told: list[ClientMessage] = []
        self._outbox = Outbox()
        engine.attach(self.session, self._outbox)
        engine.submit(open_event(engine, session, prompt, picture_limit=None))

    async def until(self, kind: type[ClientMessage], count: int = 1) -> None:
        """Read until so many messages of a kind have come, since this was asked."""
        async with asyncio.timeout(60):
            while count:
                message = await self._outbox.get()
                self.told.append(message)
                count -= isinstance(message, kind)
                if isinstance(message, SegmentOut):
                    ack = Ack(now_s=self.engine.now_s(), session=self.session, segment=message.emit.block)
                    self.engine.submit(ack)

    def end(self) -> None:
        """Close the session."""
        self.engine.submit(Close(now_s=self.engine.now_s(), session=self.session, ending=Ending.CLIENT))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("umt5")
    write_text_model(folder)
    return folder


async def test_a_prompt_that_takes_long_delays_no_segment(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on, encode = threading.Event(), threading.Event(), UMT5Text.encode

    def slow(encoder: UMT5Text, prompt: str) -> EncodedText:
        if prompt == SLOW:
            asked.set()
            assert go_on.wait(60)
        return encode(encoder, prompt)

    monkeypatch.setattr(UMT5Text, "encode", slow)
    workers = in_process_workers(model, info().recipe, text=1, sessions=3)
    async with in_process_engine(model, workers) as engine:
        try:
            one, two = Reader(engine, "one", "a red ball"), Reader(engine, "two", "a blue box")
            await asyncio.gather(one.until(SegmentOut, 2), two.until(SegmentOut, 2))
            request = CueRequest(cue=CueId("slow"), prompt=SLOW)
            engine.submit(Cue(now_s=engine.now_s(), session=one.session, request=request))
            assert await asyncio.to_thread(asked.wait, 60)
            await asyncio.gather(one.until(SegmentOut, 12), two.until(SegmentOut, 12))  # twice what may be ahead
            assert not any(isinstance(message, CueAccepted) for message in one.told)
            late = Reader(engine, "late", "a box")  # its text waits behind the slow one
            await two.until(SegmentOut, 4)
        finally:
            go_on.set()
        await asyncio.gather(one.until(CueApplied), late.until(SegmentOut))
        for reader in (one, two, late):
            reader.end()
        await asyncio.gather(*(reader.until(Closed) for reader in (one, two, late)))


async def test_a_stream_is_the_same_whichever_text_worker_encodes_its_prompts(model: Path) -> None:
    made = []
    for text in (1, 3):
        workers = in_process_workers(model, info().recipe, text=text, sessions=4)
        async with in_process_engine(model, workers) as engine:
            told = await asyncio.gather(*(stream(engine, f"s{number}", f"a red ball {number}") for number in range(3)))
            assert sum(view.role is Role.TEXT for view in engine.scheduler.workers()) == text
            assert engine.journal.size_bytes == 0
        made.append([segments(messages) for messages in told])
        assert all(isinstance(messages[0], Opened | Notice) for messages in told)
    assert made[0] == made[1]
