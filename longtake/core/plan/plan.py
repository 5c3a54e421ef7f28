"""Planning: what a cell of given devices can hold of a given model, in numbers, before anything is bought or started.

Theory of operation. Nothing is estimated that the server decides itself: lanes are placed by `Ranking.place`, the limit
is `Limits.load_limit`, a lane costs `forwards_per_block / lane_count` forwards a block and `Recipe.page_count` pages.
Workers are alike, so the least loaded one is always filled evenly and the streams that fit are

    floor(G * floor(load limit / (forwards per lane * t / block time)) / lanes)     by rate (live streams only)
    floor(G * floor(pages per worker / pages per lane) / lanes)                     by memory

with the whole-number part taken per worker first, because a lane lives on one worker. Formulas of size and work are
those of the transformer itself (weights, K/V, floating-point operations of a forward with a full window) and of the
causal decoder (two frames carried by every convolution). Sizes are bytes, 1 GB = 10^9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from longtake.core.errors import InvalidField, Lack, NoCapacity
from longtake.core.fleet.placement import Ask, Ranking, Room
from longtake.core.limits import Limits
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import WorkerId

USABLE_MEMORY = 0.92
"""Share of a device's memory that can be allocated."""
WORKSPACE_BYTES = 4_000_000_000
"""Memory for activations, workspaces and contexts, beside weights and pages."""


class ServiceClass(Enum):
    """What a stream is for; it decides whether time is reserved and how far it runs ahead."""

    INTERACTIVE = "interactive"
    """Live, two blocks ahead at most: a new prompt shows soon."""
    CINEMA = "cinema"
    """Live, eight blocks ahead: a stall of seconds does not show."""
    BULK = "bulk"
    """Files: no rate is reserved, the client takes what is left over."""

    @property
    def is_live(self) -> bool:
        """Whether streams of this class have due times."""
        return self is not ServiceClass.BULK

    @property
    def window(self) -> int:
        """Blocks that may be begun before the client has shown the ones before."""
        return {ServiceClass.INTERACTIVE: 2, ServiceClass.CINEMA: 8, ServiceClass.BULK: 4}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerShape:
    """Sizes of the denoiser."""

    dim: int
    ffn_dim: int
    layers: int
    text_tokens: int
    text_dim: int
    freq_dim: int
    patch_values: int = 4
    """Latent pixels of one token."""

    def weights(self, latent_channels: int) -> int:
        """Number of weights: attention to self and text, feed-forward, norms and modulation, embeddings and head."""
        dim = self.dim
        attention = 4 * (dim * dim + dim) + 2 * dim
        layer = 2 * attention + 2 * dim * self.ffn_dim + self.ffn_dim + dim + 6 * dim + 2 * dim
        patch = self.patch_values * latent_channels
        time = self.freq_dim * dim + dim + dim * dim + dim + 6 * dim * dim + 6 * dim
        text = self.text_dim * dim + dim + dim * dim + dim
        head = dim * patch + patch + 2 * dim
        return self.layers * layer + patch * dim + dim + time + text + head


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """Sizes of the causal decoder (Wan2.1 technical report, section 4.1)."""

    dim: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    temporal_upsample: tuple[bool, ...]
    """For each of the doublings of rows and columns, whether frames are doubled too."""

    def state_values(self, geometry: Geometry) -> int:
        """Numbers that one stream carries from block to block: two frames before every causal convolution."""
        pixels = geometry.latent_height * geometry.latent_width
        widths = [self.dim * factor for factor in (self.dim_mult[-1], *reversed(self.dim_mult))]
        carried = pixels * (geometry.latent_channels + 4 * widths[0])  # first convolution, two residual blocks
        for stage, (entering, leaving) in enumerate(pairwise(widths)):
            channels = entering if stage == 0 else entering // 2
            for _ in range(self.num_res_blocks + 1):
                carried += pixels * (channels + leaving)
                channels = leaving
            if stage < len(self.temporal_upsample):
                carried += pixels * leaving * self.temporal_upsample[stage]
                pixels *= 4
        return 2 * (carried + pixels * widths[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as numbers."""

    name: str
    recipe: Recipe
    geometry: Geometry
    transformer: TransformerShape
    decoder: DecoderShape

    @property
    def window_tokens(self) -> int:
        """Keys that a forward with a full window attends to."""
        return self.recipe.page_count * self.geometry.tokens_per_frame

    @property
    def block_tokens(self) -> int:
        """Queries of a forward."""
        return self.recipe.blocks.frames * self.geometry.tokens_per_frame

    @property
    def forward_flop(self) -> float:
        """Floating-point operations of one forward with a full window: linear, self-attention, text attention."""
        shape, tokens = self.transformer, self.block_tokens
        linear = 2 * tokens * (6 * shape.dim**2 + 2 * shape.dim * shape.ffn_dim)
        attention = 4 * tokens * (self.window_tokens + shape.text_tokens) * shape.dim
        return float(shape.layers * (linear + attention))


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The hardware of a cell."""

    count: int
    """Denoise workers, one device each."""
    memory_bytes: int
    forward_s: float
    """Time of one forward with a full window, measured or modelled."""
    decode_s: float = 0.0
    """Time to decode and encode one block; 0: not known."""
    value_bytes: int = 2
    """Bytes of a weight, of a value in K/V and in the decoder's state."""
    latent_value_bytes: int = 4
    """Bytes of a value of a latent on the link and in the journal."""

    def __post_init__(self) -> None:
        for name, value in (("count", self.count), ("memory", self.memory_bytes), ("forward", self.forward_s)):
            if not 0 < value < math.inf:
                raise InvalidField(f"devices.{name}", value, "a number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBytes:
    """What one session occupies, wherever it lies."""

    page: int
    """K/V of one latent frame in one lane."""
    kv_past: int
    """K/V of past frames, all lanes: what a stream is between two blocks."""
    kv_reserved: int
    """Pages reserved for it: the past frames and the block in flight."""
    text_kv: int
    """Cross-attention K/V of one prompt, on each worker that has one of its lanes."""
    decoder_state: int
    latent: int
    """Latents of one block."""
    journal: int
    """Latents from which all pages can be computed again exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the cell can hold. Streams are whole numbers, times seconds."""

    model: str
    devices: int
    service: str
    placement: tuple[str, ...]
    """Worker of each lane of the first stream."""
    streams_by_rate: int | None
    """The streams that the devices' time allows; None for a class that reserves no rate."""
    streams_by_memory: int
    streams: int
    load: float
    """The share of the devices' time that this many live streams take; bulk streams take all there is."""
    limit_blocks_per_s: float
    """Blocks a second of all streams together: devices / (forwards per block * t)."""
    stream_rate: float
    """Speed of one stream alone, as a multiple of real time."""
    speed_up: float
    """The speed of one stream alone, over its speed on a single device."""
    block_latency_s: float
    """The time from noise to finished latents when nothing else waits."""
    prompt_to_screen_s: tuple[float, float]
    """The time from a new prompt to the first picture that shows it: with empty buffers, and with full ones."""
    between_workers_bytes: int
    """Latents that go from one denoise worker to another, for each block."""
    to_decoder_bytes: int
    decode_workers: int | None
    """The decode workers that this many streams need; None if the time of a decode is not known."""
    weights_bytes: int
    pages_per_worker: int
    forward_tflop: float
    bytes_per_session: SessionBytes


def session_bytes(model: Model, devices: Devices) -> SessionBytes:
    """Sizes of everything that belongs to one session."""
    recipe, geometry, shape = model.recipe, model.geometry, model.transformer
    page = geometry.tokens_per_frame * shape.dim * 2 * devices.value_bytes * shape.layers
    past = max(0, recipe.page_count - recipe.blocks.frames)
    latent = math.prod(geometry.block_shape) * devices.latent_value_bytes
    return SessionBytes(
        page=page,
        kv_past=recipe.lane_count * past * page,
        kv_reserved=recipe.lane_count * recipe.page_count * page,
        text_kv=shape.text_tokens * shape.dim * 2 * devices.value_bytes * shape.layers,
        decoder_state=model.decoder.state_values(geometry) * devices.value_bytes,
        latent=latent,
        # K/V of layer l at a block depend on history_blocks * l earlier blocks: so many must be replayed to be exact.
        journal=recipe.lane_count * latent * recipe.history_blocks * shape.layers,
    )


def plan(model: Model, devices: Devices, service: ServiceClass) -> Plan:
    """What the cell holds; NoCapacity, with the bytes, if the model or one lane of it does not fit a device."""
    cell = _Cell(model, devices, service)
    lanes = _first_placement(model, devices.count, cell.lanes_per_worker)
    busiest = max(lanes.count(worker) for worker in lanes) * cell.forwards / model.recipe.lane_count
    soonest_s = model.recipe.step_count * devices.forward_s + devices.decode_s
    return Plan(
        model=model.name,
        devices=devices.count,
        service=service.value,
        placement=lanes,
        streams_by_rate=cell.streams_by_rate,
        streams_by_memory=cell.streams_by_memory,
        streams=cell.streams,
        load=cell.load,
        limit_blocks_per_s=cell.limit_blocks_per_s,
        stream_rate=model.geometry.block_s / (busiest * devices.forward_s),
        speed_up=cell.forwards / busiest,
        block_latency_s=model.recipe.step_count * devices.forward_s,
        prompt_to_screen_s=(soonest_s, service.window * model.geometry.block_s + soonest_s),
        between_workers_bytes=sum(a != b for a, b in pairwise(lanes)) * cell.sizes.latent,
        to_decoder_bytes=cell.sizes.latent,
        decode_workers=cell.decode_workers,
        weights_bytes=cell.weights_bytes,
        pages_per_worker=cell.pages_per_worker,
        forward_tflop=model.forward_flop / 1e12,
        bytes_per_session=cell.sizes,
    )


class _Cell:
    """How many streams fit, by the formulas above."""

    def __init__(self, model: Model, devices: Devices, service: ServiceClass) -> None:
        """NoCapacity if no device has room for the weights and a lane."""
        self._model, self._devices, self._service = model, devices, service
        page_count, self.sizes = model.recipe.page_count, session_bytes(model, devices)
        self.weights_bytes = model.transformer.weights(model.geometry.latent_channels) * devices.value_bytes
        free = max(0, int(devices.memory_bytes * USABLE_MEMORY) - WORKSPACE_BYTES - self.weights_bytes)
        self.pages_per_worker = free // self.sizes.page
        self.lanes_per_worker = self.pages_per_worker // page_count
        if not self.lanes_per_worker:
            raise NoCapacity(
                f"a device of {devices.memory_bytes / 1e9:.1f} GB has {free / 1e9:.1f} GB left beside the weights "
                f"({self.weights_bytes / 1e9:.2f} GB) and one lane takes {page_count * self.sizes.page / 1e9:.2f} GB",
                0.0,
                Lack.PAGES,
            )
        self.forwards = Graph(model.recipe).forwards_per_block
        self.limit_blocks_per_s = devices.count / (self.forwards * devices.forward_s)
        self._lane_share = self.forwards / model.recipe.lane_count * devices.forward_s / model.geometry.block_s

    @property
    def streams_by_rate(self) -> int | None:
        if not self._service.is_live:
            return None
        return self._devices.count * int(Limits().load_limit / self._lane_share) // self._model.recipe.lane_count

    @property
    def streams_by_memory(self) -> int:
        return self._devices.count * self.lanes_per_worker // self._model.recipe.lane_count

    @property
    def streams(self) -> int:
        by_rate, by_memory = self.streams_by_rate, self.streams_by_memory
        return by_memory if by_rate is None else min(by_rate, by_memory)

    @property
    def load(self) -> float:
        if not self._service.is_live:
            return 1.0
        return self.streams * self._model.recipe.lane_count * self._lane_share / self._devices.count

    @property
    def decode_workers(self) -> int | None:
        block_s, decode_s = self._model.geometry.block_s, self._devices.decode_s
        rate = self.streams / block_s if self._service.is_live else self.limit_blocks_per_s
        return math.ceil(rate * decode_s / Limits().load_limit) if decode_s else None


def _first_placement(model: Model, count: int, lanes_by_memory: int) -> tuple[WorkerId, ...]:
    """Where the server puts the lanes of the first stream; NoCapacity if there is no room for it."""
    rooms = {WorkerId(f"denoise-{number}"): Room(free=lanes_by_memory) for number in range(count)}
    return Ranking(rooms).place(Ask(count=model.recipe.lane_count))
