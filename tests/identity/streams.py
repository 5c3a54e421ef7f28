"""The streams of the identity matrix: their recipes, prompts and beginnings, and what every layout must leave of them.

A stream has cues: one before its window is full, two at once (the later one counts) and one right behind, one that says
that it only swaps the prompt, and one near the end. By a recipe whose cues recache, the others do; by one whose cues
may cut they make a story that goes back to a shot just left, and to one of long ago. A fork goes on with the prompt
that the stream began with, and with cues of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.by_hand import KnownHashes
from benchmarks.by_hand import Model as HashedModel
from benchmarks.simulated_streams import prompt_of
from longtake.core.errors import LongtakeError
from longtake.core.events import CueRequest
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.cues import SWAPPING, Back, CueChange, CueEffect, CuePolicy, CueRule
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.given import graph_with
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.positions import Cyclic, Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import CueId
from longtake.recipes import shipped
from tests.core.support.recipes import altered
from tests.workers.oracle_courses import KnownTensors, Network, texts_of
from workers.denoise.noise import normal
from workers.denoise.worker import tensor_to_bytes
from workers.messages import EncodeGiven
from workers.models import weights
from workers.models.api import Compute
from workers.models.text import load_text_encoder
from workers.models.wan.dit import WanModel
from workers.models.weights import ModelInfo
from workers.simulated.arithmetic import REACH

PROMPTS = ("a red ball circling in the fog", "a blue box swaying at night", "a green ring bobbing at dusk")
SIMULATED = "simulated:0ms"
FORK_BY = 4
"""A fork's first block comes before this one, its first cue not."""
ENDS = 3
"""So many blocks before the end comes the last cue of a long stream."""
LONG = 10
"""A stream of so many blocks is long."""
GIVEN = (2, 3, 4, 1)
"""Latent frames that may be given; the first number that a recipe allows is."""
LISTED = Positions(stream=Numbering.LISTED, shot_offset=2)
MOST_BLOCKS = 1000
"""Of streams by a recipe that remembers all of them."""


@cache
def altered_recipes() -> dict[str, Recipe]:
    """Recipes of which none ships: other ways to recache and to cut, at every level and with every kind of places."""
    made = {name: each.recipe for name, each in shipped().items()}
    window = CuePolicy(change=CueRule.WINDOW)
    return {
        "longlive-moved": altered(made["longlive"], keep_sinks=False),
        "longlive-window": altered(made["longlive"], change=CueRule.WINDOW),
        "hiar-recached": replace(made["hiar"], cues=window),
        "input-recached": replace(made["input"], cues=window),
        "clean-full": replace(made["clean"], cues=CuePolicy(change=CueRule.FULL), block_limit=MOST_BLOCKS),
        "infinite-recached": replace(made["longlive-infinite"], cues=made["longlive"].cues),
        "ca2-vdm-recached": replace(made["ca2-vdm"], cues=window),
        "clean-slope": altered(made["clean"], slope=0.1),
        "hiar-slope": altered(made["hiar"], slope=0.25),
        "infinite-slope": altered(made["longlive-infinite"], slope=0.1),
        "hybrid-cyclic": replace(made["hiar-hybrid"], positions=Positions(stream=Cyclic(cyclic=9))),
        "hiar-cut": cut(made["hiar"], shots=3, positions=Positions(shot_offset=8)),
        "input-cut": cut(made["input"], shots=6, positions=Positions()),
        "longlive-2-listed": cut(
            altered(made["longlive-2"], window_frames=15, sink_frames=3), shots=3, positions=LISTED
        ),
    }


def cut(recipe: Recipe, *, shots: int, positions: Positions) -> Recipe:
    """A recipe by which cues may cut, with so many frames of earlier shots and these places."""
    context = replace(recipe.context, shot_frames=shots)
    return replace(recipe, context=context, positions=positions, cues=CuePolicy(cut=True))


@cache
def recipes() -> dict[str, Recipe]:
    """Those that ship, and altered ones."""
    return {name: each.recipe for name, each in shipped().items()} | altered_recipes()


def served_info(model: Path, recipe: str) -> ModelInfo:
    """A model as if it were its own recipe."""
    info = weights.load_info(model)
    if not recipe:
        return info
    made = recipes()[recipe]
    return replace(info, recipe=made, geometry=info.geometry.divided(made.blocks))


def given_frames(recipe: Recipe) -> int:
    """So many latent frames are given of streams by a recipe that begin so; 0 if none can be."""
    for frames in GIVEN:
        try:
            graph_with(Graph(recipe), frames)
        except LongtakeError:
            continue
        return frames
    return 0


def given_blocks(recipe: Recipe) -> int:
    """How many blocks these are."""
    frames = given_frames(recipe)
    return graph_with(Graph(recipe), frames).given_blocks if frames else 0


def given_latents(geometry: Geometry, seed: int, frames: int) -> Tensor:
    """What a stream begins with [F, C, H, W]; no other one does."""
    return normal(1000 + seed, 0, 0, geometry.divided(BlockPlan(frames=frames)).block_shape)


def reference_latents(geometry: Geometry, seed: int, frames: int) -> Tensor:
    """What a stream looks at [F, C, H, W]; no other one does."""
    return normal(2000 + seed, 0, 0, geometry.divided(BlockPlan(frames=frames)).block_shape)


def encoded(info: ModelInfo, message: EncodeGiven) -> bytes:
    """The latent frame of a part of what a stream begins with, or looks at; its seed stands for each picture."""
    order, seed = message.order, int(message.pictures[0])
    if order.is_reference:
        images = reference_latents(info.geometry, seed, info.recipe.context.reference_frames)
        return tensor_to_bytes(images[order.pictures.start][None])
    return tensor_to_bytes(given_latents(info.geometry, seed, given_frames(info.recipe))[order.part][None])


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A cue."""

    block: int
    prompt: str
    change: CueEffect | None = None


STORY: tuple[CueEffect, ...] = (CueChange.CUT, CueChange.CUT, Back(0), CueChange.CUT, CueChange.SWAP, Back(1))
"""What the cues of a stream do by a recipe that can cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one stream is asked for."""

    seed: int
    blocks: int
    given_blocks: int = 0
    is_fork: bool = False
    policy: CuePolicy = SWAPPING
    """That of its recipe."""

    @property
    def prompt(self) -> str:
        """The first one."""
        return PROMPTS[self.seed % len(PROMPTS)]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Its cues; of two for one block the later counts. What is given cannot change any more."""
        blocks = [max(1, self.given_blocks), FORK_BY, FORK_BY, FORK_BY + 1, FORK_BY + 3]
        blocks += [self.blocks - ENDS] if self.blocks >= LONG else []
        plain = [CueChange.SWAP if block == FORK_BY + 3 else None for block in blocks]
        changes = STORY if self.policy.cut else plain
        made = [
            Turn(block=block, prompt=PROMPTS[(self.seed + number + self.is_fork) % len(PROMPTS)], change=change)
            for number, (block, change) in enumerate(zip(blocks, changes, strict=False), start=1)
        ]
        return tuple(turn for turn in made if turn.block < self.blocks and not (self.is_fork and turn.block < FORK_BY))

    @property
    def cues(self) -> tuple[CueRequest, ...]:
        """The same as they are asked for."""
        return tuple(
            CueRequest(cue=CueId(f"c{number}"), prompt=turn.prompt, block=turn.block, change=turn.change)
            for number, turn in enumerate(self.turns)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A whole stream: its prompts, by the blocks that they apply from, and what its cues do beside."""

    seed: int
    prompts: dict[int, str]
    changes: dict[int, CueEffect]

    @staticmethod
    def of(asked: Asked, *, fork: int | None = None) -> Course:
        """That of a stream, or of its fork at a block."""
        turns = [Turn(block=0, prompt=asked.prompt, change=CueChange.SWAP), *asked.turns]
        if fork is not None:
            own = replace(asked, is_fork=True)
            begins = Turn(block=fork, prompt=own.prompt, change=CueChange.SWAP)
            turns = [*(turn for turn in turns if turn.block < fork), begins, *own.turns]
        last = {turn.block: turn for turn in turns}
        prompts = {block: turn.prompt for block, turn in last.items()}
        changes = {block: asked.policy.of(turn.change) for block, turn in last.items()}
        return Course(seed=asked.seed, prompts=prompts, changes=changes)


@dataclass
class Right:
    """What every layout must leave of the streams of a recipe; each is computed once."""

    model: Path
    device: str
    recipe: str
    blocks: int
    """Of each stream."""
    _known: dict[tuple[int, bool, int | None], list[str]] = field(default_factory=dict)

    def of(self, seed: int, *, given: bool = False, fork: int | None = None) -> list[str]:
        """SHA-256 of the x0 of every block of a stream; of its fork at a block, from that block on."""
        key = seed, given, fork
        if key not in self._known:
            asked = self.asked(seed, given=given)
            course = Course.of(asked, fork=fork)
            found = islice(
                self._hashed(course, given) if self._is_hashed else self._computed(course, given), self.blocks
            )
            self._known[key] = [sha256(latents).hexdigest() for latents in found][fork or 0 :]
        return self._known[key]

    def asked(self, seed: int, *, given: bool = False, is_fork: bool = False) -> Asked:
        """What a stream is asked for."""
        recipe = self.info.recipe
        blocks = given_blocks(recipe) if given else 0
        return Asked(seed=seed, blocks=self.blocks, given_blocks=blocks, is_fork=is_fork, policy=recipe.cues)

    @cached_property
    def info(self) -> ModelInfo:
        """The model, served by the recipe."""
        return served_info(self.model, self.recipe)

    @property
    def _is_hashed(self) -> bool:
        return self.device == SIMULATED

    def _beginning(self, course: Course, given: bool) -> Tensor | None:
        return given_latents(self.info.geometry, course.seed, given_frames(self.info.recipe)) if given else None

    def _image(self, course: Course) -> Tensor | None:
        frames = self.info.recipe.context.reference_frames
        return reference_latents(self.info.geometry, course.seed, frames) if frames else None

    def _hashed(self, course: Course, given: bool) -> Iterator[bytes]:
        made = HashedModel(recipe=self.info.recipe, geometry=self.info.geometry, reach=REACH)
        beginning, image = self._beginning(course, given), self._image(course)
        known = KnownHashes(
            number=course.seed,
            texts={block: prompt_of(self.info, prompt) for block, prompt in course.prompts.items()},
            changes=course.changes,
            blocks=self.blocks,
            beginning=b"" if beginning is None else tensor_to_bytes(beginning),
            reference=b"" if image is None else tensor_to_bytes(image),
            frame_bytes=self.info.geometry.divided(BlockPlan(frames=1)).latent_bytes,
        )
        return made.latents(known)

    def _computed(self, course: Course, given: bool) -> Iterator[bytes]:
        features = {block: self._text(prompt) for block, prompt in course.prompts.items()}
        known = KnownTensors(
            number=course.seed,
            texts=texts_of(self._network.model, features),
            changes=course.changes,
            blocks=self.blocks,
            beginning=self._beginning(course, given),
            image=self._image(course),
        )
        latents = self._network.latents(self.info.recipe, known)
        return (tensor_to_bytes(block_BFCHW[0]) for block_BFCHW in latents)

    @cached_property
    def _network(self) -> Network:
        torch.set_num_threads(1)
        denoiser = weights.load_denoiser(self.model, self.info, Compute())
        assert isinstance(denoiser, WanModel)
        return Network.of(denoiser, self.info.geometry, self.info.recipe)

    def _text(self, prompt: str) -> Tensor:
        return load_text_encoder(self.model, self.info, Compute()).encode(prompt).features_TC
