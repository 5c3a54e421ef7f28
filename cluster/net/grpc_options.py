"""What strangers may ask of the gRPC servers: connections, handshakes, streams, headers, pings, and bytes of a message.

gRPC ignores a name that it does not know without a word, so tests compare these with what its library holds, and
tests/hostile tries each.
"""

from __future__ import annotations

Options = tuple[tuple[str, int], ...]

HANDSHAKE_MS = 5_000
"""How long a connection may take to become one of TLS and HTTP/2."""
IDLE_MS = 60_000
"""How long a connection without any call is kept. Clients dial again by themselves."""
SETTINGS_MS = 3_000
"""How long a client may take to acknowledge our settings; until then gRPC holds it to HTTP/2's limits, not to ours: 16
MB of headers, for instance."""
STREAMS = 128
"""The most calls at once on one connection. A client's further calls wait at its own end; a proxy opens more
connections."""
HEADER_BYTES = 8 << 10
"""The size of a call's headers above which gRPC refuses calls at random, the more likely the larger the headers are."""
MAX_HEADER_BYTES = 16 << 10
"""The size of a call's headers above which gRPC refuses every call."""
PING_INTERVAL_MS = 10_000
"""The shortest time between two pings of a client, with or without a call."""
PING_STRIKES = 2
"""A client that has sent more pings than this too soon is cut off."""
TO_CLIENTS: Options = (
    # Or an answer to a keepalive ping is waited for as long as gRPC thinks right: a minute.
    ("grpc.http2.ping_timeout_ms", 10_000),
)
"""What connections to clients have besides: one that does not answer for 30 s and 10 s more is cut."""
_IDENTITY = 1
"""The set of compressions without any compression. Pictures cannot be compressed again, and an enemy would use
compression to send a small message that unfolds to a large one."""


def server_options(*, max_message_bytes: int, connections: int) -> Options:
    """Options of a gRPC server whose callers are not trusted until they have shown who they are."""
    return (
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.http2.settings_timeout", SETTINGS_MS),
        ("grpc.max_connection_idle_ms", IDLE_MS),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.max_metadata_size", HEADER_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MS),
        ("grpc.http2.max_ping_strikes", PING_STRIKES),
        # Windows do not grow beyond 64 KiB before a message is read: a call that is refused has sent no more than that.
        # And no ping of such a probe is under way when a server stands still for a while.
        ("grpc.http2.bdp_probe", 0),
        # Otherwise two servers on one port would share its clients without a word.
        ("grpc.so_reuseport", 0),
    )
