"""One stream of the small model, as the orders that its workers get."""

from __future__ import annotations

from collections.abc import Iterator

from longtake.core.dispatch import orders
from longtake.core.events import Open, WorkerJoined
from longtake.core.fleet.worker import Worker
from longtake.core.flow import Flow, Pace
from longtake.core.pages import PagePool
from longtake.core.recipe.context import Level
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Chain, Kind
from longtake.core.recipe.recipe import Recipe
from longtake.core.sessions.place import Place
from longtake.core.sessions.session import Session
from longtake.core.work import (
    Ability,
    DecodeWork,
    DispatchNumber,
    ForwardWork,
    LatentRef,
    Role,
    SegmentSettings,
    SessionId,
    SlotId,
    WorkerId,
)
from tests.workers.model_dir import model_info
from workers.messages import Decode, Forward, Task

A = SessionId("a")
SEED = 7
PROMPT = "a red ball resting in the fog"
RAW = SegmentSettings(codec="raw", quality=0)


def task(work: ForwardWork | DecodeWork, *, latents: bytes = b"", conditioning: bytes = b"") -> Task:
    order: tuple[Forward, ...] | Decode
    if isinstance(work, DecodeWork):
        order = Decode(work=work, latents=latents)
    else:
        order = (Forward(work=work, latents=latents, conditioning=conditioning),)
    return Task(sequence=DispatchNumber(0), order=order)


def in_order(graph: Graph) -> Iterator[Chain]:
    """The chains of forwards, in an order in which one worker can do a block's."""
    for chain in graph.chains:
        if chain.kind is Kind.DENOISE:
            yield chain
            commits = (other for other in graph.chains if other.kind is Kind.COMMIT)
            yield from (commit for commit in commits if commit.entered_step == chain.step + 1)


def forwards(level: Level, blocks: int) -> Iterator[ForwardWork]:
    """All of a stream of the small model, in an order that the scheduler could give to one worker."""
    info = model_info(level)
    return forwards_of(info.recipe, info.geometry, blocks)


def forwards_of(recipe: Recipe, geometry: Geometry, blocks: int) -> Iterator[ForwardWork]:
    """The same of any model; its lanes take the first pages of their worker."""
    pool = PagePool(recipe.page_count * recipe.lane_count)
    session = Session(
        request=Open(now_s=0.0, session=A, prompt=PROMPT, seed=SEED, pace=Pace.FAST, window=4, picture_limit=None,
                     settings=RAW, cues=()),
        graph=Graph(recipe), geometry=geometry,
        place=Place(lanes=(WorkerId("w"),) * recipe.lane_count,
                    tables=tuple(pool.allocate(recipe.window) for _ in range(recipe.lane_count)),
                    decoder=WorkerId("v"), slot=SlotId(0)),
        flow=Flow(window=4, pace=Pace.FAST),
    )  # fmt: skip
    ability = Ability(capacity=pool.size)
    worker = Worker(WorkerJoined(now_s=0.0, worker=WorkerId("w"), role=Role.DENOISE, ability=ability))
    for block in range(blocks):
        for chain in in_order(session.graph):
            folds = pool.claim(session.place.tables[chain.lane or 0], block)
            yield orders.forward_work(session.graph.op(chain.number, block), session, worker, folds)


def decode(block: int) -> DecodeWork:
    """The decode of a block in slot 0."""
    geometry = model_info().geometry
    return DecodeWork(
        session=A, block=block, slot=SlotId(0), latents=LatentRef(session=A, block=block, step=3),
        first_picture=geometry.first_picture(block), picture_count=geometry.pictures(block), settings=RAW,
    )  # fmt: skip
