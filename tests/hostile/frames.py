"""Frames that are wrong: python -m tests.hostile.frames [--frames 1000000] [--seed 0], against a server of its own.

Frames of every kind, right ones and such as were mutilated byte by byte or field by field: among them resumptions with
tokens that are right, old, short or drawn, and cursors of any size. Prints how calls ended and what the server weighs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from longtake.client.route import CHANNEL_OPTIONS
from longtake.v1 import longtake_pb2 as pb
from tests.hostile.cell import Cell, Witness

PATH = "/longtake.v1.LongtakeService/Stream"
PROMPT = "a red ball swaying at night"
MOST_FRAMES = 12
"""Of one call."""
CALLS = 8
"""At once."""
FORGOTTEN = "Internal error from Core"
"""What grpc.aio says where a frame of ours crossed the end of the call (grpc issue 36066)."""
ANSWER_S = 2.0
"""After which a call that says nothing is left, and counts as one that hangs if it was not let in."""
NUMBERS = (0, 1, 2, 3, 7, 1 << 20, 1 << 40, (1 << 40) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


@dataclass
class Fuzz:
    """Draws frames, and counts what comes of them."""

    draw: random.Random
    ends: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    hung: int = 0
    resumed: int = 0
    tokens: list[bytes] = field(default_factory=list)
    """What calls were told."""

    def first(self) -> bytes:
        """The first frame of a call."""
        draw, open_ = self.draw, pb.Open()
        if draw.random() < 0.6:
            open_.resume_token = self._token()
            if draw.random() < 0.7:
                open_.cursor = draw.choice(NUMBERS)
        if draw.random() < (0.1 if open_.resume_token else 0.95):
            open_.prompt, open_.window = PROMPT, draw.choice((0, 1, 2, 40))
        if draw.random() < 0.1:
            open_.pictures = draw.choice(NUMBERS)
        if draw.random() < 0.1:
            open_.fork.session_id = draw.choice(("", "nobody", "\x00"))
        return self._mutilated(pb.StreamRequest(open=open_), 0.2)

    def later(self) -> bytes:
        """A later one."""
        draw, block = self.draw, self.draw.choice(NUMBERS)
        frames = (
            pb.StreamRequest(ack=pb.Ack(segment=draw.choice(NUMBERS))),
            pb.StreamRequest(cue=pb.Cue(id=draw.choice(("", "c", "d" * 65)), prompt=PROMPT, block=block)),
            pb.StreamRequest(pause=pb.Pause()),
            pb.StreamRequest(play=pb.Play()),
            pb.StreamRequest(open=pb.Open(resume_token=self._token(), cursor=draw.choice(NUMBERS))),
            pb.StreamRequest(close=pb.Close()),
        )
        return self._mutilated(draw.choice(frames), 0.3)

    def _token(self) -> bytes:
        draw = self.draw
        if self.tokens and draw.random() < 0.6:
            token = draw.choice(self.tokens[-30:])
            return token if draw.random() < 0.8 else token[:-1] + bytes((draw.randrange(256),))
        return draw.randbytes(draw.choice((1, 31, 32, 32, 32, 33, 5000)))

    def _mutilated(self, frame: pb.StreamRequest, share: float) -> bytes:
        """The frame on the wire, perhaps with some bytes changed, added or missing."""
        data, draw = bytearray(frame.SerializeToString()), self.draw
        while draw.random() < share and data:
            place = draw.randrange(len(data))
            match draw.randrange(3):
                case 0:
                    data[place] ^= 1 << draw.randrange(8)
                case 1:
                    data[place:place] = draw.randbytes(draw.randrange(1, 9))
                case 2:
                    del data[place:]
        return bytes(data)

    async def call(self, channel: grpc.aio.Channel) -> None:
        """One call, to its end or until nothing comes any more; half of them just break."""
        method: grpc.aio.StreamStreamMultiCallable[bytes, pb.StreamResponse]
        method = channel.stream_stream(PATH, response_deserializer=pb.StreamResponse.FromString)
        call = method()
        sent = [self.first(), *(self.later() for _ in range(self.draw.randrange(MOST_FRAMES)))]
        writing, answers = asyncio.create_task(self._write(call, sent)), 0
        try:
            async with asyncio.timeout(ANSWER_S):
                async for answer in call:
                    answers += 1
                    if answer.HasField("opened"):
                        self.tokens.append(answer.opened.resume_token)
                        self.resumed += answer.opened.segment > 0
                    if answers > 40:
                        break
            self.ends["left" if answers > 40 else (await call.code()).name] += 1
        except TimeoutError:
            self.ends["silent"] += 1
            self.hung += not answers
        except grpc.aio.AioRpcError as error:
            self.ends["forgotten" if error.details() == FORGOTTEN else error.code().name] += 1
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            if self.draw.random() < 0.5:
                call.cancel()

    async def _write(self, call: grpc.aio.StreamStreamCall[bytes, pb.StreamResponse], frames: list[bytes]) -> None:
        for frame in frames:
            self.frames += 1
            await call.write(frame)
        if self.draw.random() < 0.5:
            await call.done_writing()

    async def run(self, target: str, frames: int) -> None:
        """So many frames."""

        async def calls() -> None:
            async with grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
                while self.frames < frames:
                    await self.call(channel)

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLS):
                group.create_task(calls())


async def measure(cell: Cell, frames: int, seed: int) -> dict[str, object]:
    """What comes of so many frames, of which a tenth is to warm up."""
    fuzz = Fuzz(random.Random(seed))
    began_s = time.monotonic()
    await fuzz.run(cell.address, frames // 10)
    before_bytes = cell.resident_bytes()
    await fuzz.run(cell.address, frames)
    grown_mb = (cell.resident_bytes() - before_bytes) / 1e6
    return {
        "frames": fuzz.frames, "s": round(time.monotonic() - began_s, 1), "ends": dict(fuzz.ends), "hung": fuzz.hung,
        "resumed": fuzz.resumed, "grown_mb": round(grown_mb, 1), "alive": cell.is_alive(),
    }  # fmt: skip


def main() -> None:
    """Send frames to a server in a process of its own, beside a stream that must not notice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = '[model]\ndevice = "simulated:2ms"\n[cluster]\nlaunch = "subprocess"\n[listen]\nport = 0\n'
    config += "[limits]\ndetached_s = 2\n"
    with tempfile.TemporaryDirectory() as folder:
        cell = Cell(Path(folder), config)
        try:
            with Witness(cell.address) as witness:
                found = asyncio.run(measure(cell, arguments.frames, arguments.seed))
                witness.sees(1)
        finally:
            status = cell.end()
    sys.stdout.write(json.dumps(found | {"status": status}) + "\n")


if __name__ == "__main__":
    main()
