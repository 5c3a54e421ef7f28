"""Workers of a simulated device: they sleep instead of computing, and their results are those of the arithmetic."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtake.core.effects import Forget
from longtake.core.errors import InternalFault, InvalidField, UnknownPeer
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.geometry import Geometry
from longtake.core.work import Ability, DecoderKind, PageId, Role, WorkerId
from workers.decode.slots import Decoding
from workers.decode.worker import DecodeWorker
from workers.denoise.worker import tensor_from_bytes, tensor_to_bytes
from workers.device_work import DeviceWork
from workers.messages import Decode, Done, Introduction, Task, Up
from workers.models import weights
from workers.models.api import CarriedState
from workers.orders import Answer, Order
from workers.runner import Performer
from workers.simulated.arithmetic import (
    Reach,
    advanced,
    decoded,
    encoder_after,
    first_state,
    latents_of,
    mix,
    numbers,
    pictures,
)
from workers.simulated.device import DevicePace, SimulatedDevice
from workers.simulated.lanes import SimulatedLanes
from workers.simulated.text import simulated_text
from workers.site import site_with

_CPU = torch.device("cpu")
JOINT_OPS = 1000
"""Whatever goes together is one forward: there can be no more ops than steps and one."""


class SimulatedDenoiseWorker:
    """Stands for a DenoiseWorker. Not thread-safe: one thread does everything."""

    role = Role.DENOISE
    device = _CPU
    """Where its pages lie."""

    def __init__(self, lanes: SimulatedLanes) -> None:
        self._lanes = lanes
        self._pages = torch.from_numpy(lanes.pages)

    def perform(self, message: Order) -> Iterator[Up]:
        """Do one thing and yield what to report. InternalFault or UnknownPeer if the order cannot be meant."""
        match message:
            case Task(order=tuple() as batch):
                outputs = self._lanes.batch(batch)
                yield Done(sequence=message.sequence, outputs=tuple(outputs))
            case Forget():
                self._lanes.memory.forget(message)
            case _:
                raise UnknownPeer(f"a denoise worker cannot do {type(message).__name__}")

    def page(self, page: PageId) -> Tensor:
        """The memory of one page, a view; IndexError if it is not in the pool."""
        self._lanes.check_page(page)
        return self._pages[page]


class SimulatedSlots:
    """Stands for the decoder slots of a real device (workers.decode.slots.DecoderSlots)."""

    device = _CPU
    """Where the states lie."""

    def __init__(
        self, geometry: Geometry, reach: Reach, *, slots: int, decoder: DecoderKind = DecoderKind.FULL
    ) -> None:
        self._geometry = geometry
        self._decoder = decoder
        self._first = first_state(reach)
        self._states: list[bytes | None] = [None] * slots

    def open(self, slot: int, *, started: bool = False) -> None:
        """See DecoderSlots. A stream that starts in its middle begins with the same state as any."""
        self._fill(slot, self._first)

    def open_copy(self, slot: int, origin: int) -> None:
        """See DecoderSlots."""
        self._fill(slot, self._state(origin))

    def close(self, slot: int) -> None:
        """See DecoderSlots."""
        self._state(slot)
        self._states[slot] = None

    def decode(self, slot: int, latents_FCHW: Tensor, numbers: range) -> Decoding:
        """See DecoderSlots."""
        work = DeviceWork(self.device)
        name, self._states[slot] = decoded(tensor_to_bytes(latents_FCHW), self._state(slot), self._geometry)
        if self._decoder is not DecoderKind.FULL:
            name = mix(self._decoder.value.encode(), name)
        shown_FHWC = torch.from_numpy(pictures(name, numbers.start, len(numbers), self._geometry))
        return Decoding(work=work, landing_FHWC=shown_FHWC)

    def advance(self, slot: int, latents_FCHW: Tensor, later_frames: int) -> DeviceWork:
        """See DecoderSlots."""
        work, latents = DeviceWork(self.device), tensor_to_bytes(latents_FCHW)
        self._states[slot] = advanced(latents, self._state(slot), self._geometry, later_frames=later_frames)
        return work

    def take_state(self, slot: int) -> tuple[Tensor, ...]:
        """See DecoderSlots."""
        state = self._state(slot)
        self._states[slot] = None
        return (torch.from_numpy(np.frombuffer(state, np.uint8).copy()),)

    def import_state(self, slot: int, state: tuple[Tensor, ...]) -> None:
        """See DecoderSlots. A state fits if it is of as many latent frames."""
        (state_B,) = state
        if len(state_B) != len(self._first):
            raise InternalFault(f"a decoder state of {len(state_B)} bytes does not fit, which has {len(self._first)}")
        self._fill(slot, state_B.numpy().tobytes())

    def _fill(self, slot: int, state: bytes) -> None:
        if self._at(slot) is not None:
            raise InternalFault(f"decoder slot {slot} is already open")
        self._states[slot] = state

    def _state(self, slot: int) -> bytes:
        state = self._at(slot)
        if state is None:
            raise InternalFault(f"decoder slot {slot} is not open")
        return state

    def _at(self, slot: int) -> bytes | None:
        if not 0 <= slot < len(self._states):
            raise UnknownPeer(f"decoder slot: {slot} is not allowed; allowed: 0 to {len(self._states) - 1}")
        return self._states[slot]


class SimulatedGiving:
    """Stands for what makes latents of pictures (workers.decode.giving.Giving)."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry

    def begin(self) -> CarriedState:
        """See Giving."""
        return CarriedState([torch.zeros(0, dtype=torch.uint8)])

    def frame(self, pictures: Sequence[bytes], state: CarriedState) -> Tensor:
        """See Giving."""
        seen = encoder_after(state.history_BFHWC[0].numpy().tobytes(), pictures)
        state.history_BFHWC[0] = torch.frombuffer(bytearray(seen), dtype=torch.uint8)
        made = self._geometry.divided(BlockPlan(frames=1))
        return tensor_from_bytes(latents_of(seen, made), made.block_shape)


class PacedWorker:
    """Another worker, whose ops take the time of a simulated device: it saves nothing by batching."""

    def __init__(self, worker: Performer, device: SimulatedDevice, pace: DevicePace) -> None:
        self.role = worker.role
        self.device = worker.device
        """Where its pages and slots lie."""
        self.page = worker.page
        """The memory of one page, as of the worker within."""
        self._worker = worker
        self._device = device
        self._pace = pace

    def perform(self, message: Order) -> Iterator[Answer]:
        """Do and report what the worker within does, but take the device's time; errors are raised at once."""
        began_s = time.monotonic()
        reports = list(self._worker.perform(message))
        match message:
            case Task(order=Decode()):
                self._pace.wait(began_s, self._device.decode_s * self._device.factor)
            case Task(order=tuple() as batch):
                self._pace.wait(began_s, len(batch) * self._device.forward_s * self._device.factor)
        yield from reports


class SimulatedModel:
    """What LoadedWorker (workers.start.loading) is for a real device: no weights, `fresh` workers without history."""

    def __init__(
        self,
        *,
        worker: WorkerId,
        role: Role,
        capacity: int,
        model: Path,
        device: SimulatedDevice,
        meeting_point: str = "",
    ) -> None:
        """Read model.json; InvalidField or Contradiction if it, or the capacity, is wrong."""
        if capacity < 1:
            raise InvalidField("worker.capacity", capacity, "1 or more pages or decoder slots")
        self._info = weights.load_info(model)
        self._device = device
        self.pace = DevicePace()
        """How exactly the times were kept so far."""
        self.meeting_point = meeting_point
        digest = simulated_digest(model, device.reach)
        depth = device.reach.layers if role is Role.DENOISE else device.reach.latents
        joint_ops = JOINT_OPS if role is Role.DENOISE else 0
        # Results depend on nothing else.
        ability = Ability(capacity=capacity, joint_ops=joint_ops, numerics=digest, replay_depth=depth)
        self.introduction = Introduction(
            worker=worker, role=role, ability=ability, model_digest=digest, sites=(site_with("simulated"),)
        )

    def fresh(self) -> PacedWorker:
        """A worker with empty pages or slots. The one before must have ended."""
        return PacedWorker(self._worker(), self._device, self.pace)

    def _worker(self) -> SimulatedDenoiseWorker | DecodeWorker:
        capacity, geometry, reach = self.introduction.ability.capacity, self._info.geometry, self._device.reach
        if self.introduction.role is Role.DENOISE:
            return SimulatedDenoiseWorker(SimulatedLanes(geometry, pages=capacity, reach=reach))
        slots = {kind: SimulatedSlots(geometry, reach, slots=capacity, decoder=kind) for kind in self._info.decoders}
        return DecodeWorker(slots, geometry, simulated_text(self._info), giving=SimulatedGiving(geometry))


def simulated_digest(folder: Path, reach: Reach) -> str:
    """SHA-256 (hex) over model.json, the reach and the fact that nothing is computed: no real worker has it."""
    info = (folder / weights.INFO_FILE).read_bytes()
    return mix(b"simulated", info, numbers(reach.layers, reach.latents)).hex()
