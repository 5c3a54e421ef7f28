"""A worker as a process of its own: `python -m workers.link --engine HOST:PORT --worker NAME …`."""

from __future__ import annotations

import logging
import signal
import sys

from longtake.core.errors import LongtakeError
from workers.link.dial import serve
from workers.link_trust import read_secret
from workers.start.loading import load_worker
from workers.start.spec import parse_arguments

_log = logging.getLogger("longtake.link")


def main() -> int:
    """Entry of a worker process; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    # An interrupt at the terminal is for the engine, which then tells its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spec, engine = parse_arguments(sys.argv[1:])
    token = read_secret(sys.stdin)
    try:
        serve(load_worker(spec), engine, token, spec.link_files)
    except LongtakeError as error:
        _log.error("worker %s ends: %s", spec.worker, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
