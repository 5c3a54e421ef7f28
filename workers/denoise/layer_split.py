"""One worker of a chain: the layers it holds of the model, and its place between its neighbours.

Theory of operation. The workers of a chain are one replica: they get the same orders, under the same numbers and with
the same page ids, and each does its part of every op in that order. The first embeds the latents and passes hidden
states [B, L, E] on, the others take them, run their layers and pass them on, the last makes the output, which travels
to whoever needs it as that of any worker does. Times and positions are cheap: each worker computes them itself.

Hidden states flow one way only, through a pair of the two neighbours (workers.peers), as many and of such shapes as the
orders say, so both ends know them without asking. A note that names their op goes before them, because sizes that
differ would end the process. Sending does not wait until the other worker takes it: a worker computes its next op
meanwhile, and waits only before it sends that one. No worker waits for ever: the last waits for nobody behind it, so it
takes all that comes; then so does the one before it, and so on. And nobody waits for the engine within an op.

If an order is wrong, all workers of the chain see that alike, before anything is sent: they report the op as failed and
go on. Whatever else fails here leaves the chain out of step, so the worker starts over: its pairs end with it. The
neighbours notice that at once (or after PEER_S, if the worker merely hangs), and so does the engine, which lets the
chain meet again under the number of a new generation.

Shape suffixes: B batch item, F latent frame, C channel, H row, W column, L token of the item's frames, E model width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from longtake.core.errors import Unavailable
from longtake.core.recipe.ops import Kind
from longtake.core.work import DispatchNumber, PageId, Role
from workers.denoise.worker import DenoiseWorker
from workers.messages import OP_ERRORS, Done, JoinChain, Seat, StartOver, Task, reason_of
from workers.models.api import Denoiser, Inputs, LayerPass
from workers.orders import Answer, Later, Order
from workers.peers import Pair

PEER_S = 30.0
"""How long a neighbour may take to come, or to pass an op on."""


class ModelPart:
    """The stage of a worker that holds some layers."""

    def __init__(self, denoiser: Denoiser, seat: Seat, *, meeting_point: str, timeout_s: float = PEER_S) -> None:
        """`meeting_point` is where the neighbours find each other; they have `timeout_s` for everything."""
        self._denoiser = denoiser
        self._seat = seat
        self._meeting_point = meeting_point
        self._timeout_s = timeout_s
        self._device = denoiser.device
        self._before: Pair | None = None
        self._behind: Pair | None = None
        self._sending: list[Callable[[], None]] = []
        self._sequence = DispatchNumber(0)
        self._waited_s = 0.0

    def join(self, generation: int) -> None:
        """Meet the neighbours; StartOver if one does not come."""
        name, rank = f"{self._seat.replica}/{generation}", self._seat.rank
        try:
            if rank > 0:
                self._before = self._meet(f"{name}/{rank}", 1)
                self._before.receive(torch.zeros(1, device=self._device))
                self._before.close()
            if not self._seat.is_last:
                self._behind = self._meet(f"{name}/{rank + 1}", 0)
                self._behind.send(torch.zeros(1, device=self._device))
        except Unavailable as error:
            raise StartOver(str(error)) from error

    def begin(self, sequence: DispatchNumber) -> None:
        """Note that what follows belongs to this dispatch."""
        self._sequence = sequence
        self._waited_s = 0.0

    @property
    def waited_s(self) -> float:
        """Seconds of the present dispatch that passed without computing."""
        return self._waited_s

    def settle(self) -> None:
        """Wait until the device has computed what it was given, so that a clock can tell."""
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()

    # --- the stage --------------------------------------------------------------------------------------------------

    def takes_latents(self, kind: Kind) -> bool:
        """See ModelStage."""
        return self._seat.takes_latents(kind)

    def denoise(self, inputs: Inputs) -> Tensor | None:
        """See ModelStage; StartOver if it cannot be done."""
        try:
            here = self._denoiser.begin(inputs)
            h_BLE = here.run(self._enter(here))
            if self._seat.is_last:
                return here.leave(h_BLE)
            self._pass_on(h_BLE)
        except OP_ERRORS as error:
            raise StartOver(reason_of(error)) from error
        return None

    def commit(self, inputs: Inputs) -> None:
        """See ModelStage; StartOver if it cannot be done."""
        try:
            here = self._denoiser.begin(inputs)
            h_BLE = self._enter(here)
            if self._seat.is_last:
                here.commit(h_BLE)
            else:
                self._pass_on(here.run(h_BLE))
        except OP_ERRORS as error:
            raise StartOver(reason_of(error)) from error

    def _enter(self, here: LayerPass) -> Tensor:
        """Hidden states as they come to the layers held here."""
        return self._receive(here.shape) if self._seat.rank else here.enter()

    # --- the neighbours ---------------------------------------------------------------------------------------------

    def _meet(self, name: str, rank: int) -> Pair:
        return Pair(self._meeting_point, name, rank, device=self._device, timeout_s=self._timeout_s)

    def _note(self, shape: tuple[int, ...]) -> Tensor:
        """A note that says to which op hidden states belong."""
        return torch.tensor([self._sequence, *shape], dtype=torch.int64, device=self._device)

    def _receive(self, shape: tuple[int, ...]) -> Tensor:
        if self._before is None:
            raise Unavailable("the chain has not met yet")
        began_s = time.perf_counter()
        expected = self._note(shape)
        note, h_BLE = torch.zeros_like(expected), torch.empty(shape, dtype=self._denoiser.dtype, device=self._device)
        self._before.receive(note)
        if not torch.equal(note, expected):
            raise Unavailable(f"the worker before sends {note.tolist()}, expected {expected.tolist()}")
        self._before.receive(h_BLE)
        self.settle()
        self._waited_s += time.perf_counter() - began_s
        return h_BLE

    def _pass_on(self, h_BLE: Tensor) -> None:
        if self._behind is None:
            raise Unavailable("the chain has not met yet")
        self.settle()
        began_s = time.perf_counter()
        for finish in self._sending:
            finish()
        note, h_BLE = self._note(tuple(h_BLE.shape)), h_BLE.contiguous()
        self._sending = [self._behind.start_send(note), self._behind.start_send(h_BLE)]
        self._waited_s += time.perf_counter() - began_s


class ChainMember:
    """A denoise worker over a part of the model, and the time that its own part of each op takes."""

    role = Role.DENOISE

    def __init__(self, worker: DenoiseWorker, part: ModelPart) -> None:
        """`part` is the stage of `worker`."""
        self._worker = worker
        self._part = part

    @property
    def device(self) -> torch.device:
        """Where its pages lie."""
        return self._worker.device

    def page(self, page: PageId) -> Tensor:
        """The memory of its part of one page, a view; IndexError if it is not in the pool."""
        return self._worker.page(page)

    def perform(self, message: Order) -> Iterator[Answer]:
        """What DenoiseWorker.perform does, and StartOver if the chain is broken."""
        match message:
            case JoinChain(generation):
                self._part.join(generation)
            case Task():
                began_s = time.perf_counter()
                self._part.begin(message.sequence)
                for made in self._worker.perform(message):
                    report = made.made() if isinstance(made, Later) else made
                    self._part.settle()
                    busy_s = time.perf_counter() - began_s - self._part.waited_s
                    yield replace(report, seconds=busy_s) if isinstance(report, Done) else report
            case _:
                yield from self._worker.perform(message)
