"""What a seed stands for: a recipe, a fleet, clients with their habits, and what befalls the workers."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from fractions import Fraction

from benchmarks.by_hand import Model
from benchmarks.courses import begun_with
from longtake.core.flow import Pace
from longtake.core.limits import Limits, MoveRules
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.cues import CueRule
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from tests.simulation.disks import DiskTrouble, Spell
from tests.simulation.faults import (
    DECODER,
    DISK,
    ERRANDS,
    PART,
    RENEWAL,
    SERVER,
    TEXTER,
    Fault,
    Moment,
    Phase,
    Trouble,
)
from tests.simulation.kinds import any_model, may_be_given
from tests.simulation.wishes import Act, Deed, Wish
from workers.simulated.arithmetic import Reach

DOUBLE = 0.2
"""The share of runs with a second fault, soon after the first, or with more."""
DRAINED = 0.04
DRAINED_WITH_DISK = 0.15
"""The share of runs in which the server is told to shut down."""
ERRAND = 0.25
"""The share of runs whose first fault strikes while something else than an op is done, if that comes to pass."""


GIVEN = 0.25
"""The share of streams that begin with what is given, where that can be."""
VARIED = 0.7
"""The share of runs with recipes of every mechanism, of up to three in one cell."""
KEPT = 0.6
"""The share of runs with a journal on disk."""
STRUCK_SERVER = 0.5
"""The share of those whose first fault strikes the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """The workers of a cell."""

    denoisers: int
    decoders: int
    texters: int
    """Text workers; without one decode workers encode prompts."""
    pages: int
    """Of each denoise worker."""
    slots: int
    """Of each decode worker."""
    batch_limit: int
    mixes_kinds: bool
    late_s: float
    """When the last denoise worker joins: lanes move to it then."""
    chain_length: int
    """So many workers each denoise worker is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that happens in one run, but for the times that ops and messages take."""

    seed: int
    models: tuple[Model, ...]
    """By its recipes: the cell's own first."""
    limits: Limits
    fleet: FleetPlan
    image_failures: float
    """The share of orders about images that fail, for want of memory, say."""
    op_failures: float
    """The share of ops that fail."""
    drain_s: float | None
    """When the server is told to shut down, if it is."""
    has_disk: bool
    """Whether there is a journal on disk."""
    spells: tuple[Spell, ...]
    """When the disk is in trouble."""
    backlog: int
    """So many messages are held for a client that comes back."""
    wishes: tuple[Wish, ...]
    faults: tuple[Fault, ...]
    lag: float = 0.0
    """The share of what comes that the engine handles later, with what has come meanwhile."""

    @property
    def model(self) -> Model:
        """By the cell's own recipe."""
        return self.models[0]


def scenario(seed: int) -> Scenario:
    """The scenario of a seed; equal seeds, equal scenarios."""
    made, draw = plain(seed), random.Random(f"recipes {seed}")
    made = varied(made, draw) if draw.random() < VARIED else made
    return replace(made, lag=draw.choice([0.0, 0.0, 0.1, 0.5]))


def plain(seed: int) -> Scenario:
    """The same with one recipe of no mechanism but its level."""
    draw = random.Random(f"scenario {seed}")
    model = _model(draw)
    limits = Limits(
        park_after_s=draw.choice([0.0, 0.0, 0.3, 3.0]),
        detached_s=30.0,
        detached_images_s=draw.choice([0.0, 0.5, 60.0]),
        max_parked=draw.choice([1, 64]),
        max_queued=draw.choice([0, 8, 8]),
        moves=draw.choice([MoveRules(), MoveRules(blocks_left=1, rest_s=0.3, worth=0.01)]),
        fused_passes=draw.random() < 0.3,
        packed=draw.choice([frozenset(), frozenset(Pace)]),
    )
    past = random.Random(f"past {seed}")
    limits = replace(limits, rewind_blocks=past.choice([0, 2, 6, 20]))
    wishes = _rewinding(past, _wishes(draw, model))
    fleet = _fleet(draw, model, limits, len(wishes))
    has_disk = draw.random() < KEPT
    return Scenario(
        seed=seed,
        models=(model,),
        limits=limits,
        fleet=fleet,
        image_failures=draw.choice([0.0, 0.0, 0.0, 0.1]),
        op_failures=draw.choice([0.0, 0.0, 0.0, 0.02]),
        drain_s=draw.uniform(0.5, 3.0) if draw.random() < (DRAINED_WITH_DISK if has_disk else DRAINED) else None,
        has_disk=has_disk,
        spells=_spells(draw) if has_disk else (),
        backlog=draw.choice([1, 4, 128]),
        wishes=wishes,
        faults=_faults(draw, (model,), wishes, has_disk=has_disk),
    )


def varied(made: Scenario, draw: random.Random) -> Scenario:
    """The same with other recipes, of which each stream has one, more cues, and streams that are given a beginning."""
    models = tuple(any_model(draw, made.model) for _ in range(draw.choice([1, 1, 2, 3])))
    wishes: list[Wish] = []
    for wish in made.wishes:
        recipe = draw.randrange(len(models)) if wish.fork_of is None else wishes[wish.fork_of].recipe
        wishes.append(_by(draw, wish, models[recipe], recipe))
    fleet, lanes = made.fleet, max(model.recipe.lane_count for model in models)
    pages = max(model.recipe.page_count + made.limits.spare_pages(model.recipe.blocks) for model in models)
    streams = lanes * (len(wishes) if draw.random() < 0.7 else 1)
    here = draw.choice([1, 1, fleet.denoisers])
    fleet = replace(fleet, pages=-(-streams * here // fleet.denoisers) * pages)
    faults = _faults(draw, models, tuple(wishes), has_disk=made.has_disk)
    policies = [models[wish.recipe].recipe.cues for wish in wishes]
    renewed = [wish for wish, cues in zip(wishes, policies, strict=True) if cues.cut or cues.change is not CueRule.SWAP]
    if renewed and draw.random() < 0.7:
        wish = draw.choice(renewed)
        at = Moment(wish.number, RENEWAL, 0, draw.randrange(8), draw.choice(list(Phase)))
        strikes_server = made.has_disk and draw.random() < STRUCK_SERVER
        model = models[wish.recipe]
        faults = (_server_fault(draw, at, wish) if strikes_server else _fault(draw, at, wish, model), *faults[1:])
    return replace(made, models=models, wishes=tuple(wishes), fleet=fleet, faults=faults)


def _by(draw: random.Random, wish: Wish, model: Model, recipe: int) -> Wish:
    """The same wish by another recipe."""
    limit = model.recipe.block_limit or wish.blocks
    blocks = min(wish.blocks, limit)
    is_fork = wish.fork_of is not None and model.recipe.joint is None
    frames = draw.randint(1, 4) if draw.random() < GIVEN and not is_fork else 0
    given = frames if frames and may_be_given(model, frames, blocks) else 0
    plan = begun_with(model.recipe, given).blocks
    pictures = model.geometry.divided(plan).pictures(blocks - 1)
    does_more = model.recipe.cues.cut or model.recipe.cues.change is not CueRule.SWAP
    more = draw.choice([0, 1, 2]) if does_more else 0
    cues = {*wish.cues, *draw.sample(range(blocks), min(more, blocks))}
    return replace(
        wish,
        recipe=recipe,
        given=given,
        blocks=blocks,
        cut_short=min(wish.cut_short, pictures - 1),
        cues=tuple(sorted(block for block in cues if block < blocks)),
        fork_of=wish.fork_of if is_fork else None,
    )


def _spells(draw: random.Random) -> tuple[Spell, ...]:
    count = draw.choice([0, 0, 0, 1, 2])
    starts = [draw.uniform(0.0, 3.0), draw.uniform(6.0, 9.0)][:count]
    return tuple(
        Spell(begins_s=begins_s, lasts_s=draw.uniform(0.1, 3.0), trouble=draw.choice(list(DiskTrouble)))
        for begins_s in starts
    )


def _model(draw: random.Random) -> Model:
    frames, steps = draw.choice([1, 2, 3]), draw.choice([1, 2, 3, 3, 4, 4])
    sinks = draw.choice([0, 0, 0, 1, frames, frames + 1])
    blocks = BlockPlan(frames=frames)
    recipe = Recipe(
        steps=StepPlan(ladder=tuple(1000 - 1000 * step // steps for step in range(steps)), shift=5.0),
        blocks=blocks,
        context=Context(
            level=draw.choice([Level.OUTPUT, Level.OUTPUT, Level.CLEAN, Level.INPUT]),
            window_frames=frames + sinks + draw.choice([1, frames, 2 * frames]),
            sink_frames=sinks,
        ),
    )
    # The smallest there is: latents are only names.
    geometry = Geometry(width=16, height=16, fps=Fraction(16), latent_channels=1, blocks=blocks)
    return Model(
        recipe=recipe, geometry=geometry, reach=Reach(layers=draw.choice([1, 2, 3]), latents=draw.randint(1, 7))
    )


def _fleet(draw: random.Random, model: Model, limits: Limits, streams: int) -> FleetPlan:
    recipe, denoisers = model.recipe, draw.choice([1, 2, 2, 3, 4])
    lane_pages = recipe.page_count + limits.spare_pages(recipe.blocks)
    lanes = recipe.lane_count * (streams if draw.random() < 0.7 else 1)
    here = draw.choice([1, 1, denoisers])  # whether the others have room for what is lost
    batch_limit = draw.choice([1, 2, 4])
    return FleetPlan(
        denoisers=denoisers,
        decoders=draw.choice([1, 1, 2]),
        texters=draw.choice([0, 0, 1]),
        pages=-(-lanes * here // denoisers) * lane_pages,
        slots=streams if draw.random() < 0.7 else 1,
        batch_limit=batch_limit,
        mixes_kinds=batch_limit > 1 and draw.random() < 0.5,
        late_s=draw.choice([0.0, 0.0, draw.uniform(0.3, 1.5)]),
        chain_length=draw.choice([1, 1, 1, 2]),
    )


def _wishes(draw: random.Random, model: Model) -> tuple[Wish, ...]:
    first = tuple(_wish(draw, model, number) for number in range(draw.choice([1, 2, 2, 3])))
    if draw.random() >= 0.3:
        return first
    fork = _wish(draw, model, len(first), fork_of=draw.randrange(len(first)))
    return (*first, fork)


def _rewinding(draw: random.Random, wishes: tuple[Wish, ...]) -> tuple[Wish, ...]:
    """The same, of which most that fork do so at a block of the past."""
    *others, fork = wishes
    if fork.fork_of is None or draw.random() < 0.3:
        return wishes
    after, back = draw.randrange(1, wishes[fork.fork_of].blocks), draw.choice([1, 1, 2, 4, 8])
    return (*others, replace(fork, fork_after=after, fork_back=back, blocks=max(fork.blocks, after + 2)))


def _wish(draw: random.Random, model: Model, number: int, fork_of: int | None = None) -> Wish:
    reach = model.recipe.history_blocks * model.reach.layers
    blocks = draw.randint(2, 8) + draw.choice([0, reach, 2 * reach]) + 3 * (fork_of is not None)
    deeds = draw.choices(list(Deed), weights=[6, 5, 5, 1, 1, 4], k=draw.choice([0, 1, 2, 3]))
    acts = [
        Act(after=draw.randrange(1, blocks), deed=deed, lasts_s=draw.choice([0.3, 1.0, 4.0]),
            ahead=draw.choice([None, None, 0, 1, 2, 5]))
        for deed in deeds
    ]  # fmt: skip
    pictures = model.geometry.pictures(blocks - 1)
    return Wish(
        number=number,
        begins_s=draw.choice([0.1, draw.uniform(0.1, 1.0)]),
        pace=draw.choice([Pace.FAST, Pace.FAST, Pace.REALTIME]),
        window=draw.choice([1, 2, 4, 8]),
        blocks=blocks,
        cut_short=draw.choice([0, draw.randrange(pictures)]),
        ack_s=draw.choice([0.0, 0.02, 0.3]),
        cues=tuple(draw.sample(range(blocks), draw.choice([0, 0, 1, 2]))),
        acts=tuple(sorted(acts, key=lambda act: act.after)),
        fork_of=fork_of,
        fork_after=draw.randrange(1, 4) if fork_of is not None else 0,
    )


def _faults(
    draw: random.Random, models: tuple[Model, ...], wishes: tuple[Wish, ...], *, has_disk: bool
) -> tuple[Fault, ...]:
    wish, phase = draw.choice(wishes), draw.choice(list(Phase))
    strikes_server = has_disk and draw.random() < STRUCK_SERVER
    if strikes_server and draw.random() < 0.5:
        first = Moment(wish.number, draw.choice(DISK), 0, draw.randrange(4), draw.choice([Phase.BEFORE, Phase.AFTER]))
    elif draw.random() < ERRAND:
        first = Moment(wish.number, draw.choice(ERRANDS), 0, 0, phase)
        if wish.given and draw.random() < 0.5:
            first = Moment(wish.number, PART, 0, draw.randrange(wish.given), phase)
    else:
        chain = draw.choice(Graph(models[wish.recipe].recipe).chains)
        block = draw.randrange(wish.blocks - 1)  # no commit of the last one is wanted
        first = Moment(wish.number, chain.kind.value, chain.step, block, phase)
    faults = [_server_fault(draw, first, wish) if strikes_server else _fault(draw, first, wish, models[wish.recipe])]
    if draw.random() < DOUBLE:
        later = [draw.choice([draw.randint(1, 8), draw.randint(1, 100)]) for _ in range(draw.choice([1, 1, 1, 2, 4]))]
        for moments in later:
            again = has_disk and draw.random() < STRUCK_SERVER
            wish = draw.choice(wishes)
            faults.append(
                _server_fault(draw, moments, wish) if again else _fault(draw, moments, wish, models[wish.recipe])
            )
    return tuple(faults)


def _server_fault(draw: random.Random, at: Moment | int, wish: Wish) -> Fault:
    trouble = draw.choice([Trouble.DIES, Trouble.POWER, Trouble.POWER])
    return Fault(at=at, client=wish.number, victim=SERVER, trouble=trouble, lasts_s=draw.uniform(0.05, 2.0))


def _fault(draw: random.Random, at: Moment | int, wish: Wish, model: Model) -> Fault:
    trouble = draw.choices([Trouble.DIES, Trouble.STOPS, Trouble.STALLS], weights=[7, 2, 2])[0]
    short, long = (0.05, 2.0) if trouble is Trouble.DIES else (0.5, 4.0), (2.0, 8.0)
    victim = TEXTER if draw.random() < 0.04 else draw.randrange(DECODER, model.recipe.lane_count)
    lasts_s = draw.uniform(*draw.choice([short, long]))
    return Fault(at=at, client=wish.number, victim=victim, trouble=trouble, lasts_s=lasts_s)
