"""What all parts of the core share: one record, and next to no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from longtake.core.fleet.limit import CellLimit, cell_limit
from longtake.core.fleet.load_limit import LoadLimit
from longtake.core.fleet.peers import Fleet
from longtake.core.fleet.ready import Urgency
from longtake.core.fleet.texts import Texts
from longtake.core.fleet.worker import Worker, WorkerView
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.given import graph_with
from longtake.core.recipe.graph import Graph
from longtake.core.sessions.session import Session
from longtake.core.work import ImageId, SessionId, Ticket, WorkerId

UrgencyRule = Callable[["Cell", Ticket], Urgency]
"""How urgent an op is now."""


LoadRule = Callable[["Cell", Session, int, float], int]
"""Under which load a block of a session is begun now."""


@dataclass(slots=True, kw_only=True)
class Cell:
    """One cell: what it serves, what it allows, who is in it and who works for it."""

    graphs: dict[str, Graph]
    """The recipes that a session may ask for, by name; the empty name is the default."""
    geometry: Geometry
    limits: Limits
    fleet: Fleet
    texts: Texts
    images: Iterator[ImageId]
    """The numbers for images; each is used once."""
    sessions: dict[SessionId, Session] = field(default_factory=dict)
    workers: dict[WorkerId, Worker] = field(default_factory=dict)
    urgency: UrgencyRule
    """Which of the ready ops of a worker goes first."""
    load_rule: LoadRule
    """How many steps a block takes that begins, of the lists that its recipe has."""
    encoding: dict[WorkerId, None] = field(default_factory=dict)
    """The workers that may have clips to encode."""
    journal_bytes: int = 0
    """What the sessions that were let in may need of the journal, together."""
    _with_given: dict[tuple[Graph, int], Graph] = field(default_factory=dict)
    load_limit: LoadLimit = field(init=False)
    """The share of a worker's time that new REALTIME sessions may reserve now; those that were let in once return to
    what `limits` say."""

    def __post_init__(self) -> None:
        self.load_limit = LoadLimit(self.limits.load_limit)

    def view(self, worker: Worker) -> WorkerView:
        """The public face of a worker."""
        return worker.view(self.texts.held_by(worker.id), reserved=self.fleet.reserved(worker))

    def reserved(self, worker: str) -> float:
        """The share of its time that is reserved of a worker of this name; 0 if there is none."""
        found = self.workers.get(WorkerId(worker))
        return 0.0 if found is None else self.fleet.reserved(found)

    @property
    def limit(self) -> CellLimit:
        """What the workers that are joined can do at most, for streams of the default recipe."""
        return cell_limit(self.graphs[""], self.workers.values())

    def serve(self, name: str, graph: Graph) -> None:
        """Sessions may ask by this name; for what they ask is what is served already, if that is the same recipe."""
        known = (each for each in self.graphs.values() if each.recipe == graph.recipe)
        graph = self.graphs[name] = next(known, graph)
        self.fleet.serve(graph)

    def graph_with(self, graph: Graph, given_frames: int) -> Graph:
        """The graph of a stream by the same recipe of which so many latent frames are given; see recipe/given.py."""
        key = graph, given_frames
        if given_frames and key not in self._with_given:
            self._with_given[key] = graph_with(graph, given_frames)
        return self._with_given[key] if given_frames else graph

    def encode(self, session: Session) -> None:
        """Have the worker of its slot encode what a session was given; nothing if that is done, or there is nothing."""
        if session.is_to_encode:
            self.workers[session.place.decoder].clips.put(session)
            self.encoding[session.place.decoder] = None

    def speak_for(self, session: Session) -> None:
        """Count what a session that is let in may need of the journal."""
        session.journal_bytes = self.fleet.journal_bytes(session)
        self.journal_bytes += session.journal_bytes
