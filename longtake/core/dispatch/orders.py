"""Orders: an op, written out as everything that a worker needs to execute it."""

from __future__ import annotations

from longtake.core.fleet.worker import Worker
from longtake.core.recipe.ops import Chain, Kind, Op, Returns
from longtake.core.recipe.positions import Bias
from longtake.core.recipe.references import told
from longtake.core.sessions import scenes
from longtake.core.sessions.session import Session
from longtake.core.work import (
    DecodeWork,
    FoldWork,
    ForwardWork,
    FromLane,
    FromLatent,
    FromNoise,
    LatentRef,
    NoiseKey,
    Pages,
)


def decode_work(op: Op, session: Session) -> DecodeWork:
    """Everything a worker needs to execute a decode; one whose segment the client has makes no pictures."""
    block, blocks = op.block, session.graph.blocks
    shown = session.shown_next(block)
    later_frames = blocks.own(shown).start - blocks.own(block).stop if shown > block else 0
    return DecodeWork(
        session=session.id,
        block=block,
        slot=session.place.slot,
        latents=LatentRef(session=session.id, block=block, step=session.graph.step_count),
        first_picture=session.geometry.first_picture(block),
        picture_count=0 if shown > block else session.picture_count(block),
        settings=session.request.settings,
        later_frames=later_frames,
    )


def forward_work(op: Op, session: Session, worker: Worker, folds: tuple[FoldWork, ...] = ()) -> ForwardWork:
    """Everything `worker` needs to execute a denoise op or a commit; its pages are claimed: `folds` came of it."""
    graph, block = session.graph, op.block
    chain = graph.chain_of(op)
    lane = chain.lane or 0
    seen = session.next_block - 1 if chain.reads_later else block
    table, steps = session.place.tables[lane], session.steps(block)
    renewal = session.renewal(op)
    frames = () if renewal is None else renewal.reads(block)
    if renewal is None:
        places = scenes.places(session, block, table.window_at(block))
    else:
        places = graph.recipe.positions.of(renewal.window, block, frames)
    pages = Pages(reads=table.reads(seen), writes=table.writes(block)) if renewal is None else table.of(frames, block)
    turns, stands = places.read, places.seen
    if renewal is None:  # else all that is committed anew reads is there
        turns, stands = table.read_of(turns, block), table.read_of(stands, block)
    return ForwardWork(
        session=session.id,
        lane=lane,
        op=op,
        pages=pages,
        times=steps.times[chain.number].over(len(graph.window.own(block))),
        positions=places.queries,
        key_positions=places.keys,
        read_turns=turns,
        bias=Bias(graph.recipe.positions.slope, stands),
        noise=NoiseKey(seed=session.seed_at(block), block=told(block)),
        conditioning=session.conditioning(op),
        input=_input(session, chain, block, worker),
        returns=_returns(session, chain, block, worker),
        enters=steps.enters[op.step] if op.kind is Kind.DENOISE else 0,
        folds=folds,
    )


def _input(session: Session, chain: Chain, block: int, worker: Worker) -> FromLane | FromLatent | FromNoise:
    progress = session.progress
    is_kept = worker.keeps_input(chain) and not progress.takes_journalled(chain, block)
    if is_kept and not progress.is_replay(chain.number, block):  # the lane keeps the output of its newest block
        return _FROM_LANE
    if not chain.entered_step:
        return _FROM_NOISE
    return FromLatent(LatentRef(session=session.id, block=told(block), step=chain.entered_step))


def _returns(session: Session, chain: Chain, block: int, worker: Worker) -> Returns:
    """What becomes of the output: a chain of workers keeps none, and no lane keeps what no commit will start from."""
    steps = session.steps(block)
    returns = steps.returns[chain.number]
    if returns is Returns.NOTHING or session.progress.is_replay(chain.number, block):
        return Returns.NOTHING
    if worker.chain_length > 1:
        return Returns.SENT
    readers = session.graph.readers(steps.enters[chain.step])
    if returns is Returns.SENT_AND_KEPT and readers is not None and readers.commit is not None:
        return returns if session.progress.wants(readers.commit, block) else Returns.SENT
    return returns


_FROM_LANE, _FROM_NOISE = FromLane(), FromNoise()
