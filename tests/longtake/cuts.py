"""Many cuts: python -m tests.longtake.cuts [--cuts 1000] [--seed 0] [--forget]; nothing may be missing.

Streams through a proxy that cuts each of their connections after a random number of bytes, from the first byte of a
handshake to the middle of a later segment. Every file is compared with that of an undisturbed stream.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time

from cluster.cell import backlog
from longtake.client import StreamOptions
from tests.cluster.frontend.toy import toy_cell
from tests.longtake.cutting import check_file, cut_stream, cutter

CUTS_A_STREAM = 50
BLOCKS = 400
SIZES_BYTES = (0, 3_000, 40_000)
"""Of segments: what fits into one frame of HTTP/2, and what does not."""


async def cut(cuts: int, seed: int) -> dict[str, float]:
    """Cut so many times; AssertionError if any file differs."""
    done, streams, total_bytes, began_s = 0, 0, 0, time.monotonic()
    while done < cuts:
        draw, size_bytes = random.Random(seed * 1000 + streams), SIZES_BYTES[streams % len(SIZES_BYTES)]
        options = StreamOptions(seed=streams, window=draw.randrange(2, 9), reconnect_s=600, auto_ack=streams % 2 == 0)
        async with toy_cell(delay_s=0.001, segment_bytes=size_bytes) as cell, cutter(cell.target) as proxy:
            watched = await cut_stream(
                proxy, draw, options, blocks=BLOCKS, cuts=CUTS_A_STREAM, typical_bytes=4 * size_bytes + 2000
            )
            await cell.settled()
            done += proxy.cuts
        check_file(watched, blocks=BLOCKS, seed=streams, segment_bytes=size_bytes)
        streams, total_bytes = streams + 1, total_bytes + len(watched.file)
        sys.stderr.write(f"{done} cuts\n")
    return {"cuts": done, "streams": streams, "bytes": total_bytes, "differing": 0, "s": time.monotonic() - began_s}


def main() -> None:
    """Cut, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forget", action="store_true", help="Keep no segment: what a call has lost is decoded again.")
    arguments = parser.parse_args()
    if arguments.forget:
        backlog.MOST_BYTES = 0
    sys.stdout.write(json.dumps(asyncio.run(cut(arguments.cuts, arguments.seed))) + "\n")


if __name__ == "__main__":
    main()
