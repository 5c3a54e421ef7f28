"""What a denoise worker keeps between ops: the last outputs of each lane, and the texts of the prompts in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from longtake.core.effects import Forget
from longtake.core.errors import UnknownPeer
from longtake.core.work import ConditioningRef, ForwardWork, SessionId
from workers.messages import Forward

Latents = TypeVar("Latents")
Text = TypeVar("Text")


class LaneMemory(Generic[Latents, Text]):
    """Its size is constant for each session: in each of its lanes here one output for each block that is not finished,
    and one text for each prompt in use."""

    def __init__(self) -> None:
        self._outputs: dict[tuple[SessionId, int, int], Latents] = {}
        """The output of the last denoise op of each (session, lane, block)."""
        self._texts: dict[ConditioningRef, Text] = {}

    @property
    def sessions(self) -> set[SessionId]:
        """Sessions that something is kept for."""
        return {session for session, _, _ in self._outputs} | {ref.session for ref in self._texts}

    def keep(self, work: ForwardWork, output: Latents) -> None:
        """Remember the output of a denoise op, in place of the one before it of its block in its lane."""
        self._outputs[work.session, work.lane, work.block] = output

    def output(self, work: ForwardWork) -> Latents:
        """The output of the last denoise op of the block in the lane of `work`; UnknownPeer if there was none."""
        key = (work.session, work.lane, work.block)
        if key not in self._outputs:
            raise UnknownPeer(f"lane {work.lane} of session {work.session} has no output of block {work.block}")
        return self._outputs[key]

    def committed(self, work: ForwardWork) -> None:
        """Drop what the lane keeps of a block that was committed: nothing starts from it any more."""
        self._outputs.pop((work.session, work.lane, work.block), None)

    def text(self, order: Forward, encode: Callable[[bytes], Text]) -> Text:
        """The text of the order's prompt version, encoded once; UnknownPeer if its features were never sent."""
        ref = order.work.conditioning
        if ref not in self._texts:
            if not order.conditioning:
                raise UnknownPeer(f"version {ref.version} of session {ref.session} was never sent")
            self._texts[ref] = encode(order.conditioning)
        return self._texts[ref]

    def forget(self, message: Forget) -> None:
        """Drop one prompt version of a session, or all that is kept of it."""
        if message.version is not None:
            self._texts.pop(ConditioningRef(session=message.session, version=message.version), None)
            return
        for key in [key for key in self._outputs if key[0] == message.session]:
            del self._outputs[key]
        for ref in [ref for ref in self._texts if ref.session == message.session]:
            del self._texts[ref]
