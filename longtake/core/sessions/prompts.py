"""The prompts of a session: from which block on each of them holds, and where their encoded texts are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from longtake.core.events import CueRequest
from longtake.core.recipe.cues import CueChange, CueEffect
from longtake.core.work import CueId, WorkerId

REMEMBERED = 64
"""So many cues that have, or had, a block are known by their ids, for clients that ask again because an answer was
lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A cue that has its block: from `block` on the stream is conditioned on `version`."""

    block: int
    version: int
    cue: CueId | None
    """The id of the cue; None for the prompt that the stream was opened with."""
    prompt: str = ""
    """The text of the cue; empty for the prompt that the stream was opened with."""
    change: CueEffect = CueChange.SWAP
    """What becomes of what the stream remembers."""


def recaches(turns: Iterable[Turn]) -> list[Turn]:
    """Those among these turns that recache something."""
    return [turn for turn in turns if turn.change is CueChange.RECACHE and turn.block]


@dataclass(slots=True)
class Prompts:
    """The prompts of a session: those that wait for a text, the turns that have a block, and who holds which text."""

    turns: list[Turn] = field(default_factory=lambda: [Turn(block=0, version=0, cue=None)])
    waiting: dict[int, CueRequest] = field(default_factory=dict)
    """The cues that wait for a text, by conditioning version."""
    next_version: int = 1
    encoded: set[int] = field(default_factory=set)
    """Versions whose text is encoded."""
    held: set[tuple[WorkerId, int]] = field(default_factory=set)
    """The versions that each worker holds."""
    answered: dict[CueId, Turn] = field(default_factory=dict)
    """The cues that got a block last, whatever became of them."""
    known_from: int = 0
    """The prompts of all blocks from this one on are known; of those before, only what sinks need is."""

    def ask(self, request: CueRequest) -> int:
        """Note a cue whose text is being encoded; returns its conditioning version."""
        version = self.next_version
        self.next_version += 1
        self.waiting[version] = request
        return version

    def take(self, version: int, *, block: int) -> Turn | None:
        """Give the waiting cue its block; returns the turn that it supersedes, if there is one."""
        request = self.waiting.pop(version)
        earlier = next((turn for turn in self.turns if turn.block == block), None)
        if earlier is not None:
            self.turns.remove(earlier)
        change = request.change or CueChange.SWAP
        turn = Turn(block=block, version=version, cue=request.cue, prompt=request.prompt, change=change)
        self.turns.append(turn)
        self.turns.sort(key=lambda turn: turn.block)
        self.answered.pop(request.cue, None)
        self.answered[request.cue] = turn
        if len(self.answered) > REMEMBERED:
            del self.answered[next(iter(self.answered))]
        return earlier

    def is_waiting(self, request: CueRequest) -> bool:
        """Whether this cue, by id and prompt, waits for a text."""
        return any((known.cue, known.prompt) == (request.cue, request.prompt) for known in self.waiting.values())

    def answer_to(self, request: CueRequest) -> Turn | None:
        """What this cue, by id and prompt, was given; None if it is new, or was long ago."""
        turn = self.answered.get(request.cue)
        return turn if turn is not None and turn.prompt == request.prompt else None

    def turn_at(self, block: int) -> Turn:
        """The turn that `block` is conditioned on."""
        if len(self.turns) == 1:  # nearly always, and asked for with every op
            return self.turns[0]
        return max((turn for turn in self.turns if turn.block <= block), key=lambda turn: turn.block)

    def shown_at(self, block: int) -> Turn:
        """The same for a block that may be long past: then the oldest that is known."""
        return self.turn_at(max(block, self.turns[0].block))

    def forget_before(self, block: int, *, sinks: int = 0, keep: Collection[Turn] = ()) -> tuple[int, ...]:
        """Drop turns that neither `block`, nor a later one, nor one of the first `sinks` reads; their versions.

        Those in `keep` stay: what they have made is still read.
        """
        gone = [turn for turn in self._past(block) if turn.block >= sinks and turn not in keep]
        for turn in gone:
            self.turns.remove(turn)
            self.encoded.discard(turn.version)
        if gone:
            self.known_from = max(self.known_from, self.turn_at(block).block)
        return tuple(turn.version for turn in gone)

    def inherit(self, parent: Prompts, texts: Mapping[int, str], before: int) -> list[tuple[int, int]]:
        """Take over the turns of another stream, of which this one has everything `before` a block.

        `texts` are its prompts, by version. Returns their versions there, each with the one that it has here; what is
        encoded there is here.
        """
        current = self.turn_at(before)
        own = [replace(turn, block=max(turn.block, before)) for turn in self.turns if turn.block >= current.block]
        versions, inherited = [], []
        for turn in parent.turns:
            if turn.block < before:
                version, self.next_version = self.next_version, self.next_version + 1
                versions.append((turn.version, version))
                inherited.append(replace(turn, version=version, cue=None, prompt=texts[turn.version]))
                if turn.version in parent.encoded:
                    self.encoded.add(version)
        self.turns = [*inherited, *own]
        return versions

    def unread_before(self, block: int) -> list[tuple[WorkerId, int]]:
        """The workers that hold a version which neither `block` nor a later one reads, each with that version.

        Nobody holds them any more afterwards.
        """
        past = {turn.version for turn in self._past(block)}
        stale = sorted((worker, version) for worker, version in self.held if version in past)
        self.held.difference_update(stale)
        return stale

    def _past(self, block: int) -> list[Turn]:
        """Those that neither the block nor a later one reads.

        None if that of the block was dropped: it may be, where the block is committed anew with a later prompt.
        """
        begun = [turn.block for turn in self.turns if turn.block <= block]
        return [turn for turn in self.turns if begun and turn.block < max(begun)]

    def send_to(self, worker: WorkerId, version: int) -> bool:
        """Note that an op of this version goes to `worker`; returns whether the text must go along."""
        if (worker, version) in self.held:
            return False
        self.held.add((worker, version))
        return True

    def drop_worker(self, worker: WorkerId) -> None:
        """Note that this worker holds nothing of the session any more."""
        self.held = {(holder, version) for holder, version in self.held if holder != worker}

    def drop_all(self) -> None:
        """Note that nobody holds any text: all are to be encoded anew."""
        self.encoded.clear()
        self.held.clear()

    @property
    def are_known(self) -> bool:
        """Whether the text of every turn is encoded."""
        return {turn.version for turn in self.turns} <= self.encoded

    def pending_count(self, block: int) -> int:
        """Cues that are not in effect yet in `block`, the oldest that is not done."""
        return len(self.waiting) + sum(turn.block > block for turn in self.turns)
