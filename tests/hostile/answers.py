"""How calls of raw clients must end."""

from __future__ import annotations

import grpc

from benchmarks.http2 import HEADERS, RawClient


def refused(client: RawClient, status: grpc.StatusCode, text: str = "") -> None:
    """The first call on the connection ends with this status."""
    for each in client.frames():
        if each.kind == HEADERS:
            assert b"grpc-status" + bytes((len(str(status.value[0])),)) + str(status.value[0]).encode() in each.payload
            assert text.encode() in each.payload
            return
    raise AssertionError("the call has not ended")
