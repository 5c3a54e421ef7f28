"""The gathering of a chain behind one name, without workers: what each is sent, and what their reports come to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cluster.cell.chains import Chains
from cluster.cell.inbox import Inbox
from longtake.core.effects import Effect
from longtake.core.events import Event, WorkerJoined, WorkerLost
from longtake.core.limits import Limits
from longtake.core.recipe.ops import Kind
from longtake.core.scheduler import Scheduler
from longtake.core.work import (
    Ability,
    ConditioningRef,
    DispatchNumber,
    FromLatent,
    LatentRef,
    PageId,
    Role,
    SessionId,
    WorkerId,
)
from tests.cluster.cell.world import PortsKept, settle
from tests.workers.model_dir import model_info
from tests.workers.works import Flat, changed
from workers.messages import (
    Done,
    Down,
    Failed,
    Forward,
    Heartbeat,
    Introduction,
    JoinChain,
    Part,
    Prepared,
    Seat,
    Shutdown,
    Site,
    Task,
    Up,
)

SESSION = SessionId("s")
WORK = Flat(
    session=SESSION, lane=0, kind=Kind.DENOISE, step=1, block=0, timestep=750.0, sigma=0.9, next_sigma=0.5, seed=5,
    positions=(0, 1), reads=(PageId(0), PageId(1)), writes=(PageId(0), PageId(1)),
    conditioning=ConditioningRef(session=SESSION, version=0),
    input=FromLatent(LatentRef(session=SESSION, block=0, step=1)),
).work()  # fmt: skip


class Log:
    """A recorder that keeps all events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        self.events.append(event)


class Link:
    """A link to a worker that is not there: what it was sent, and why it was cut."""

    def __init__(self) -> None:
        self.sent: list[Down] = []
        self.cut = ""

    def send(self, message: Down) -> None:
        self.sent.append(message)

    def end(self, reason: str) -> None:
        self.cut = self.cut or reason

    @property
    def forwards(self) -> list[Forward]:
        """All ops that it was sent."""
        orders = [message.order for message in self.sent if isinstance(message, Task)]
        return [forward for order in orders if isinstance(order, tuple) for forward in order]


def site_of(rank: int) -> Site:
    return Site(node=f"node-{rank}", pod="", device="cpu")


class Bench:
    """Chains before an engine, and links of a chain of three that has come together."""

    def __init__(self, numerics: Sequence[str] = ("", "", "")) -> None:
        self.numerics = numerics
        info = model_info()
        self.log = Log()
        self.inbox = Inbox()
        self.engine = PortsKept(Scheduler(info.recipe, info.geometry, Limits()), self.log, inbox=self.inbox)
        self.chains = Chains(self.engine)
        self.links = [self.dial(rank) for rank in range(3)]

    def dial(self, rank: int, layers: range | None = None, *, depth: int = 3) -> Link:
        seat = Seat(replica=WorkerId("denoise-0"), rank=rank, length=3)
        part = Part(seat=seat, layers=layers or range(rank, rank + 1))
        introduction = Introduction(
            worker=seat.member, role=Role.DENOISE, model_digest="m", part=part, sites=(site_of(rank),),
            ability=Ability(capacity=50 - rank, batch_limit=4 + rank, forward_s=0.1 * (rank + 1),
                            numerics=self.numerics[rank], replay_depth=depth),
        )  # fmt: skip
        link = Link()
        self.chains.join(introduction, link)
        self.settle()
        return link

    def settle(self) -> None:
        settle(self.engine, self.inbox)

    def hear(self, rank: int, message: Up) -> None:
        self.chains.hear(WorkerId(f"denoise-0.{rank + 1}of3"), self.links[rank], message)
        self.settle()

    @property
    def events(self) -> list[Event]:
        return self.log.events


def test_a_chain_is_of_a_class_of_its_own_that_every_worker_of_it_makes_up() -> None:
    def numerics_of(*each: str) -> str:
        (joined,) = Bench(each).events
        assert isinstance(joined, WorkerJoined)
        return joined.ability.numerics

    usual = numerics_of("a", "b", "c")
    assert numerics_of("a", "b", "c") == usual
    others = [numerics_of("x", "b", "c"), numerics_of("a", "b", "x"), numerics_of("b", "a", "c"), "a", ""]
    assert usual not in others
    assert numerics_of("", "", "") == ""


def test_a_chain_joins_when_it_is_complete_and_is_what_its_least_worker_is() -> None:
    bench = Bench()
    (joined,) = bench.events
    assert isinstance(joined, WorkerJoined)
    assert (joined.worker, joined.ability.chain_length) == ("denoise-0", 3)
    assert (joined.ability.capacity, joined.ability.batch_limit) == (48, 4)
    assert joined.ability.forward_s == pytest.approx(0.3)
    assert joined.ability.replay_depth == 3
    (introduction,) = bench.engine.introductions()
    assert introduction.sites == tuple(map(site_of, range(3)))
    assert [link.sent for link in bench.links] == [[JoinChain(0)]] * 3
    assert not any(link.cut for link in bench.links)


def test_a_chain_fares_as_all_its_workers_together() -> None:
    bench = Bench()
    for rank in range(3):
        assert bench.engine.vitals() == {}
        beat = Heartbeat(host_bytes=1, resident_bytes=10**rank, copied_out_bytes=2, copied_in_bytes=3)
        bench.hear(rank, beat)
    together = Heartbeat(host_bytes=3, resident_bytes=111, copied_out_bytes=6, copied_in_bytes=9)
    assert bench.engine.vitals() == {WorkerId("denoise-0"): together}


def test_a_dispatch_goes_to_all_and_is_done_when_all_have_done_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    heard: list[Up] = []
    monkeypatch.setattr(bench.engine, "hear", lambda worker, port, message: heard.append(message))
    port = bench.engine.ports[WorkerId("denoise-0")]
    latents = Forward(work=WORK, latents=b"latents", conditioning=b"text")
    commit = Forward(work=changed(WORK, kind=Kind.COMMIT), latents=b"latents", conditioning=b"text")
    port.send(Task(sequence=DispatchNumber(0), order=(latents,)))
    port.send(Task(sequence=DispatchNumber(1), order=(commit,)))
    sent = [link.forwards for link in bench.links]
    assert [[order.latents for order in orders] for orders in sent] == [[b"latents"] * 2, [b"", b""], [b"latents", b""]]
    assert all(order.conditioning == b"text" for orders in sent for order in orders)
    output = b"new"
    bench.hear(0, Done(sequence=DispatchNumber(0), seconds=0.2))
    bench.hear(0, Done(sequence=DispatchNumber(1), seconds=0.3))
    bench.hear(2, Done(sequence=DispatchNumber(0), seconds=0.1, outputs=(output,)))
    assert heard == []
    bench.hear(1, Done(sequence=DispatchNumber(0), seconds=0.4))
    assert heard == [Done(sequence=DispatchNumber(0), seconds=0.4, outputs=(output,))]
    bench.hear(1, Failed(sessions=(SessionId("b"),), sequence=DispatchNumber(1), reason="second"))
    bench.hear(2, Failed(sessions=(SessionId("a"), SessionId("b")), sequence=DispatchNumber(1), reason="third"))
    failed = Failed(sessions=(SessionId("b"), SessionId("a")), sequence=DispatchNumber(1), reason="second")
    assert heard[1:] == [failed], "the first that failed knows why"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Failed(sessions=(), sequence=None, reason="no memory"), "denoise-0.2of3: no memory"),
        (Done(sequence=DispatchNumber(1)), "its workers report dispatches [0, 1, 0] in one turn"),
        (
            Prepared(session=SessionId("s"), header=b"", media_type=""),
            "denoise-0.2of3 said Prepared, which no worker of a chain has to say",
        ),
    ],
)
def test_a_chain_is_given_up_as_a_whole_and_the_next_generation_has_another_number(message: Up, reason: str) -> None:
    bench = Bench()
    old = bench.links
    bench.hear(0, Done(sequence=DispatchNumber(0)))
    bench.hear(2, Done(sequence=DispatchNumber(0)))
    bench.hear(1, message)
    lost = bench.events[-1]
    assert isinstance(lost, WorkerLost)
    assert (lost.worker, lost.reason) == ("denoise-0", reason)
    assert all(link.cut == f"denoise-0 was given up: {reason}" for link in old)
    bench.links = [bench.dial(rank) for rank in (1, 0)]
    assert not any(link.sent for link in bench.links), "they wait for the third"
    third = bench.dial(2)
    assert [link.sent for link in (*bench.links, third)] == [[JoinChain(1)]] * 3
    for rank, link in enumerate(old):  # what still comes from the links that were cut concerns nobody
        name = WorkerId(f"denoise-0.{rank + 1}of3")
        bench.chains.hear(name, link, Done(sequence=DispatchNumber(0)))
        bench.chains.leave(name, link, "its link broke")
    bench.settle()
    assert [type(event) for event in bench.events] == [WorkerJoined, WorkerLost, WorkerJoined]


def test_a_worker_that_dials_in_again_ends_its_chain() -> None:
    bench = Bench()
    newer = bench.dial(1)
    lost = bench.events[-1]
    assert isinstance(lost, WorkerLost)
    assert lost.reason == "denoise-0.2of3: it dialled in again"
    assert all(link.cut for link in bench.links)
    assert not newer.cut
    bench.dial(0)
    bench.dial(2)
    assert newer.sent == [JoinChain(1)]


def test_workers_whose_layers_do_not_make_up_a_model_do_not_come_together() -> None:
    bench = Bench()
    bench.chains.leave(WorkerId("denoise-0.1of3"), bench.links[0], "lost")
    links = [bench.dial(0), bench.dial(1), bench.dial(2, range(1, 3))]
    assert all("hold layers [range(0, 1), range(1, 2), range(1, 3)]" in link.cut for link in links)
    assert [type(event) for event in bench.events] == [WorkerJoined, WorkerLost]


def test_workers_that_speak_of_models_of_other_depths_do_not_come_together() -> None:
    bench = Bench()
    bench.chains.leave(WorkerId("denoise-0.1of3"), bench.links[0], "lost")
    links = [bench.dial(0), bench.dial(1), bench.dial(2, depth=4)]
    assert all("hold parts of models with [3, 3, 4] layers" in link.cut for link in links)
    assert [type(event) for event in bench.events] == [WorkerJoined, WorkerLost]


def test_workers_that_end_are_not_cut_off_by_one_that_is_faster() -> None:
    bench = Bench()
    bench.chains.broadcast(Shutdown())
    assert [link.sent[-1] for link in bench.links] == [Shutdown()] * 3
    bench.chains.leave(WorkerId("denoise-0.1of3"), bench.links[0], "it closed its link")
    assert not bench.links[1].cut
    assert bench.chains.is_attached(WorkerId("denoise-0.2of3"))
    late = bench.dial(0)
    assert late.sent == [Shutdown()], "one that missed it is told again"
    for rank in (1, 2):
        bench.chains.leave(WorkerId(f"denoise-0.{rank + 1}of3"), bench.links[rank], "it closed its link")
    assert not bench.chains.is_attached(WorkerId("denoise-0.2of3"))
    assert not bench.chains.is_attached(WorkerId("denoise-0"))
