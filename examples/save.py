"""Save ten seconds of a stream to a file that plays: python save.py [HOST:PORT]"""

import sys

from longtake import ClientError, StreamOptions, SyncClient


def main(server: str) -> None:
    options = StreamOptions(duration_s=10, seed=7)
    with SyncClient(server, timeout_s=30) as client, client.stream("a red ball circling in the fog", options) as stream:
        summary = stream.save("red-ball.mp4")
    print("\n".join(summary.lines()))


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "localhost:50051")
    except ClientError as error:
        sys.exit(f"{error.message} ({error.code.name})")
