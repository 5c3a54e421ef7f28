"""Memory: what workers take of the devices they share, and how many sessions that leaves room for.

Theory of operation. Of the free memory of a device a share can be given out. From it come what each worker there takes
once (its process, its weights, its workspace: `Footprint.fixed_bytes`) and what it takes for each lane (pages, K/V of
the prompt, the latents it keeps) or each decoder slot. The workers of a chain hold an equal share of the layers each;
where they agree on others by measurement, the share that is not given out makes up for it.

By itself the cell is sized for as many sessions as fit, but no more than it lets in: every denoise worker has an even
share of their lanes, every decode worker an even share of their slots, because that is how they are placed. Where the
operator says for how many sessions each worker is to have room, that is checked. Sizes are bytes, 1 GB = 10^9.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from longtake.core.errors import InvalidField, Lack, NoCapacity
from longtake.core.plan.measured import MEASURED
from longtake.core.plan.model import Model, session_bytes
from longtake.core.plan.presets import PRESETS
from longtake.core.work import Role, WorkerId

USABLE_MEMORY = 0.92
"""Share of a device's free memory that is given out. The rest is for what allocators lose, and for errors in this."""
CONTEXT_BYTES = 1_000_000_000
"""What a process takes of a GPU before it holds anything: a context, libraries and their workspaces (assumed)."""
PROCESS_BYTES = 300_000_000
"""The same in host memory (0.26 GB were resident with torch 2.13 on x86-64)."""
MOST_SESSIONS = 1_000_000
"""More than any device has room for."""
_MEASURED_VALUE_BYTES = 2
"""What was measured was measured in bfloat16."""
_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory of a device as it is now."""

    total_bytes: int
    free_bytes: int

    @property
    def usable_bytes(self) -> int:
        """What can be given out."""
        return int(self.free_bytes * USABLE_MEMORY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupant:
    """A worker, as far as the memory of its device goes."""

    worker: WorkerId
    role: Role
    chain_length: int = 1
    """How many workers hold the layers of the model together."""
    value_bytes: int
    """Bytes of a weight, of a value in K/V and in the decoder's state, and of an activation."""
    max_batch: int
    """The most ops that one forward serves."""
    process_bytes: int
    """What its process takes of the device before it holds anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedDevice:
    """A device and the workers that share its memory."""

    name: str
    memory: Memory
    occupants: tuple[Occupant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What one worker takes of its device."""

    weights_bytes: int
    workspace_bytes: int
    """Activations of the largest forward (or decode), its process included."""
    page_bytes: int = 0
    """K/V of one latent frame in the layers it holds."""
    lane_bytes: int = 0
    """Everything for one lane: its pages, K/V of its prompt, and the latents of a block."""
    slot_bytes: int = 0
    """The state of one stream's decoder."""

    @property
    def fixed_bytes(self) -> int:
        """What it takes before it holds anything of a session."""
        return self.weights_bytes + self.workspace_bytes


def footprint(model: Model, occupant: Occupant, *, lane_pages: int) -> Footprint:
    """What a worker takes of its device, with so many pages for each lane."""
    value_bytes = occupant.value_bytes
    sizes = session_bytes(model, value_bytes=value_bytes)
    channels = model.geometry.latent_channels
    match occupant.role:
        case Role.DENOISE:
            layers = -(-model.transformer.layers // occupant.chain_length)
            page = sizes.page * layers // model.transformer.layers
            text = sizes.text_kv * layers // model.transformer.layers
            # An op gathers the pages of one layer where they do not lie in one run, batch mates copy their prompts'
            # K/V, and a page on its way to host memory is copied on the device first, because it lies in pieces.
            gathered = model.recipe.window.size * sizes.page // model.transformer.layers
            op = model.block_activations * value_bytes + gathered + text
            together = max(occupant.max_batch, model.recipe.most_together)
            return Footprint(
                weights_bytes=model.transformer.weights(channels, layers) * value_bytes,
                workspace_bytes=occupant.process_bytes + together * op + page,
                page_bytes=page,
                lane_bytes=lane_pages * page + text + sizes.latent,
            )
        case Role.DECODE:
            weights, values = model.decoder.weights(channels), sizes.decoder_state // value_bytes
            if model.tiny is not None:
                weights, values = weights + model.tiny.weights, values + model.tiny.state_values
            kept = 0  # of a clip, while decodes run between its frames
            if model.encoder is not None:
                weights += model.encoder.weights(channels)
                kept = model.encoder.state_values(model.geometry) * value_bytes
            return Footprint(
                weights_bytes=weights * value_bytes,
                workspace_bytes=occupant.process_bytes + _decode_bytes(model, value_bytes) + kept,
                slot_bytes=values * value_bytes,
            )
        case Role.TEXT:
            weights = model.text.weights if model.text else 0
            return Footprint(weights_bytes=weights * value_bytes, workspace_bytes=occupant.process_bytes)


def _decode_bytes(model: Model, value_bytes: int) -> int:
    """What a decode takes at its peak: what was measured, in proportion to the largest activation."""
    measured = PRESETS[MEASURED.preset]
    values = model.decoder.widest_values(model.geometry)
    return (
        MEASURED.decoder_workspace_bytes
        * values
        * value_bytes
        // (measured.decoder.widest_values(measured.geometry) * _MEASURED_VALUE_BYTES)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What the workers of a cell are to have room for."""

    model: Model
    lane_pages: int
    """Pages of each lane: its window, and a spare block if there is one."""
    replicas: int
    """Denoise workers, or chains of them."""
    decoders: int
    max_sessions: int
    """The most sessions that the cell lets in."""
    sessions_per_worker: int | None = None
    """For how many sessions each worker is to have room; None: as many as fit, but not more than are let in."""

    def units(self, role: Role, sessions: int) -> int:
        """Lanes of a denoise worker or slots of a decode worker, for so many sessions: each has room for all of them
        if the operator said how many, else for its share."""
        if role is Role.TEXT:
            return 0
        denoises = role is Role.DENOISE
        units = sessions * self.model.recipe.lane_count if denoises else sessions
        shared_by = 1 if self.sessions_per_worker is not None else (self.replicas if denoises else self.decoders)
        return -(-units // shared_by)

    def capacity(self, role: Role, sessions: int) -> int:
        """The same in pages and slots; 1 for a text worker, which has neither."""
        if role is Role.TEXT:
            return 1
        return self.units(role, sessions) * (self.lane_pages if role is Role.DENOISE else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What the workers on one device take of it together."""

    device: str
    workers: tuple[WorkerId, ...]
    memory: Memory
    weights_bytes: int
    pages: int
    pages_bytes: int
    lanes_bytes: int
    """What lanes need beside their pages: K/V of prompts, latents."""
    slots: int
    slots_bytes: int
    workspace_bytes: int
    fits: int
    """The most sessions that this device has room for, in the meaning of `Sizing.sessions_per_worker`."""

    @property
    def left_bytes(self) -> int:
        """What stays free, of which a part cannot be given out."""
        taken = self.weights_bytes + self.pages_bytes + self.lanes_bytes + self.slots_bytes + self.workspace_bytes
        return self.memory.free_bytes - taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a cell is sized."""

    sessions: int
    """For how many sessions there is room, on each worker or in the cell as a whole (`Sizing.sessions_per_worker`)."""
    capacities: dict[WorkerId, int]
    """Pages or slots of each worker."""
    table: tuple[Holding, ...]


def fit(sizing: Sizing, devices: Sequence[SharedDevice]) -> Fit:
    """Size the workers on `devices` for as many sessions as fit.

    InvalidField if the operator wants more than fit, with the number that does; NoCapacity if not one session fits.
    """
    fillings = [_Filling(sizing, device) for device in devices]
    tightest = min(fillings, key=lambda filling: filling.fits)
    if not tightest.fits:
        raise NoCapacity(f"no session fits: {tightest.reason}", 0.0, Lack.PAGES)
    wanted = sizing.sessions_per_worker
    if wanted is not None and wanted > tightest.fits:
        raise InvalidField("cluster.sessions_per_worker", wanted, f"1 to {tightest.fits}: {tightest.reason}")
    sessions = wanted or min(sizing.max_sessions, tightest.fits)
    return Fit(
        sessions=sessions,
        capacities={
            occupant.worker: sizing.capacity(occupant.role, sessions)
            for device in devices
            for occupant in device.occupants
        },
        table=tuple(filling.holding(sessions) for filling in fillings),
    )


class _Filling:
    """One device, to be filled."""

    def __init__(self, sizing: Sizing, device: SharedDevice) -> None:
        self._sizing = sizing
        self._device = device
        self._prints = [footprint(sizing.model, one, lane_pages=sizing.lane_pages) for one in device.occupants]
        self._fixed_bytes = sum(each.fixed_bytes for each in self._prints)
        usable = device.memory.usable_bytes
        self.fits = (
            bisect_right(range(1, MOST_SESSIONS + 1), usable, key=self._taken) if self._fixed_bytes <= usable else 0
        )
        """The most sessions that it has room for."""

    def _units(self, sessions: int) -> list[int]:
        return [self._sizing.units(occupant.role, sessions) for occupant in self._device.occupants]

    def _taken(self, sessions: int) -> int:
        counted = zip(self._prints, self._units(sessions), strict=True)
        return self._fixed_bytes + sum(units * (each.lane_bytes + each.slot_bytes) for each, units in counted)

    @property
    def reason(self) -> str:
        """Why no more fit."""
        memory, workers = self._device.memory, ", ".join(occupant.worker for occupant in self._device.occupants)
        first = self._taken(1) - self._fixed_bytes
        return (
            f"{self._device.name} has {memory.free_bytes / _GB:.1f} of {memory.total_bytes / _GB:.1f} GB free, "
            f"{memory.usable_bytes / _GB:.1f} GB to give out; {workers} take {self._fixed_bytes / _GB:.2f} GB for "
            f"weights and workspace, and {first / _GB:.3g} GB for the first session"
        )

    def holding(self, sessions: int) -> Holding:
        """What is taken for so many sessions."""
        pages = slots = pages_bytes = lanes_bytes = slots_bytes = 0
        for occupant, each, units in zip(self._device.occupants, self._prints, self._units(sessions), strict=True):
            held = units * self._sizing.lane_pages if occupant.role is Role.DENOISE else 0
            pages += held
            pages_bytes += held * each.page_bytes
            lanes_bytes += units * each.lane_bytes - held * each.page_bytes
            if occupant.role is Role.DECODE:
                slots += units
                slots_bytes += units * each.slot_bytes
        return Holding(
            device=self._device.name,
            workers=tuple(occupant.worker for occupant in self._device.occupants),
            memory=self._device.memory,
            weights_bytes=sum(each.weights_bytes for each in self._prints),
            pages=pages,
            pages_bytes=pages_bytes,
            lanes_bytes=lanes_bytes,
            slots=slots,
            slots_bytes=slots_bytes,
            workspace_bytes=sum(each.workspace_bytes for each in self._prints),
            fits=self.fits,
        )


def rows(table: Sequence[Holding]) -> tuple[str, ...]:
    """The table for people: a line for each device under a line of heads, sizes in GB."""

    def gb(size_bytes: int) -> str:
        return f"{size_bytes / _GB:.2f}"

    heads = "device", "workers", "free", "weights", "pages", "slots", "prompts", "workspace", "left", "fits"
    lines = [
        (
            each.device,
            " ".join(each.workers),
            f"{gb(each.memory.free_bytes)} of {gb(each.memory.total_bytes)}",
            gb(each.weights_bytes),
            f"{each.pages} = {gb(each.pages_bytes)}",
            f"{each.slots} = {gb(each.slots_bytes)}",
            gb(each.lanes_bytes),
            gb(each.workspace_bytes),
            gb(each.left_bytes),
            "-" if each.fits == MOST_SESSIONS else str(each.fits),
        )
        for each in table
    ]
    cells = [heads, *lines]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    return tuple(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
