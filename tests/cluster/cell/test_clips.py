"""What the engine does with the parts of a clip: bytes down and up, kept until their stream has begun."""

from __future__ import annotations

import asyncio
import math

import pytest

from cluster.cell.engine import Engine
from cluster.cell.inbox import Inbox
from cluster.cell.journal import GivenPictures
from cluster.cell.outbox import Outbox
from longtake.core.limits import Limits
from longtake.core.openings import Opened
from longtake.core.scheduler import Scheduler
from longtake.core.work import Ability, ConditioningRef, LatentRef, Role, SessionId, WorkerId
from tests.cluster.cell.world import open_event, settle
from tests.workers.model_dir import model_info
from workers.messages import Down, Encoded, EncodeGiven, GivenEncoded, Introduction, Prepared

SESSION, DECODER = SessionId("s"), WorkerId("decode-0")
PICTURES = tuple(b"picture %d" % number for number in range(9))


class Port:
    """What a worker was sent that does nothing by itself."""

    def __init__(self) -> None:
        self.sent: list[Down] = []
        self.why = ""

    def send(self, message: Down) -> None:
        self.sent.append(message)

    def end(self, reason: str) -> None:
        self.why = reason

    @property
    def parts(self) -> list[EncodeGiven]:
        """The parts of clips among that."""
        return [message for message in self.sent if isinstance(message, EncodeGiven)]


class Bench:
    """An engine stepped by hand, with a stream that is given three latent frames."""

    def __init__(self) -> None:
        self.info = model_info()
        self.inbox, self.outbox, self.port = Inbox(), Outbox(), Port()
        scheduler = Scheduler(self.info.recipe, self.info.geometry, Limits())
        self.engine = Engine(scheduler, now_s=lambda: 1.0, inbox=self.inbox)
        self.join(WorkerId("denoise-0"), Role.DENOISE, Port())
        self.join(DECODER, Role.DECODE, self.port)
        self.engine.journal.give(SESSION, GivenPictures(given=PICTURES))
        self.engine.attach(SESSION, self.outbox)
        self.engine.submit(open_event(self.engine, SESSION, "a red ball", given_frames=3, picture_limit=60))
        settle(self.engine, self.inbox)

    def join(self, worker: WorkerId, role: Role, port: Port) -> None:
        ability = Ability(capacity=60)
        self.engine.join(Introduction(worker=worker, role=role, ability=ability, model_digest="m"), port)

    def hear(self, report: GivenEncoded | Encoded | Prepared) -> None:
        self.engine.hear(DECODER, self.port, report)
        settle(self.engine, self.inbox)

    @property
    def frame_bytes(self) -> int:
        return 4 * math.prod(self.info.geometry.block_shape[1:])

    def frame(self, part: int) -> bytes:
        return bytes([part]) * self.frame_bytes


def test_parts_go_down_with_their_pictures_and_become_latents_of_blocks() -> None:
    bench = Bench()
    journal, text = bench.engine.journal, ConditioningRef(session=SESSION, version=0)
    bench.hear(Prepared(session=SESSION, header=b"h", media_type="m"))
    bench.hear(Encoded(conditioning=text, tensor=b"text", notice=""))
    for part in range(3):
        assert [message.order.part for message in bench.port.parts] == [*range(part + 1)], "one after the other"
        assert journal.sizes_bytes()["pictures"] == sum(map(len, PICTURES)) + part * bench.frame_bytes
        assert not len(bench.outbox)
        bench.hear(GivenEncoded(session=SESSION, part=part, latents=bench.frame(part)))
    assert [message.pictures for message in bench.port.parts] == [PICTURES[:1], PICTURES[1:5], PICTURES[5:]]
    assert isinstance(asyncio.run(bench.outbox.get()), Opened)
    session = bench.engine.scheduler.inspect(SESSION)
    made = b"".join(
        journal.latents(LatentRef(session=SESSION, block=block, step=session.graph.step_count))
        for block in range(session.graph.given_blocks)
    )
    assert made == b"".join(map(bench.frame, range(3)))
    assert not journal.sizes_bytes()["pictures"], "what it has begun with is kept once"


@pytest.mark.parametrize(
    ("part", "size", "why"), [(0, -1, "bytes of latents of given pictures"), (3, 0, "part 3 of 3 that were given")]
)
def test_a_worker_that_reports_what_cannot_be_is_given_up(part: int, size: int, why: str) -> None:
    bench = Bench()
    latents = bytes(bench.frame_bytes + size)
    bench.hear(GivenEncoded(session=SESSION, part=part, latents=latents))
    assert why in bench.port.why


def test_what_another_worker_has_made_before_is_not_taken_for_what_is_asked_for_now() -> None:
    bench = Bench()
    bench.hear(GivenEncoded(session=SESSION, part=0, latents=bench.frame(7)))
    older = bench.port
    bench.engine.leave(DECODER, older, "gone")
    bench.port = Port()
    bench.join(DECODER, Role.DECODE, bench.port)
    settle(bench.engine, bench.inbox)
    assert [message.order.part for message in bench.port.parts] == [0], "it begins anew"
    assert bench.engine.journal.sizes_bytes()["pictures"] == sum(map(len, PICTURES)), "without what was made before"
    bench.engine.hear(DECODER, older, GivenEncoded(session=SESSION, part=0, latents=bench.frame(8)))
    assert bench.inbox.take() is None


def test_nothing_is_kept_of_a_stream_that_is_refused() -> None:
    bench = Bench()
    bench.hear(GivenEncoded(session=SESSION, part=0, unfit="open.given[0]: no picture"))
    assert not bench.engine.journal.size_bytes and not bench.engine.scheduler.sessions()
