"""What one worker is to be."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.core.work import Role, WorkerId
from workers.link_trust import LinkFiles
from workers.messages import Seat

_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """Name, role, size, model and device of one worker; the same however it is started."""

    worker: WorkerId
    role: Role
    capacity: int
    """Pages (denoise) or decoder slots (decode)."""
    model: Path
    """A model directory that this worker can read."""
    device: str = "cpu"
    """A torch device, or one that only takes its time (workers.simulated_device)."""
    dtype: str = "float32"
    max_batch: int = 1
    """Ops that one forward of a denoise worker may serve at most; what pays and is exact, it measures."""
    meeting_point: str = ""
    """Where workers find each other (workers.peers), host:port; empty: this one is alone."""
    seat: Seat | None = None
    """The worker's place in a chain that holds the model together; None: it holds all of it."""
    profiles: str = ""
    """Folder for what start-up measurements found (workers.profile_cache); empty: measure at every start."""
    link_files: LinkFiles | None = None
    """With which it shows the engine what it is, on this worker's machine; None: the link is not encrypted."""

    @property
    def replica(self) -> WorkerId:
        """The name under which the engine knows the worker, or the chain that it is part of."""
        return self.worker if self.seat is None else self.seat.replica

    def arguments(self) -> list[str]:
        """As command-line arguments that `parse_arguments` reads."""
        return [
            f"--worker={self.worker}",
            f"--role={self.role.value}",
            f"--capacity={self.capacity}",
            f"--model={self.model}",
            f"--device={self.device}",
            f"--dtype={self.dtype}",
            f"--max-batch={self.max_batch}",
            f"--meeting-point={self.meeting_point}",
            *_seat_arguments(self.seat),
            f"--profiles={self.profiles}",
            *([] if self.link_files is None else self.link_files.arguments()),
        ]


def _seat_arguments(seat: Seat | None) -> list[str]:
    if seat is None:
        return []
    return [f"--replica={seat.replica}", f"--rank={seat.rank}", f"--chain-length={seat.length}"]


def parse_arguments(arguments: Sequence[str]) -> tuple[WorkerSpec, str]:
    """A specification and the engine's address from the command line."""
    parser = argparse.ArgumentParser(prog="python -m workers.link", description="One worker of a Longtake cell.")
    parser.add_argument("--engine", required=True, help="host:port that the engine listens on for workers")
    parser.add_argument("--worker", required=True, help="name, unique in the cell")
    parser.add_argument("--role", required=True, choices=[role.value for role in Role])
    parser.add_argument("--capacity", required=True, type=int, help="pages (denoise) or decoder slots (decode)")
    parser.add_argument("--model", required=True, type=Path, help="model directory")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=list(_DTYPES))
    parser.add_argument("--max-batch", default=1, type=int, help="ops that one forward may serve at most")
    parser.add_argument("--meeting-point", default="", help="host:port where workers find each other")
    parser.add_argument("--replica", default="", help="name of the chain that this worker is part of; none: no chain")
    parser.add_argument("--rank", default=0, type=int, help="place in the chain, from 0")
    parser.add_argument("--chain-length", default=1, type=int, help="workers in the chain")
    parser.add_argument("--profiles", default="", help="folder for what start-up measurements found")
    for name in ("certificate", "key", "ca"):
        parser.add_argument(f"--link-{name}", default=None, type=Path, help="PEM file; all three, or none")
    given = parser.parse_args(arguments)
    files = (given.link_certificate, given.link_key, given.link_ca)
    seat = Seat(replica=WorkerId(given.replica), rank=given.rank, length=given.chain_length)
    spec = WorkerSpec(
        worker=WorkerId(given.worker),
        role=Role(given.role),
        capacity=given.capacity,
        model=given.model,
        device=given.device,
        dtype=given.dtype,
        max_batch=given.max_batch,
        meeting_point=given.meeting_point,
        seat=seat if given.replica else None,
        profiles=given.profiles,
        link_files=LinkFiles(certificate=files[0], key=files[1], ca=files[2]) if any(files) else None,
    )
    return spec, given.engine
