"""What a server serves, and so what it can go on with; and what of a session must outlive the server."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.cell.ownership import Ownership
from cluster.journal.facts import ForkRecord, SessionRecord
from longtake.core.errors import InvalidField
from longtake.core.sessions.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a server serves: a session that was made by anything else cannot go on with it."""

    model_digest: str
    recipe_digest: str

    def check(self, record: SessionRecord) -> None:
        """InvalidField if the session of this record cannot go on here."""
        if record.model_digest != self.model_digest:
            raise InvalidField(
                "record.model_digest", record.model_digest, f"{self.model_digest}, the model served here"
            )
        if record.recipe_digest != self.recipe_digest:
            allowed = f"{self.recipe_digest}, the recipe of this server"
            raise InvalidField("record.recipe_digest", record.recipe_digest, allowed)

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
            recipe_digest=self.recipe_digest,
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
            sink_blocks=session.graph.sink_blocks,
            fork=fork,
            known_from=kin.known_from,
            playing=session.playing,
        )
