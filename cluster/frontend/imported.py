"""What is asked of an exported session before it may go on here: each field is checked as if a client had sent it."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.cell.snapshot import Snapshot
from cluster.frontend.offer import CODECS, Offer
from cluster.frontend.requests import MAX_CUE_ID_BYTES, MAX_PICTURE, SEED_BITS, has_controls, prompt_of
from cluster.journal.facts import SessionRecord
from longtake.core.adoption import PlacedCue
from longtake.core.errors import InvalidField
from longtake.core.recipe.cues import Back

_PAST_CUES = 4096
"""So many cues may come along beside those that are not shown yet."""
_HEADER_BYTES = 64 << 10
_NAME_BYTES = 256


def check(snapshot: Snapshot, offer: Offer) -> None:
    """InvalidField names the first field that cannot be; whether there is room for the session is another matter.

    That its model and its recipe are served is known.
    """
    record = snapshot.record
    _check_request(record, offer)
    _check_names(record)
    _check_past(record)
    _check_number("session.acknowledged", snapshot.acknowledged, -1, MAX_PICTURE)
    for block, step in snapshot.latents:
        _check_number(f"latents/{step}/{block}", block, 0, MAX_PICTURE)
    for version in snapshot.versions.values():
        _check_number("session.versions", version, 0, MAX_PICTURE)
    _check_cues(snapshot.cues, offer)


def _check_request(record: SessionRecord, offer: Offer) -> None:
    """What a client might have asked for."""
    prompt_of("record.prompt", record.prompt, offer)
    _check_number("record.seed", record.seed, 0, (1 << SEED_BITS) - 1)
    _check_number("record.given_frames", record.given_frames, 0, offer.recipe_named(record.recipe).recipe.page_count)
    _check_number("record.window", record.window, 1, offer.limits.max_window)
    if record.picture_limit is not None:
        _check_number("record.picture_limit", record.picture_limit, 1, MAX_PICTURE)
    settings = record.settings
    codec = next((codec for codec in CODECS.values() if codec.name == settings.codec), None)
    if codec is None:
        raise InvalidField(
            "record.settings.codec", settings.codec[:40], ", ".join(each.name for each in CODECS.values())
        )
    _check_number("record.settings.quality", settings.quality, codec.min_quality, codec.max_quality)
    if settings.decoder not in offer.decoders:
        allowed = " or ".join(decoder.value for decoder in offer.decoders)
        raise InvalidField("record.settings.decoder", settings.decoder.value, allowed)


def _check_names(record: SessionRecord) -> None:
    """Texts that nobody chose freely."""
    texts = {
        "tenant": record.tenant,
        "recipe": record.recipe,
        "denoise_numerics": record.denoise_numerics,
        "decode_numerics": record.decode_numerics,
        "media_type": record.media_type,
    }
    for name, text in texts.items():
        if len(text.encode()) > _NAME_BYTES or has_controls(text):
            raise InvalidField(f"record.{name}", text[:40], f"at most {_NAME_BYTES} bytes without control characters")
    if len(record.header) > _HEADER_BYTES:
        raise InvalidField("record.header", f"{len(record.header)} bytes", f"at most {_HEADER_BYTES} bytes")
    if record.tokens_sha256:
        raise InvalidField("record.tokens_sha256", "(not shown)", "none: it gets a new token")


def _check_past(record: SessionRecord) -> None:
    """Where it comes from."""
    first = 0 if record.fork is None else record.fork.block
    _check_number("record.fork.block", first, 0, MAX_PICTURE)
    _check_number("record.known_from", record.known_from, 0, MAX_PICTURE)
    before = 0
    for until, seed in record.seeds:
        _check_number("record.seeds", until, before, first)
        _check_number("record.seeds", seed, 0, (1 << SEED_BITS) - 1)
        before = until


def _check_cues(cues: Iterable[PlacedCue], offer: Offer) -> None:
    most, count, versions = offer.limits.max_pending_cues + _PAST_CUES, 0, set[int]()
    for count, cue in enumerate(cues, start=1):
        path = f"session.cues[{count - 1}]"
        if count > most:
            raise InvalidField(path, count, f"at most {most} cues")
        _check_number(f"{path}.block", cue.block, 0, MAX_PICTURE)
        _check_number(f"{path}.version", cue.version, 1, MAX_PICTURE)
        if cue.version in versions:
            raise InvalidField(f"{path}.version", cue.version, "versions that differ from each other")
        versions.add(cue.version)
        _check_number(f"{path}.shot", cue.shot, 0, MAX_PICTURE)
        if isinstance(cue.change, Back):
            _check_number(f"{path}.change.shot", cue.change.shot, 0, MAX_PICTURE)
        if cue.cue is not None and (not 1 <= len(cue.cue.encode()) <= MAX_CUE_ID_BYTES or has_controls(cue.cue)):
            allowed = f"1 to {MAX_CUE_ID_BYTES} bytes of text without control characters"
            raise InvalidField(f"{path}.cue", cue.cue[:MAX_CUE_ID_BYTES], allowed)
        if cue.cue is not None or cue.prompt:
            prompt_of(f"{path}.prompt", cue.prompt, offer)


def _check_number(field: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidField(field, value, f"{least} to {most}")
