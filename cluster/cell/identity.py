"""What a server serves, and so what it can go on with; and what of a session must outlive the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cluster.cell.ownership import Ownership
from cluster.journal.facts import ForkRecord, SessionRecord
from longtake.core.errors import InvalidField
from longtake.core.sessions.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a server serves: a session that was made by anything else cannot go on with it."""

    model_digest: str
    recipe_digest: str
    """Of the recipe of streams that name none."""
    recipes: Mapping[str, str] = field(default_factory=dict)
    """The digests of the recipes that streams can name, by name."""

    def here(self, record: SessionRecord) -> SessionRecord:
        """The record by the names of this server; InvalidField if its session cannot go on here.

        A recipe is the same by its digest, whatever it is called where the session comes from.
        """
        if record.model_digest != self.model_digest:
            raise InvalidField(
                "record.model_digest", record.model_digest, f"{self.model_digest}, the model served here"
            )
        if self.recipes.get(record.recipe) == record.recipe_digest:
            return record
        if record.recipe_digest == self.recipe_digest:
            return replace(record, recipe="")
        called = (name for name, digest in self.recipes.items() if digest == record.recipe_digest)
        name = next(called, None)
        if name is None:
            names = ", ".join(f"{name} ({digest[:12]})" for name, digest in self.recipes.items())
            said = f"{record.recipe} ({record.recipe_digest})" if record.recipe else record.recipe_digest
            allowed = f"the recipes of this server: {names}" if names else f"{self.recipe_digest}, that of this server"
            raise InvalidField("record.recipe_digest", said, allowed)
        return replace(record, recipe=name)

    def record(self, session: Session, owned: Ownership) -> SessionRecord:
        """What must outlive the server of a session."""
        request, kin, fork = session.request, session.kin, None
        if request.fork is not None:
            fork = ForkRecord(parent=request.fork.session, block=kin.first_block)
        return SessionRecord(
            session=session.id,
            tenant=owned.tenant,
            tokens_sha256=tuple(token.hex() for token in owned.hashes),
            model_digest=self.model_digest,
            recipe=request.recipe,
            recipe_digest=self.recipes.get(request.recipe, self.recipe_digest),
            denoise_numerics=session.classes.lanes or "",
            decode_numerics=session.classes.decoder or "",
            seed=request.seed,
            prompt=request.prompt,
            settings=request.settings,
            pace=request.pace,
            window=request.window,
            picture_limit=request.picture_limit,
            header=session.header or b"",
            media_type=session.media_type,
            seeds=kin.seeds,
            sink_blocks=session.graph.kept_blocks,
            fork=fork,
            known_from=kin.known_from,
            playing=session.playing,
            given_frames=request.given_frames,
        )
