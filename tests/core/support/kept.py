"""The journal of a cell without devices: latents for as long as the scheduler says, and whose texts a fork has."""

from __future__ import annotations

from dataclasses import dataclass, field

from longtake.core.effects import DropJournal, Inherit, Trim
from longtake.core.parts import EncodePictures
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Op
from longtake.core.work import ConditioningRef, DecodeWork, ForwardWork, LatentRef, SessionId
from tests.core.support.contents import SMALLEST
from tests.core.support.parts import op_of
from workers.messages import EncodeGiven
from workers.simulated.arithmetic import latents_of, mix, numbers


@dataclass
class Kept:
    """What something may still be computed from."""

    latents: dict[tuple[SessionId, int, int], bytes] = field(default_factory=dict)
    """(session, block, step): outputs of denoise ops."""
    made: dict[tuple[SessionId, Op, int], bytes] = field(default_factory=dict)
    """What each op has ever put out, by the conditioning version that it read."""
    inherited: dict[ConditioningRef, ConditioningRef] = field(default_factory=dict)
    """Whose conditioning a fork has taken over under a version of its own."""

    def features(self, ref: ConditioningRef) -> bytes:
        """What stands for an encoded prompt."""
        return repr(self.inherited.get(ref, ref)).encode()

    def latents_of(self, ref: LatentRef, work: ForwardWork | DecodeWork) -> bytes:
        """What an op starts from: it must have arrived and not been given up."""
        key = (ref.session, ref.block, ref.step)
        assert key in self.latents, f"{op_of(work)} starts from latents that are missing"
        return self.latents[key]

    def put(self, work: ForwardWork, latents: bytes) -> None:
        """Keep what an op has put out; each time it is done it must be the same."""
        made = (work.session, op_of(work), work.conditioning.version)
        assert self.made.setdefault(made, latents) == latents, f"{made} has put out something else than before"
        self.latents[work.session, work.block, work.enters] = latents

    def given(self, order: EncodePictures, graph: Graph) -> EncodeGiven:
        """The order with pictures. Keep what the given blocks of its session, and its reference, are encoded to."""
        session = order.session
        assert graph.given_blocks or graph.window.references, f"nothing was given of {session}"
        if count := graph.window.references:
            made = SMALLEST.divided(BlockPlan(frames=count))
            self.latents[session, 0, graph.step_count + 1] = latents_of(mix(b"reference", session.encode()), made)
        for block in range(graph.given_blocks):
            made = SMALLEST.divided(BlockPlan(frames=graph.blocks.made(block)))
            name = mix(b"given", session.encode(), numbers(block))
            self.latents[session, block, graph.step_count] = latents_of(name, made)
        return EncodeGiven(order=order, pictures=tuple(b"%d" % number for number in order.pictures))

    def keep_less(self, effect: Trim | Inherit | DropJournal) -> None:
        """Drop what nothing is computed from any more, and share what a fork may be rebuilt from."""
        match effect:
            case Trim():
                floors = dict(enumerate(effect.floors, start=1))
                for session, block, step in list(self.latents):
                    is_held = block < effect.sinks or any(start <= block < end for start, end in effect.held)
                    if session == effect.session and block < floors.get(step, 0) and not is_held:
                        del self.latents[session, block, step]
            case Inherit():
                for (session, block, step), latents in list(self.latents.items()):
                    if session == effect.parent and block < effect.before:
                        self.latents[effect.session, block, step] = latents
                for theirs, own in effect.versions:
                    ref = ConditioningRef(session=effect.parent, version=theirs)
                    self.inherited[ConditioningRef(session=effect.session, version=own)] = self.inherited.get(ref, ref)
            case DropJournal():
                for session, block, step in list(self.latents):
                    if session == effect.session:
                        del self.latents[session, block, step]
