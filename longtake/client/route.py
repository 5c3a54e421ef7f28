"""The way of one stream to its server, which may come to be another server."""

from __future__ import annotations

import grpc

from longtake.client.credentials import Credentials, way_to
from longtake.client.errors import ClientError
from longtake.net.cells import cell_metadata
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # Each client has a connection of its own: a server lets only so many calls share one.
    ("grpc.use_local_subchannel_pool", 1),
    # Without these two a client that does not read still takes some 6 MB, a minute of video, into its buffers.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65536),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without this an answer to a ping is waited for as long as gRPC thinks right: a minute.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # A stream that reconnects waits for as long as it thinks right; the channel itself must not wait longer.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.min_reconnect_backoff_ms", 5000),
)
RawCall = grpc.aio.StreamStreamCall[pb.StreamRequest, pb.StreamResponse]


class Route:
    """Makes the calls of one stream."""

    def __init__(self, stub: rpc.LongtakeServiceAsyncStub, credentials: Credentials, session: str = "") -> None:
        """`stub` is of a connection that belongs to somebody else; `credentials` are shown wherever it leads."""
        self._stub = stub
        self.session = session
        """The session that the next call is about: this one, one that it forks, or none that is known (empty)."""
        self._credentials = credentials
        self._channels: list[grpc.aio.Channel] = []
        """Its own connections, to servers where the stream has moved."""

    def begin(self) -> RawCall:
        """Make a call."""
        return self._stub.Stream(metadata=(*self._credentials.metadata(), *cell_metadata(self.session)))

    def lead_to(self, address: str, session: str) -> None:
        """Make calls to this server from now on, for the session of that name there (empty if it is not known).

        ClientError if the credentials must not be shown there.
        """
        try:
            channel = way_to(address, self._credentials, CHANNEL_OPTIONS).open()
        except (ValueError, OSError) as error:
            why = f"the stream has moved to {address}, which cannot be asked: {error}"
            raise ClientError(grpc.StatusCode.FAILED_PRECONDITION, why) from None
        self._channels.append(channel)
        self._stub = rpc.LongtakeServiceStub(channel)
        self.session = session

    async def close(self) -> None:
        """End its own connections."""
        while self._channels:
            await self._channels.pop().close()
