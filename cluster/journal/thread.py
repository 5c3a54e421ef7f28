"""The journal on disk as an engine has it: a folder of its own, what was found in it, and a thread that writes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from cluster.journal.disk import LocalDisk
from cluster.journal.reading import JournalFolder
from cluster.journal.writer import JournalWriter, Reached
from longtake.core.errors import InvalidField

_CLOSE_S = 30.0
"""How long the server waits for the disk when it ends."""

_log = logging.getLogger("longtake.journal")


class DiskJournal:
    """Takes the folder and begins to write."""

    def __init__(self, path: Path, told: Callable[[Reached], object], *, field: str = "journal.path") -> None:
        """`told` is called on the writer's thread whenever there is news.

        InvalidField about `field` if the folder cannot be used, or another engine uses it.
        """
        self.disk = LocalDisk(path, field=field)
        try:
            self.found = JournalFolder(self.disk)
            """What the server before has left; to be read beside the loop."""
        except OSError as error:
            self.disk.release()
            raise InvalidField(field, str(path), f"a folder that can be read ({error.strerror})") from None
        self.writer = JournalWriter(self.disk)
        self._told = told
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write and sync what waits, and let another engine have the folder."""
        self.writer.close()
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            _log.error("journal: the disk does not answer; what waits is lost")
        else:
            self.disk.release()

    def _run(self) -> None:
        newest = Reached(number=0)
        try:
            while not self.writer.is_closed:
                self.writer.wait()
                newest = self._tell(self.writer.step(), newest)
            for reached in self.writer.finish():
                newest = self._tell(reached, newest)
        finally:  # after a defect of ours nobody shall wait for what is not written
            self.writer.abandon("its writer has ended")

    def _tell(self, reached: Reached, newest: Reached) -> Reached:
        if reached.failed or (reached.number, reached.latents) != (newest.number, newest.latents):
            self._told(reached)
        return reached
