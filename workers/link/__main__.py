"""A worker as a process of its own: `python -m workers.link --engine HOST:PORT`.

On its standard input it reads two lines: the secret of the launch, and what it is to be as a JSON object
(workers.start.spec.WorkerSpec), such as

    {"worker": "denoise-0", "role": "denoise", "capacity": 81, "model": "/models/pocket", "compute": {"device": "cuda"}}

Neither stands in the arguments, which other users of the machine can see. If it ends by an error, it says that in the
last line of its standard output, for whoever started it.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys

from longtake.core.errors import InvalidField, LongtakeError
from workers.link.dial import serve
from workers.link_trust import read_secret
from workers.start.loading import load_worker
from workers.start.log import log_to_stderr
from workers.start.spec import read_spec

_log = logging.getLogger("longtake.link")


def main() -> int:
    """Entry of a worker process; returns its exit status."""
    log_to_stderr()
    # An interrupt at the terminal is for the engine, which then tells its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser(
        prog="python -m workers.link", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", required=True, help="host:port that the engine listens on for workers")
    engine: str = parser.parse_args().engine
    name = "a worker"
    try:
        token, spec = read_secret(sys.stdin), read_spec(sys.stdin)
        if spec is None:
            raise InvalidField("worker", None, "a JSON object on standard input, in the line after the secret")
        name = f"worker {spec.worker}"
        serve(load_worker(spec), engine, token, spec.link_files)
    except LongtakeError as error:
        _log.error("%s ends: %s", name, error)
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
