"""What one stream and its engine hold in memory, as far as it could grow with the stream's length."""

from __future__ import annotations

import gc
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FunctionType, ModuleType

from cluster.cell.engine import Engine
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import Role, SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a stream and its engine hold."""

    pages: int
    """On the denoise workers."""
    latents: int
    """Entries of the journal."""
    journal_bytes: int
    prompts: int
    """That the session knows, by version."""
    record_objects: int
    """Python objects that only the session's record reaches."""
    resident_mib: float
    """Of this process, what is computed by hand included."""

    def or_more(self, other: Held) -> Held:
        """The larger of each."""
        return Held(**{name: max(value, getattr(other, name)) for name, value in asdict(self).items()})


def held_by(engine: Engine, name: SessionId) -> Held:
    """What the session of this name holds now, and its engine."""
    session = engine.scheduler.inspect(name)
    denoisers = [view for view in engine.scheduler.workers() if view.role is Role.DENOISE]
    return Held(
        pages=sum(view.ability.capacity - view.free for view in denoisers),
        latents=len(engine.journal.latents_of(name)),
        journal_bytes=engine.journal.size_bytes,
        prompts=len(session.prompt_texts()),
        record_objects=_reachable(session),
        resident_mib=_resident_mib(),
    )


_SHARED = (type, ModuleType, FunctionType, Graph, Geometry, Recipe, int)
"""What a session's record shares with others, or is none of its own; of numbers all that are small are shared."""


def _reachable(root: object) -> int:
    """How many objects can be reached from this one."""
    known, left = {id(root)}, [root]
    while left:
        for found in gc.get_referents(left.pop()):
            if id(found) not in known and not isinstance(found, _SHARED):
                known.add(id(found))
                left.append(found)
    return len(known)


def _resident_mib() -> float:
    """Memory of this process in RAM."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)
