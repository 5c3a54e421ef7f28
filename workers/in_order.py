"""Actions in the order in which they were asked for, though some of them have to wait."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class InOrder:
    """Does actions at once as long as none has to wait, else on a thread of its own, one after the other.

    One thread asks. An action that raises ends the thread, and `broken` is called there: nothing more is done.
    """

    def __init__(self, broken: Callable[[], None]) -> None:
        self._broken = broken
        self._actions: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._left = 0
        """Actions that the thread has yet to do."""
        self._thread: threading.Thread | None = None

    def do(self, action: Callable[[], None], *, waits: bool) -> None:
        """Do an action behind all before; with `waits` it may take its time."""
        with self._lock:
            at_once = not waits and not self._left
            self._left += not at_once
        if at_once:  # nobody else asks, so nothing can come before it now
            action()
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="in order", daemon=True)
            self._thread.start()
        self._actions.put(action)

    def stop(self) -> None:
        """Wait until everything is done."""
        if self._thread is not None:
            self._actions.put(None)
            self._thread.join()

    def _run(self) -> None:
        try:
            while (action := self._actions.get()) is not None:
                action()
                with self._lock:
                    self._left -= 1
        except BaseException:
            self._broken()
            raise
