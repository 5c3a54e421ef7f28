"""Answers: what became of an event, for whoever put it in and waits; the engine itself waits for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from longtake.core.effects import Effect
from longtake.core.events import Event


class Answers:
    """A recorder of the engine. On its loop."""

    def __init__(self, submit: Callable[[Event], object]) -> None:
        self._submit = submit
        self._asked: dict[int, tuple[Event, asyncio.Future[Sequence[Effect]]]] = {}
        """By the identity of the event, which is kept for as long."""

    async def to(self, event: Event) -> Sequence[Effect]:
        """Put an event in, and wait for its effects; they are performed by then."""
        answer: asyncio.Future[Sequence[Effect]] = asyncio.get_running_loop().create_future()
        self._asked[id(event)] = (event, answer)
        try:
            self._submit(event)
            return await answer
        finally:
            self._asked.pop(id(event), None)

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """See Recorder."""
        if self._asked and id(event) in self._asked:
            _, answer = self._asked[id(event)]
            if not answer.done():
                answer.set_result(tuple(effects))
