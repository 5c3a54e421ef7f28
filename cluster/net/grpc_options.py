"""What strangers may ask of the gRPC servers: connections, handshakes, streams, headers, pings, and bytes of a message.

A name that gRPC does not know it ignores without a word, so tests compare these with what its library holds, and
tests/hostile tries each.
"""

from __future__ import annotations

import resource

Options = tuple[tuple[str, int], ...]

CONNECTIONS = 4096
"""Connections of clients at once, where this process may have so many file descriptors …"""
RESERVED_FILES = 256
"""… beside these, for everything else that it has open."""
HANDSHAKE_MS = 5_000
"""How long a connection may take to become one of TLS and HTTP/2."""
IDLE_MS = 60_000
"""How long a connection without any call is kept. Clients dial again by themselves."""
SETTINGS_MS = 3_000
"""How long a client may take to acknowledge our settings; until then gRPC holds it to HTTP/2's limits, not to ours: 16
MB of headers, for instance."""
STREAMS = 128
"""Calls at once on one connection. A client's further ones wait at its own end; a proxy opens more connections."""
HEADER_BYTES = 8 << 10
"""Headers of a call, of which those that pass this are refused, ever more likely, up to …"""
MAX_HEADER_BYTES = 16 << 10
"""… these, from which all are."""
PING_INTERVAL_MS = 10_000
"""Clients may ask this often whether the connection lives, with or without a call …"""
PING_STRIKES = 2
"""… and are cut when they have asked sooner more often than this."""
_IDENTITY = 1
"""The set of compressions that holds none. Pictures cannot be compressed again, and a small message that unfolds to a
large one is what a compression is to an enemy."""


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
        # Two servers on one port would share its clients without a word.
        ("grpc.so_reuseport", 0),
    )


def connections_allowed(files: int | None = None) -> int:
    """How many connections clients may have, with `files` descriptors (default: as many as this process may open)."""
    if files is None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(CONNECTIONS, files - RESERVED_FILES))
