"""A client of HTTP/2 that keeps to no rule: frames over a plain socket, in any order and number."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
STREAM_PATH = "/longtake.v1.LongtakeService/Stream"
_HEAD_BYTES = 9
_POST, _HTTP_SCHEME = b"\x83", b"\x86"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame, as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def error(self) -> int:
        """The error code of GOAWAY or RST_STREAM."""
        offset = 4 if self.kind == GOAWAY else 0
        (code,) = struct.unpack_from(">I", self.payload, offset)
        return int(code)

    @property
    def debug(self) -> bytes:
        """What GOAWAY says in words."""
        return self.payload[8:]


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """The bytes of a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def field(name: str, value: str) -> bytes:
    """A header that no table holds, without Huffman coding and without a place in the table."""
    return b"\x00" + _text(name) + _text(value)


def request(path: str = STREAM_PATH, *extra: bytes) -> bytes:
    """The headers of a gRPC call."""
    usual = field(":path", path) + field(":authority", "h"), field("content-type", "application/grpc")
    return _POST + _HTTP_SCHEME + b"".join(usual) + field("te", "trailers") + b"".join(extra)


def message(payload: bytes, *, compressed: bool = False) -> bytes:
    """A gRPC message, as the payload of DATA."""
    return struct.pack(">BI", compressed, len(payload)) + payload


def _text(text: str) -> bytes:
    data = text.encode()
    return _integer(len(data)) + data


def _integer(value: int) -> bytes:
    """With a prefix of seven bits (RFC 7541, 5.1)."""
    if value < 127:
        return bytes((value,))
    value, rest = value - 127, bytearray((127,))
    while value >= 128:
        rest.append(value % 128 + 128)
        value //= 128
    return bytes((*rest, value))


class RawClient:
    """A connection. Reading never fails: a server that hangs up has said all there is."""

    def __init__(
        self,
        address: str,
        *,
        source: str = "",
        greet: bool = True,
        acknowledge: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connect to `address` (host:port), from the address `source`.

        `greet`: send preface and settings; `acknowledge`: and wait for the server's, and acknowledge them.
        """
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10, source_address=(source, 0))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self._received = bytearray()
        self.is_open = True
        if greet:
            self.send(PREFACE + frame(SETTINGS))
        if greet and acknowledge and any(each.kind == SETTINGS for each in self.frames()):
            self.send(frame(SETTINGS, flags=ACK))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Send all of it; False if the server has hung up or does not read any more."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.is_open = False
        return self.is_open

    def frames(self, timeout_s: float = 10.0) -> Iterator[Frame]:
        """What the server says, until it hangs up or `timeout_s` are over."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            while len(self._received) >= _HEAD_BYTES:
                length = int.from_bytes(self._received[:3], "big")
                if len(self._received) < _HEAD_BYTES + length:
                    break
                kind, flags, stream = struct.unpack_from(">BBI", self._received, 3)
                payload = bytes(self._received[_HEAD_BYTES : _HEAD_BYTES + length])
                del self._received[: _HEAD_BYTES + length]
                yield Frame(kind=kind, flags=flags, stream=stream, payload=payload)
            if not self._receive(deadline_s):
                return

    def goaway(self, timeout_s: float = 10.0) -> Frame | None:
        """The GOAWAY with which the server ends the connection; None if there is none in time."""
        return next((each for each in self.frames(timeout_s) if each.kind == GOAWAY), None)

    def is_cut(self, timeout_s: float = 10.0) -> bool:
        """Whether the server hangs up by itself in time."""
        for _ in self.frames(timeout_s):
            pass
        return not self.is_open

    def _receive(self, deadline_s: float) -> bool:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return False
        self.socket.settimeout(left_s)
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        finally:
            with contextlib.suppress(OSError):
                self.socket.settimeout(10)
        self._received += data
        self.is_open = bool(data)
        return self.is_open
