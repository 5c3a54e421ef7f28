"""Tensors from one worker to another, point to point, by torch.distributed.

Theory of operation. Two workers that have something to exchange meet in a process group of their own: NCCL between
CUDA devices, gloo otherwise. The name under which they meet is used once in the life of a cell, so nothing of an
earlier attempt, of a lost worker or of another exchange can be taken for theirs, and a loss concerns only the pair.
Making a gloo group costs 1 to 5 ms on loopback. The addresses pass through one key-value store, which the launcher
hosts and which lives as long as the cell.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from longtake.core.errors import InternalFault, Unavailable
from longtake.net.addresses import Address, parse_address

c10d: Any = torch.distributed
"""torch's c10d without types: its stubs lack what is used here."""

Empty = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Makes memory for tensors of the shapes and types of those it is given, which take none."""
T = TypeVar("T")
_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.int64)
_MAX_DIMS = 8
_MAX_TENSORS = 1 << 20
_TAG = 0


class MeetingPoint:
    """The store through which workers find each other; hosted by whoever starts them."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on `port` (0: any free one) of `host`, and on no other interface; OSError if that is not possible."""
        listener = socket.create_server((host, port))
        port = listener.getsockname()[1]
        self._store = c10d.TCPStore(
            host,
            port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),  # by itself the store would listen on all interfaces
            use_libuv=True,
        )
        self.address = str(Address(host=host, port=port))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what is kept for meetings that have not ended."""
        return tuple(self._store.list_keys())


class Pair:
    """One worker's end of a process group of two. Not thread-safe; every call blocks its thread, not the others'."""

    def __init__(
        self, meeting_point: str, name: str, rank: int, *, device: torch.device | None = None, timeout_s: float = 30.0
    ) -> None:
        """Meet the worker that comes to the same `name` with the other `rank` (0 or 1).

        Unavailable if it does not come, or later says nothing for `timeout_s`.
        """
        self._name = name
        self._other = 1 - rank
        self._device = device or torch.device("cpu")
        timeout = timedelta(seconds=timeout_s)
        try:
            where = parse_address(meeting_point)
            self._store = c10d.TCPStore(where.host, where.port, is_master=False, timeout=timeout)
        except (RuntimeError, OSError, ValueError) as error:
            raise Unavailable(f"nobody is at the meeting point {meeting_point}: {error}") from error
        try:
            shared = c10d.PrefixStore(name, self._store)
            if self._device.type == "cuda":
                options = c10d.ProcessGroupNCCL.Options()
                options._timeout = timeout
                self._group = c10d.ProcessGroupNCCL(shared, rank, 2, options)
            else:
                gloo = c10d.ProcessGroupGloo._Options()
                gloo._devices = [c10d.ProcessGroupGloo.create_device(hostname=_address_towards(where.host, where.port))]
                gloo._timeout = timeout
                self._group = c10d.ProcessGroupGloo(shared, rank, 2, gloo)
        except (RuntimeError, OSError) as error:
            self.close()  # what this end has put down: no later meeting has its name
            raise Unavailable(f"nobody came to {name!r}: {error}") from error

    def send(self, tensor: Tensor) -> None:
        """Send a contiguous tensor whose shape and type the other knows; returns when it may be overwritten."""
        self._do(lambda: self._group.send([tensor], self._other, _TAG))

    def start_send(self, tensor: Tensor) -> Callable[[], None]:
        """Begin a `send` and return at once: the tensor may be overwritten or freed after a call of what is
        returned."""
        started = self._try(lambda: self._group.send([tensor], self._other, _TAG))
        return lambda: self._do(lambda: started)

    def receive(self, tensor: Tensor) -> None:
        """Fill a contiguous tensor with what the other sends."""
        self._do(lambda: self._group.recv([tensor], self._other, _TAG))

    def send_all(self, tensors: Sequence[Tensor]) -> None:
        """Send tensors of any shapes, for `receive_all`."""
        self.send(torch.tensor([len(tensors)], device=self._device))
        headers = [
            [_TYPES.index(tensor.dtype), tensor.dim(), *tensor.shape, *[0] * (_MAX_DIMS - tensor.dim())]
            for tensor in tensors
        ]
        self.send(torch.tensor(headers, dtype=torch.int64, device=self._device))
        # All at once: each has to be agreed on with the other end, which takes longer than a small one itself.
        whole = [tensor.contiguous() for tensor in tensors]
        self._do(lambda: _All([self._group.send([tensor], self._other, _TAG) for tensor in whole]))

    def receive_all(self, empty: Empty | None = None) -> Sequence[Tensor]:
        """The tensors that the other end sent with `send_all`, on this end's device, in memory made by `empty`."""
        announced = torch.zeros(1, dtype=torch.int64, device=self._device)
        self.receive(announced)
        count = int(announced)
        if not 0 <= count <= _MAX_TENSORS:
            raise InternalFault(f"{self._name!r}: {count} tensors were announced, up to {_MAX_TENSORS} may be")
        headers = torch.zeros(count, 2 + _MAX_DIMS, dtype=torch.int64, device=self._device)
        self.receive(headers)
        wanted = []
        for kind, dims, *shape in headers.tolist():
            if not (0 <= kind < len(_TYPES) and 0 <= dims <= _MAX_DIMS and min(shape) >= 0):
                raise InternalFault(f"{self._name!r}: a tensor of type {kind} with {dims} of {shape} was announced")
            wanted.append(torch.empty(shape[:dims], dtype=_TYPES[kind], device="meta"))
        tensors = (empty or self._empty)(wanted)
        self._do(lambda: _All([self._group.recv([tensor], self._other, _TAG) for tensor in tensors]))
        return tensors

    def _empty(self, wanted: Sequence[Tensor]) -> Sequence[Tensor]:
        return [torch.empty_like(tensor, device=self._device) for tensor in wanted]

    def close(self) -> None:
        """Free what the store keeps of the meeting, once something has passed; one of the two ends does it for both."""
        with contextlib.suppress(RuntimeError):  # the cell may be gone
            for key in self._store.list_keys():
                if key.startswith(f"{self._name}/"):
                    self._store.delete_key(key)

    def _do(self, start: Callable[[], Any]) -> None:
        self._try(lambda: start().wait())

    def _try(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except RuntimeError as error:
            raise Unavailable(f"the other end of {self._name!r} is gone: {error}") from error


def agreed(meeting_point: str, name: str, propose: Callable[[], str] | None, *, timeout_s: float) -> str:
    """What is agreed on under `name` for the life of the cell, the first proposal that is made.

    A worker without a proposal waits for one; Unavailable if none comes within `timeout_s`.
    """
    key = f"agreed/{name}"
    try:
        where = parse_address(meeting_point)
        store = c10d.TCPStore(where.host, where.port, is_master=False, timeout=timedelta(seconds=timeout_s))
        if propose is not None and not store.check([key]):
            store.compare_set(key, "", propose())
        return str(store.get(key).decode(errors="replace"))
    except (RuntimeError, OSError, ValueError) as error:
        raise Unavailable(f"nobody has said what {name!r} is: {error}") from error


class _All:
    """Several exchanges that were started together."""

    def __init__(self, started: Sequence[Any]) -> None:
        self._started = started

    def wait(self) -> None:
        for each in self._started:
            each.wait()


def _address_towards(host: str, port: int) -> str:
    """The address at which others can reach this machine, if they can reach `host`."""
    with socket.create_connection((host, port)) as probe:
        return str(probe.getsockname()[0])
