"""`python -m longtake`, the console script `longtake`: the command line with a quiet gRPC."""

from __future__ import annotations

import os
import signal
import sys

_QUIET = {"GRPC_VERBOSITY": "ERROR", "GRPC_ENABLE_FORK_SUPPORT": "false"}
"""gRPC otherwise writes a line when a connection closes, and several whenever a process is started."""


def main() -> None:
    """Entry; gRPC reads its settings when it is imported, so they come first."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        from longtake.own_code.finding import find_ours_first

        find_ours_first()
        from longtake.cli.main import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # importing takes a while, too
        status = 128 + signal.SIGINT
    sys.exit(status)


if __name__ == "__main__":
    main()
