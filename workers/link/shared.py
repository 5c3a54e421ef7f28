"""Several simulated workers in one process, each with a thread and a link of its own: 16 need no 16 interpreters.

`python -m workers.link.shared --engine HOST:PORT`, with the secret of the launch on standard input and then a line for
each worker, as for `workers.link`. Workers that compute get a process each; these only sleep.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from longtake.core.errors import InvalidField, LongtakeError
from workers.link.dial import WorkerLink
from workers.link_trust import read_secret
from workers.simulated.workers import SimulatedModel
from workers.start.loading import load_worker
from workers.start.log import log_to_stderr
from workers.start.spec import read_spec

_log = logging.getLogger("longtake.worker")


def load(lines: TextIO, engine: str) -> Iterator[tuple[SimulatedModel, WorkerLink]]:
    """The workers of the standard input, each with its link; InvalidField for one that would compute."""
    token = read_secret(lines)
    specs = list(iter(lambda: read_spec(lines), None))
    for spec in specs:
        loaded = load_worker(spec)
        if not isinstance(loaded, SimulatedModel):
            raise InvalidField("model.device", spec.compute.device, "a simulated device")
        yield loaded, WorkerLink(loaded, engine, token, spec.link_files, workers=len(specs))


async def serve(links: Sequence[WorkerLink]) -> None:
    """Work for the engine until it is done with the worker of every link; the first that breaks ends them all."""
    async with asyncio.TaskGroup() as group:
        for link in links:
            group.create_task(link.serve())


def main() -> int:
    """Entry of the process; returns its exit status."""
    log_to_stderr()
    # An interrupt at the terminal is for the engine, which then tells its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="python -m workers.link.shared")
    parser.add_argument("--engine", required=True, help="host:port that the engine listens on for workers")
    engine: str = parser.parse_args().engine
    try:
        workers = list(load(sys.stdin, engine))
        asyncio.run(serve([link for _, link in workers]))
    except* LongtakeError as errors:
        for error in errors.exceptions:
            _log.error("simulated workers end: %s", error)
            sys.stdout.write(f"{error}\n")
        return_status = 1
    else:
        return_status = 0
        for loaded, _ in workers:
            _log.info("simulated worker %s: %s", loaded.introduction.worker, loaded.pace)
    return return_status


if __name__ == "__main__":
    sys.exit(main())
