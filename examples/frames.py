"""The pictures of a stream as numpy arrays: python frames.py [HOST:PORT]. Needs the extra `frames`."""

import sys

import numpy as np

from longtake import SegmentEvent, StreamOptions, SyncClient


def main(server: str) -> None:
    options = StreamOptions(duration_s=3, seed=7)
    with SyncClient(server) as client, client.stream("a red ball circling in the fog", options) as stream:
        for event in stream:
            if isinstance(event, SegmentEvent):
                frames = event.frames()  # uint8, (pictures, height, width, 3), RGB
                red, green, blue = np.round(frames.mean(axis=(0, 1, 2))).astype(int)
                print(f"block {event.index}: {frames.shape}, mean colour {red} {green} {blue}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "localhost:50051")
