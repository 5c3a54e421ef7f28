"""A link server in a process that stands still on demand.

`python -m tests.cluster.launch.stallable SILENCE_S` says its address, then answers each line of its standard input:
`block SECONDS` once its event loop has been blocked for so long, `losses` with the number of workers lost so far.
"""

from __future__ import annotations

import asyncio
import sys
import time

from longtake.core.events import WorkerLost
from tests.cluster.launch.dialling import bench


async def main() -> None:
    async with bench(silence_s=float(sys.argv[1])) as made:
        say(made.address)
        while words := (await asyncio.to_thread(sys.stdin.readline)).split():
            if words[0] == "block":
                time.sleep(float(words[1]))
            say(str(sum(isinstance(event, WorkerLost) for event in made.log.events)))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
