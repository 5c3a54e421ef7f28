"""Two sessions whose promises wait for a pen that takes writes down."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from cluster.cell.durability import Durability, Released, Told
from cluster.cell.journal import Journal
from cluster.journal.facts import SessionRecord
from cluster.journal.writer import Reached, WriterFigures
from cluster.journal.writes import Durable, Write
from longtake.core.effects import Closed, CueAccepted, DropJournal, Notice
from longtake.core.endings import Ending, Remains
from longtake.core.errors import Unavailable, UnknownSession
from longtake.core.events import Open
from longtake.core.flow import Flow, Pace
from longtake.core.openings import AttachRefused, Opened, Resumed
from longtake.core.recipe.graph import Graph
from longtake.core.sessions.place import NOWHERE
from longtake.core.sessions.prompts import Turn
from longtake.core.sessions.session import Session
from longtake.core.work import (
    ConnectionNumber,
    CueId,
    DecoderKind,
    SegmentSettings,
    SessionId,
)
from tests.cluster.journal.world import A, B, record
from tests.core.support.parts import geometry, recipe

SETTINGS = SegmentSettings(codec="raw", quality=0)


@dataclass
class Pen:
    """Takes writes down; a test says what was reached."""

    written: list[Write] = field(default_factory=list)
    is_healthy: bool = True

    def append(self, write: Write) -> int:
        if isinstance(write, Durable) and not self.is_healthy:
            raise Unavailable("the journal cannot be written: no space")
        self.written.append(write)
        return len(self.written)

    @property
    def figures(self) -> WriterFigures:
        raise NotImplementedError

    def of(self, kind: type[Write]) -> list[Write]:
        return [write for write in self.written if isinstance(write, kind)]


def session(name: SessionId) -> Session:
    request = Open(
        now_s=0.0, session=name, prompt="p", seed=7, pace=Pace.FAST, window=4, picture_limit=None, settings=SETTINGS
    )
    flow = Flow(window=4, pace=Pace.FAST)
    return Session(request=request, graph=Graph(recipe()), geometry=geometry(), place=NOWHERE, flow=flow)


def opened(name: SessionId = A) -> Opened:
    return Opened(
        session=name,
        seed=7,
        header=b"",
        media_type="",
        decoder=DecoderKind.FULL,
        window=4,
        pace=Pace.FAST,
        picture_limit=None,
        segment=0,
        prompt="prompt 0",
    )


def resumed(name: SessionId = A) -> Resumed:
    return Resumed(session=name, connection=ConnectionNumber(2), opened=opened(name), held=True)


def notice(text: str, name: SessionId = A) -> Notice:
    return Notice(session=name, text=text)


def closed(name: SessionId = A) -> Closed:
    return Closed(session=name, ending=Ending.CLIENT, reason="", segments=0)


class World:
    """Two sessions and a pen."""

    def __init__(self) -> None:
        self.pen = Pen()
        self.journal = Journal()
        self.sessions = {name: session(name) for name in (A, B)}
        self.tokens: dict[SessionId, str] = defaultdict(lambda: "0")
        self.durability = Durability(self.pen, session=self.sessions.get, record=self.record)

    def record(self, of: Session) -> SessionRecord:
        return record(of.id, self.tokens[of.id])

    def accepted(self, cue: str, block: int, version: int, name: SessionId = A) -> CueAccepted:
        """The core has given a cue its block."""
        prompts = self.sessions[name].prompts
        prompts.turns = [turn for turn in prompts.turns if turn.block != block]
        prompts.turns.append(Turn(block=block, version=version, cue=CueId(cue), prompt=f"prompt {version}"))
        return CueAccepted(session=name, cue=CueId(cue), block=block, first_picture=block, prompt=f"prompt {version}")

    def told(self, *messages: Told) -> list[Told]:
        """Those of the messages that go out at once."""
        return [message for message in messages if not self.durability.holds(message)]

    def reached(self, number: int | None = None, *failed: int) -> Released:
        number = len(self.pen.written) if number is None else number
        return self.durability.reached(Reached(number=number, failed=failed, reason="no space" if failed else ""))

    def drop(self, name: SessionId = A, remains: Remains = Remains.NOTHING) -> None:
        self.durability.perform(DropJournal(session=name, remains=remains), self.journal, now_s=0.0)

    def complete(self, name: SessionId = A) -> None:
        """A session whose client was told all of three segments ends; who is to come back may."""
        assert not self.told(opened(name))
        self.reached()
        session = self.sessions.pop(name)
        session.ending, session.progress.done = Ending.COMPLETED, [3] * len(session.graph.chains)
        self.drop(name, Remains.UNREAD)


def refused(name: SessionId = A) -> AttachRefused:
    return AttachRefused(session=name, connection=ConnectionNumber(2), problem=UnknownSession(name).problem)
