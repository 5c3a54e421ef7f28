"""What must not be left of streams that are over: in the engine, on its workers, on its disk."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.cell.engine import Engine
from cluster.journal.reading import JournalFolder
from longtake.core.work import ImageId, WorkerId
from tests.simulation.calls import Violation
from tests.simulation.disks import SimulatedDisk
from tests.simulation.workers import SimulatedProcess
from workers.simulated.fake import Image


def check_empty(
    engine: Engine,
    workers: Mapping[WorkerId, SimulatedProcess],
    transit: Mapping[ImageId, Image],
    disk: SimulatedDisk | None,
    *,
    may_leave_files: bool,
) -> None:
    """Violation if anything is left; files that belong to no session only unless `may_leave_files`."""
    views = engine.scheduler.workers()
    left: dict[str, object] = {
        "sessions": engine.scheduler.sessions(),
        "journal": engine.journal.sessions,
        "segments": engine.segment_bytes,
        "events": engine.inbox_events,
        "images on their way": tuple(transit),
        "units": [view for view in views if view.free != view.ability.capacity],
        "on workers": [view for view in views if view.sessions or view.in_flight or view.ready],
        "orders": [view.worker for view in views if any(engine.scheduler.worker(view.worker).errands)],
        "images": [name for name, process in workers.items() if process.fake.images],
        "slots": [name for name, process in workers.items() if process.fake.states],
        "lanes": [name for name, process in workers.items() if process.fake.lanes.memory.sessions],
    }
    if disk is not None and may_leave_files:
        left["sessions on disk"] = tuple(JournalFolder(disk).sessions())
    elif disk is not None and not disk.is_empty:
        left["files"] = tuple(disk.files) or "a folder"
    if engine.keeping.durability is not None:
        left["messages that wait for the disk"] = engine.keeping.durability.held
    leaked = {what: held for what, held in left.items() if held}
    if leaked:
        raise Violation(f"left behind: {leaked}")
