"""Planning: what a cell of given devices can hold of a given model, in numbers, before anything is bought or started.

Theory of operation. Nothing is estimated that the server decides itself: lanes are placed by `Ranking.place`, the limit
is `Limits.load_limit`, a lane costs `forwards_per_block / lane_count` forwards a block and `Recipe.page_count` pages.
Workers are alike, so the least loaded one is always filled evenly and the streams that fit are

    floor(G * floor(load limit / (forwards per lane * t / block time)) / lanes)     by rate (pace realtime only)
    floor(G * floor(pages per worker / pages per lane) / lanes)                     by memory

with the whole-number part taken per worker first, because a lane lives on one worker. Where L devices hold one replica
(layer split), the chain of them is the worker: G counts chains, and each device spends t / L on a forward. What fits a
device is what the server takes when it starts (plan/memory.py). Sizes are bytes, 1 GB = 10^9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from longtake.core.errors import InvalidField, Lack, NoCapacity
from longtake.core.fleet.placement import Ranking
from longtake.core.fleet.room import Ask, Room
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.plan.memory import CONTEXT_BYTES, Memory, Occupant, footprint
from longtake.core.plan.model import Model, SessionBytes, session_bytes
from longtake.core.recipe.graph import Graph
from longtake.core.work import Role, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The hardware of a cell."""

    count: int
    """Devices that denoise."""
    memory_bytes: int
    forward_s: float
    """Time of one forward with a full window through the whole model, measured or modelled."""
    decode_s: float = 0.0
    """Time to decode one block; 0: not known."""
    value_bytes: int = 2
    """Bytes of a weight, of a value in K/V and in the decoder's state."""
    latent_value_bytes: int = 4
    """Bytes of a value of a latent on the link and in the journal."""
    layer_split: int = 1
    """Devices that hold one replica of the model together, each a range of its layers."""
    max_batch: int = 8
    """The most ops that one forward may serve: memory is kept for so many (`cluster.max_batch`)."""

    def __post_init__(self) -> None:
        for name, value in (("count", self.count), ("memory", self.memory_bytes), ("forward", self.forward_s)):
            if not 0 < value < math.inf:
                raise InvalidField(f"devices.{name}", value, "a number above 0")
        if self.layer_split < 1 or self.count % self.layer_split:
            raise InvalidField("devices.layer_split", self.layer_split, f"a divisor of {self.count} devices")

    @property
    def replicas(self) -> int:
        """Denoise workers, as placement counts them: a chain of devices is one."""
        return self.count // self.layer_split

    @property
    def memory(self) -> Memory:
        """That of one device, before anything is on it."""
        return Memory(total_bytes=self.memory_bytes, free_bytes=self.memory_bytes)

    def occupant(self, role: Role) -> Occupant:
        """A worker of this role on one device."""
        return Occupant(
            worker=WorkerId(role.value),
            role=role,
            chain_length=self.layer_split if role is Role.DENOISE else 1,
            value_bytes=self.value_bytes,
            max_batch=self.max_batch,
            process_bytes=CONTEXT_BYTES,
        )

    @property
    def share_s(self) -> float:
        """What a forward takes of each device that it passes through."""
        return self.forward_s / self.layer_split


@dataclass(frozen=True, slots=True, kw_only=True)
class Shed:
    """What the cell's time allows while blocks take the steps of one load, fewer than usual (`steps.shed`)."""

    steps: tuple[int, ...]
    """Entries of the schedule that a block takes."""
    forwards_per_block: int
    limit_blocks_per_s: float
    streams_by_rate: int | None
    """Of the first of these it is what is let in where `limits.admit_at` is shed; None for pace fast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the cell can hold. Streams are whole numbers, times seconds."""

    model: str
    devices: int
    pace: str
    """Whether streams have due times and reserve their rate (realtime), or take what is left over (fast)."""
    window: int
    """Blocks that may be begun before the client has shown the ones before."""
    placement: tuple[str, ...]
    """Worker of each lane of the first stream."""
    streams_by_rate: int | None
    """The streams that the devices' time allows; None for pace fast, which reserves no rate."""
    streams_by_memory: int
    streams: int
    load: float
    """The share of the devices' time that this many realtime streams take; fast ones take all there is."""
    limit_blocks_per_s: float
    """Blocks a second that can be denoised of all streams together: devices / (forwards per block * t)."""
    shed: tuple[Shed, ...]
    """Under load 1, 2, …; empty if the recipe sheds no steps."""
    stream_rate: float
    """Speed of one stream alone, as a multiple of real time."""
    speed_up: float
    """The speed of one stream alone, over its speed on a single device."""
    block_latency_s: float
    """The time from noise to finished latents when nothing else waits."""
    prompt_to_screen_s: tuple[float, float]
    """The time from a new prompt to the first picture that shows it: with empty buffers, and with full ones."""
    between_workers_bytes: int
    """Latents that go from one denoise worker to another, and activations within chains, for each block."""
    to_decoder_bytes: int
    decode_workers: int | None
    """The decode workers that this many streams need; None if the time of a decode is not known."""
    weights_bytes: int
    """The weights on a device that denoises."""
    workspace_bytes: int
    """What its forwards need beside them, its process included."""
    pages_per_worker: int
    pages_bytes: int
    """The pages on a device; of a chain each has its layers' part of all pages."""
    forward_tflop: float
    bytes_per_session: SessionBytes


def plan(model: Model, devices: Devices, pace: Pace, *, window: int = Limits().default_window) -> Plan:
    """What the cell holds; NoCapacity, with the bytes, if the model or one lane of it does not fit a device."""
    cell = _Cell(model, devices, pace)
    lanes = _first_placement(model, devices.replicas, cell.lanes_per_worker)
    # Ops of one lane wait for each other, so within a chain they are not at work on all its devices at once.
    per_lane = cell.forwards / model.recipe.lane_count
    busiest = max(per_lane, max(lanes.count(worker) for worker in lanes) * per_lane / devices.layer_split)
    soonest_s = model.recipe.usual_count * devices.forward_s + devices.decode_s
    return Plan(
        model=model.name,
        devices=devices.count,
        pace=pace.value,
        window=window,
        placement=lanes,
        streams_by_rate=cell.streams_by_rate,
        streams_by_memory=cell.streams_by_memory,
        streams=cell.streams,
        load=cell.load,
        limit_blocks_per_s=cell.limit_blocks_per_s,
        shed=tuple(cell.shed),
        stream_rate=model.geometry.block_s / (busiest * devices.forward_s),
        speed_up=cell.forwards / busiest,
        block_latency_s=model.recipe.usual_count * devices.forward_s,
        prompt_to_screen_s=(soonest_s, window * model.geometry.block_s + soonest_s),
        between_workers_bytes=sum(a != b for a, b in pairwise(lanes)) * cell.sizes.latent + cell.activation_bytes,
        to_decoder_bytes=cell.sizes.latent,
        decode_workers=cell.decode_workers,
        weights_bytes=cell.taken.weights_bytes,
        workspace_bytes=cell.taken.workspace_bytes,
        pages_per_worker=cell.pages_per_worker,
        pages_bytes=cell.pages_per_worker * cell.taken.page_bytes,
        forward_tflop=model.forward_flop / 1e12,
        bytes_per_session=cell.sizes,
    )


class _Cell:
    """How many streams fit, by the formulas above."""

    def __init__(self, model: Model, devices: Devices, pace: Pace) -> None:
        """NoCapacity if no device has room for the weights and a lane."""
        self._model, self._devices, self._reserves = model, devices, pace is Pace.REALTIME
        page_count = model.recipe.page_count
        self.sizes = session_bytes(
            model, value_bytes=devices.value_bytes, latent_value_bytes=devices.latent_value_bytes
        )  # fmt: skip
        self.taken = footprint(model, devices.occupant(Role.DENOISE), lane_pages=page_count)
        free = max(0, devices.memory.usable_bytes - self.taken.fixed_bytes)
        self.lanes_per_worker = free // self.taken.lane_bytes
        self.pages_per_worker = self.lanes_per_worker * page_count
        if not self.lanes_per_worker:
            raise NoCapacity(
                f"a device of {devices.memory_bytes / 1e9:.1f} GB has {free / 1e9:.1f} GB left beside the weights "
                f"({self.taken.weights_bytes / 1e9:.2f} GB) and a workspace of "
                f"{self.taken.workspace_bytes / 1e9:.2f} GB, and one lane takes {self.taken.lane_bytes / 1e9:.2f} GB",
                0.0,
                Lack.PAGES,
            )
        self._graph = Graph(model.recipe)
        self.forwards = self._graph.forwards_per_block
        self.limit_blocks_per_s = self._blocks_per_s(self.forwards)
        self._lane_share = self._share_of_lane(self.forwards)
        boundaries = self.forwards * (devices.layer_split - 1)
        self.activation_bytes = boundaries * model.block_tokens * model.transformer.dim * devices.value_bytes

    @property
    def streams_by_rate(self) -> int | None:
        return self._streams_by_rate(self.forwards)

    @property
    def shed(self) -> Iterator[Shed]:
        steps = self._model.recipe.steps
        for load, entries in enumerate(steps.shed, start=1):
            forwards = self._graph.under(load).forwards
            yield Shed(
                steps=entries,
                forwards_per_block=forwards,
                limit_blocks_per_s=self._blocks_per_s(forwards),
                streams_by_rate=self._streams_by_rate(forwards),
            )

    def _blocks_per_s(self, forwards: int) -> float:
        return self._devices.count / (forwards * self._devices.forward_s)

    def _share_of_lane(self, forwards: int) -> float:
        """The share of a replica's time that a lane takes if a block is so many forwards."""
        lanes, block_s = self._model.recipe.lane_count, self._model.geometry.block_s
        return forwards / lanes * self._devices.share_s / block_s

    def _streams_by_rate(self, forwards: int) -> int | None:
        if not self._reserves:
            return None
        lanes = int(Limits().load_limit / self._share_of_lane(forwards))
        return self._devices.replicas * lanes // self._model.recipe.lane_count

    @property
    def streams_by_memory(self) -> int:
        return self._devices.replicas * self.lanes_per_worker // self._model.recipe.lane_count

    @property
    def streams(self) -> int:
        by_rate, by_memory = self.streams_by_rate, self.streams_by_memory
        return by_memory if by_rate is None else min(by_rate, by_memory)

    @property
    def load(self) -> float:
        if not self._reserves:
            return 1.0
        return self.streams * self._model.recipe.lane_count * self._lane_share / self._devices.replicas

    @property
    def decode_workers(self) -> int | None:
        block_s, decode_s = self._model.geometry.block_s, self._devices.decode_s
        rate = self.streams / block_s if self._reserves else self.limit_blocks_per_s
        return math.ceil(rate * decode_s / Limits().load_limit) if decode_s else None


def _first_placement(model: Model, count: int, lanes_by_memory: int) -> tuple[WorkerId, ...]:
    """Where the server puts the lanes of the first stream; NoCapacity if there is no room for it."""
    rooms = {WorkerId(f"denoise-{number}"): Room(free=lanes_by_memory) for number in range(count)}
    return Ranking(rooms).place(Ask(count=model.recipe.lane_count))
