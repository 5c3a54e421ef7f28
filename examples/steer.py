"""Steer a stream while it is saved: wait until a new prompt is accepted, and until it is seen.

python steer.py [HOST:PORT]
"""

import asyncio
import sys

from longtake import Client, CueAt, StreamOptions


async def main(server: str) -> None:
    options = StreamOptions(pace="realtime", window=2)
    async with (
        Client(server) as client,
        client.stream("a red ball circling in the fog", options) as stream,
        asyncio.TaskGroup() as tasks,
    ):
        saving = tasks.create_task(stream.save("steered.mp4"))  # it reads the stream; whoever waits, waits beside it
        await asyncio.sleep(2)

        cue = await stream.cue("a blue box swaying at night")  # as soon as possible
        accepted = await cue.accepted()
        print(f"{cue.id} will be seen from second {float(accepted.start_s):.2f}")
        if accepted.reading is not None:
            print(f"the model understood: {', '.join(accepted.reading.understood)}")
        await cue.shown()
        print(f"{cue.id} is shown")

        later = await stream.cue(CueAt(prompt="a green ring at dusk", time_s=float(accepted.start_s) + 3))
        await later.shown()
        await asyncio.sleep(1)
        await stream.close()
    print("\n".join(saving.result().lines()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "localhost:50051"))
