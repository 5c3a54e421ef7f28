"""Several simulated workers in one process, each with a thread and a link of its own: 16 need no 16 interpreters.

`python -m workers.link.shared --engine=HOST:PORT -- WORKER -- WORKER …`, each WORKER with the arguments of
`workers.link`. Workers that compute get a process each; these only sleep.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator, Sequence

from longtake.core.errors import InvalidField, LongtakeError
from workers.link.dial import WorkerLink
from workers.link_trust import read_secret
from workers.simulated.workers import SimulatedModel
from workers.start.loading import load_worker
from workers.start.spec import WorkerSpec, parse_arguments

_log = logging.getLogger("longtake.worker")


def arguments_for(specs: Sequence[WorkerSpec]) -> list[str]:
    """The workers as command-line arguments that `main` reads."""
    return [argument for spec in specs for argument in ("--", *spec.arguments())]


def load(arguments: Sequence[str], token: str) -> Iterator[tuple[SimulatedModel, WorkerLink]]:
    """The workers of the command line, each with its link; InvalidField for one that would compute."""
    common: list[str] = []
    groups: list[list[str]] = [common]
    for argument in arguments:
        if argument == "--":
            groups.append([])
        else:
            groups[-1].append(argument)
    for group in groups[1:]:
        spec, engine = parse_arguments([*common, *group])
        loaded = load_worker(spec)
        if not isinstance(loaded, SimulatedModel):
            raise InvalidField("model.device", spec.device, "a simulated device")
        yield loaded, WorkerLink(loaded, engine, token, spec.link_files, workers=len(groups) - 1)


async def serve(links: Sequence[WorkerLink]) -> None:
    """Work for the engine until it is done with the worker of every link; the first that breaks ends them all."""
    async with asyncio.TaskGroup() as group:
        for link in links:
            group.create_task(link.serve())


def main() -> int:
    """Entry of the process; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    # An interrupt at the terminal is for the engine, which then tells its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        workers = list(load(sys.argv[1:], read_secret(sys.stdin)))
        asyncio.run(serve([link for _, link in workers]))
    except* LongtakeError as errors:
        for error in errors.exceptions:
            _log.error("simulated workers end: %s", error)
        return_status = 1
    else:
        return_status = 0
        for loaded, _ in workers:
            _log.info("simulated worker %s: %s", loaded.introduction.worker, loaded.pace)
    return return_status


if __name__ == "__main__":
    sys.exit(main())
