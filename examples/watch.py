"""Watch somebody's stream and print what happens: python watch.py [HOST:PORT [SESSION]]"""

import asyncio
import sys

from longtake import Client, ClosedEvent, CueAppliedEvent, SegmentEvent, SkippedEvent


async def main(server: str, session: str | None) -> None:
    async with Client(server, timeout_s=30) as client:
        if session is None:
            sessions = await client.list_sessions()
            if not sessions:
                sys.exit("no stream is open; begin one with `longtake stream`")
            session = sessions[0].session_id
        async with client.watch(session) as watch:
            print(f"{session}: {watch.opened.prompt}")
            async for event in watch:
                match event:
                    case SegmentEvent():
                        print(f"segment {event.index} from {float(event.start_s):.2f} s, {len(event.data)} bytes")
                    case CueAppliedEvent():
                        print(f"from the next segment on: {event.prompt}")
                    case SkippedEvent():
                        print(f"{event.count} segments were missed: this program is too slow")
                    case ClosedEvent():
                        print(f"the end: {event.ending} {event.reason}")


if __name__ == "__main__":
    asyncio.run(
        main(
            server=sys.argv[1] if len(sys.argv) > 1 else "localhost:50051",
            session=sys.argv[2] if len(sys.argv) > 2 else None,
        )
    )
