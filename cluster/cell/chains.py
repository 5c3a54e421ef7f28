"""Replicas of several workers: the engine sees one worker with one link, where a chain of them has dialled in.

Theory of operation. The workers of a chain dial in by their own names, each through an ordinary link, and wait here.
When the last one is there, they are told to meet under the number of a new generation, and the replica joins the engine
under its own name. From then on every message goes to all of them, with the same numbers and page ids, and a dispatch
is done when all have reported it: only then does every layer's part of its pages hold what it says. An image is so many
images under one number, each of what one worker holds; those of one chain go to the workers in the same seats of
another. When one is lost,
or tells nonsense, the replica leaves the engine and all links of the generation are cut. Workers that live dial in
again with nothing but their weights, and the next generation begins when the lost one is back.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cluster.cell.attached import Port
from cluster.cell.engine import Engine
from longtake.core.effects import Give, LoadImage, Stow, Take
from longtake.core.errors import Unavailable
from longtake.core.work import Ability, ImageId, Loss, SessionId, ShapeTime, WorkerId
from workers.messages import (
    Done,
    Down,
    Failed,
    Forward,
    Heartbeat,
    ImageGone,
    ImageLoaded,
    ImageStowed,
    Introduction,
    JoinChain,
    Part,
    Seat,
    Shutdown,
    Task,
    Up,
)

LOOK_S = 0.02
"""How often `attached` looks whether workers have attached."""

_log = logging.getLogger("longtake.launch")


@dataclass(slots=True, eq=False)
class _Member:
    """A worker of a chain that is attached."""

    introduction: Introduction
    part: Part
    port: Port
    chain: ChainPort | None = None
    """The chain that the worker is part of; None while it waits for the others."""
    vitals: Heartbeat | None = None
    reports: deque[Done | Failed] = field(default_factory=deque)
    """What this worker has reported and another one has not."""


@dataclass(slots=True)
class _Answers:
    missing: set[int]
    """Seats, by rank, that have not answered yet."""
    failure: ImageGone | None = None


class ChainPort:
    """One generation of a chain, as the engine sees it: a worker."""

    def __init__(self, replica: WorkerId, members: tuple[_Member, ...], dissolved: Callable[[ChainPort], None]) -> None:
        """`members` are all workers of the chain in its order; `dissolved` is called when they are parted."""
        self.replica = replica
        self._members = members
        self._dissolved = dissolved
        self._images: dict[ImageId, _Answers] = {}
        """The answers so far about each image that is being stowed or loaded."""

    @property
    def introduction(self) -> Introduction:
        """The introduction of all together: as large as the smallest of them, as slow as the slowest."""
        first, each = self._members[0].introduction, [member.introduction.ability for member in self._members]
        ability = Ability(
            capacity=min(one.capacity for one in each),
            batch_limit=min(one.batch_limit for one in each),
            mixes_kinds=all(one.mixes_kinds for one in each),
            joint_ops=min(one.joint_ops for one in each),
            forward_s=max(one.forward_s for one in each),
            shape_s=tuple(map(_slowest, zip(*(one.shape_s for one in each), strict=False))),
            chain_length=len(each),
            numerics=_together([one.numerics for one in each]),
            replay_depth=each[0].replay_depth,  # of the whole model: all say the same
        )
        sites = tuple(site for member in self._members for site in member.introduction.sites)
        return Introduction(
            worker=self.replica, role=first.role, ability=ability, model_digest=first.model_digest, sites=sites
        )

    def send(self, message: Down) -> None:
        """See cluster.cell.attached.Port. Latents go only to those that start from them."""
        if isinstance(message, Stow | LoadImage):
            self._images[message.image] = _Answers({member.part.seat.rank for member in self._members})
        for member in self._members:
            member.port.send(_for_seat(message, member.part.seat))

    def end(self, reason: str) -> None:
        """See cluster.cell.attached.Port."""
        self._dissolved(self)
        for member in self._members:
            member.port.end(f"{self.replica} was given up: {reason}")

    def answered(self, seat: Seat, answer: ImageStowed | ImageLoaded | ImageGone) -> Up | None:
        """The answer of all to an order about an image, once the last one has come; if one fails, all have failed."""
        answers = self._images.get(answer.image)
        if answers is None:
            return answer  # of an order that is only answered when it fails
        answers.missing.discard(seat.rank)
        if isinstance(answer, ImageGone):
            answers.failure = answers.failure or answer
        if answers.missing:
            return None
        del self._images[answer.image]
        return answers.failure or answer

    def vitals(self) -> Heartbeat | None:
        """What the workers' processes use together; None until all have said it."""
        told = [member.vitals for member in self._members if member.vitals is not None]
        if len(told) < len(self._members):
            return None
        return Heartbeat(
            host_bytes=sum(one.host_bytes for one in told),
            resident_bytes=sum(one.resident_bytes for one in told),
            copied_out_bytes=sum(one.copied_out_bytes for one in told),
            copied_in_bytes=sum(one.copied_in_bytes for one in told),
        )

    def merged(self) -> Done | Failed | None:
        """The next report of all workers; None if some have not made it yet. ValueError if they are out of step."""
        if not all(member.reports for member in self._members):
            return None
        heads = [member.reports.popleft() for member in self._members]
        sequence = heads[0].sequence
        if any(head.sequence != sequence for head in heads):
            raise ValueError(f"its workers report dispatches {[head.sequence for head in heads]} in one turn")
        outputs = heads[-1].outputs
        failed = [head for head in heads if isinstance(head, Failed)]
        if failed:
            sessions: dict[SessionId, None] = dict.fromkeys(session for head in failed for session in head.sessions)
            return Failed(sessions=tuple(sessions), sequence=sequence, reason=failed[0].reason, outputs=outputs)
        assert sequence is not None
        seconds = max(head.seconds for head in heads if isinstance(head, Done))
        return Done(sequence=sequence, outputs=outputs, seconds=seconds)


def _slowest(same: tuple[ShapeTime, ...]) -> ShapeTime:
    """What members of a chain say of one shape: the slowest counts."""
    return max(same, key=lambda each: each.seconds)


def _together(numerics: list[str]) -> str:
    """The fingerprint of a chain: an op passes through all its workers, so each of theirs counts."""
    return hashlib.sha256("\n".join(numerics).encode()).hexdigest() if any(numerics) else ""


class Chains:
    """Gathers the workers of chains before the engine; those that hold a whole model are sent on to it at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._members: dict[WorkerId, _Member] = {}
        """Workers of chains that are attached, by their own names."""
        self._generations: dict[WorkerId, int] = {}
        """How often each replica has come together."""
        self._ends = False
        """Whether workers were told to end; one that missed it dials in again and is told again."""

    def join(self, introduction: Introduction, port: Port) -> Engine | Chains:
        """Take in a worker that has dialled in; returns what it speaks with. An older link of its name is given up."""
        part, worker = introduction.part, introduction.worker
        if part is None:
            return self._engine.join(introduction, port)
        older = self._members.get(worker)
        if older is not None:
            self.leave(worker, older.port, "it dialled in again", Loss.REPLACED)
        if self._ends:
            port.send(Shutdown())
            return self
        self._members[worker] = _Member(introduction, part, port)
        self._gather(part.seat)
        return self

    def leave(self, worker: WorkerId, port: Port, reason: str, cause: Loss = Loss.LINK) -> None:
        """The link `port` has ended or is to be given up, and with it its chain; nothing if it was already."""
        member = self._members.get(worker)
        if member is not None and member.port is port:
            del self._members[worker]
            port.end(reason)
            others = any(other.chain is member.chain for other in self._members.values())
            if member.chain is not None and not (self._ends and others):  # those that end finish what they have
                self._engine.leave(member.chain.replica, member.chain, f"{worker}: {reason}", cause)

    def hear(self, worker: WorkerId, port: Port, message: Up) -> None:
        """Take what a worker of a chain said. A chain whose workers are out of step is given up."""
        member = self._members.get(worker)
        if member is not None and member.port is port and member.chain is not None:
            self._hear(member, member.chain, message)

    def broadcast(self, message: Down) -> None:
        """Send a message to every worker, also to those whose chain is not complete."""
        self._ends = self._ends or isinstance(message, Shutdown)
        self._engine.broadcast(message)
        for member in list(self._members.values()):
            if member.chain is None:
                member.port.send(message)

    def part(self) -> None:
        """The server ends: workers that leave from now on are not lost."""
        self._engine.is_over = True

    def is_attached(self, worker: WorkerId) -> bool:
        """Whether the worker has a link now."""
        return worker in self._members or self._engine.is_attached(worker)

    async def attached(self, replicas: frozenset[WorkerId], timeout_s: float) -> None:
        """Wait until all of `replicas` are complete; Unavailable names those that are not after `timeout_s`."""
        deadline_s = self._engine.now_s() + timeout_s
        while missing := [replica for replica in sorted(replicas) if not self._engine.is_attached(replica)]:
            if self._engine.now_s() > deadline_s:
                raise Unavailable(f"{', '.join(missing)} did not attach within {timeout_s:g} s")
            await asyncio.sleep(LOOK_S)

    def _gather(self, seat: Seat) -> None:
        """Let the chain begin if all its workers are here."""
        replica = seat.replica
        here = [member for member in self._members.values() if member.part.seat.replica == replica]
        members = tuple(sorted(here, key=lambda member: member.part.seat.rank))
        if [member.part.seat for member in members] != [replace(seat, rank=rank) for rank in range(seat.length)]:
            return
        misfit = _misfit(members)
        if misfit:
            for member in members:
                reason = f"the workers of {replica} {misfit}"
                self.leave(member.introduction.worker, member.port, reason, Loss.PROTOCOL)
            return
        generation = self._generations.get(replica, 0)
        self._generations[replica] = generation + 1
        chain = ChainPort(replica, members, self._dissolved)
        held = [member.part.layers for member in members]
        _log.info("%s comes together, generation %d: layers %s", replica, generation, held)
        for member in members:
            member.chain = chain
            member.port.send(JoinChain(generation))
        self._engine.join(chain.introduction, chain)

    def _hear(self, member: _Member, chain: ChainPort, message: Up) -> None:
        match message:
            case Heartbeat():
                member.vitals = message
                beat = chain.vitals()
                if beat is not None:
                    self._engine.hear(chain.replica, chain, beat)
            case ImageStowed() | ImageLoaded() | ImageGone():
                answer = chain.answered(member.part.seat, message)
                if answer is not None:
                    self._engine.hear(chain.replica, chain, answer)
            case Done() | Failed() if message.sequence is not None:
                member.reports.append(message)
                try:
                    report = chain.merged()
                except ValueError as error:
                    self._engine.leave(chain.replica, chain, str(error), Loss.PROTOCOL)
                    return
                if report is not None:
                    self._engine.hear(chain.replica, chain, report)
            case Failed(sessions=()):
                self._engine.leave(chain.replica, chain, f"{member.introduction.worker}: {message.reason}")
            case Failed():  # a preparation, which every worker of the chain reports for itself
                self._engine.hear(chain.replica, chain, message)
            case _:
                reason = f"{member.introduction.worker} said {type(message).__name__}"
                reason += ", which no worker of a chain has to say"
                self._engine.leave(chain.replica, chain, reason, Loss.PROTOCOL)

    def _dissolved(self, chain: ChainPort) -> None:
        """Forget the workers of a generation that ends: they dial in again."""
        self._members = {name: member for name, member in self._members.items() if member.chain is not chain}


def _misfit(members: tuple[_Member, ...]) -> str:
    """What keeps these workers from being one replica; empty if nothing does."""
    held = [member.part.layers for member in members]
    if [layer for layers in held for layer in layers] != list(range(held[-1].stop)):
        return f"hold layers {held}"
    depths = [member.introduction.ability.replay_depth for member in members]
    return f"hold parts of models with {depths} layers" if len(set(depths)) > 1 else ""


def _for_seat(message: Down, seat: Seat) -> Down:
    """The part of a message to a chain that the worker in `seat` is sent."""
    match message:
        case Task(order=tuple() as batch):
            return replace(message, order=tuple(_lightened(forward, seat) for forward in batch))
        case Give():
            return replace(message, worker=seat.member, to=replace(seat, replica=message.to).member)
        case Take():
            return replace(message, worker=seat.member, origin=replace(seat, replica=message.origin).member)
        case _:
            return message


def _lightened(forward: Forward, seat: Seat) -> Forward:
    return forward if seat.takes_latents(forward.work.kind) else replace(forward, latents=b"")
