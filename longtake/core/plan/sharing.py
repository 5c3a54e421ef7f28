"""Decoders on the devices that denoise: what is left for streams when forwards and decoding share a device.

Theory of operation. A device that serves both spends on each block

    forwards per block * t + V * d (1 - 1 / f)

where V is the time of a decode alone, d how many times longer it takes beside forwards, and f how many times longer
those take meanwhile: a decode that lasts V d leaves forwards 1 / f of that time. Admission does not know of this: it
believes what each worker measured while it was alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from longtake.core.errors import NoCapacity
from longtake.core.limits import Limits
from longtake.core.plan.measured import MEASURED, Measured
from longtake.core.plan.memory import MOST_SESSIONS, SharedDevice, Sizing, fit, footprint
from longtake.core.plan.model import Model
from longtake.core.plan.plan import Devices, Plan
from longtake.core.recipe.graph import Graph
from longtake.core.work import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What devices hold that denoise and decode."""

    block_s: float
    """What one block takes of a device, forwards and decoding."""
    decode_share: float
    """The part of it that decoding takes, forwards' delay by it included."""
    blocks_per_s: float
    """All streams together, at most."""
    streams: int
    """Of pace realtime: at most as many as time and memory allow; else as many as memory allows."""
    streams_by_memory: int
    device_bytes: int
    """Weights and workspace of both on a device, beside pages and slots."""
    verdict: str
    """In words: the time of a block; of realtime streams whether one fits, and if not, what would make room for it."""


def shared(model: Model, devices: Devices, made: Plan, measured: Measured = MEASURED) -> Shared | None:
    """What `devices` hold if they decode, too; `made` is their plan. None if the time of a decode is not known."""
    if not devices.decode_s:
        return None
    forwards = Graph(model.recipe).forwards_per_block
    decoding_s = devices.decode_s * measured.slower_decode * (1 - 1 / measured.slower_denoise)
    block_s = forwards * devices.forward_s + decoding_s
    by_memory = _by_memory(model, devices)
    by_rate = None
    if made.streams_by_rate is not None:  # which knows that a lane lives on one worker
        room_s = devices.count * Limits().load_limit * model.geometry.block_s
        by_rate = 0 if _is_late(devices, made) else min(made.streams_by_rate, int(room_s / block_s))
    return Shared(
        block_s=block_s,
        decode_share=decoding_s / block_s,
        blocks_per_s=devices.count / block_s,
        streams=by_memory if by_rate is None else min(by_rate, by_memory),
        streams_by_memory=by_memory,
        device_bytes=sum(
            footprint(model, devices.occupant(role), lane_pages=model.recipe.page_count).fixed_bytes
            for role in (Role.DENOISE, Role.DECODE)
        ),
        verdict=_verdict(model, devices, made, decoding_s, by_rate),
    )


def _by_memory(model: Model, devices: Devices) -> int:
    """What the server would have room for, with a decoder on every device."""
    sizing = Sizing(
        model=model,
        lane_pages=model.recipe.page_count,
        replicas=devices.replicas,
        decoders=devices.count,
        max_sessions=MOST_SESSIONS,
    )
    both = devices.occupant(Role.DENOISE), devices.occupant(Role.DECODE)
    try:
        return fit(sizing, [SharedDevice(name="a device", memory=devices.memory, occupants=both)]).sessions
    except NoCapacity:
        return 0


def _is_late(devices: Devices, made: Plan) -> bool:
    """Whether one stream is too slow although there are more devices: its forwards wait for each other."""
    return devices.count > 1 and made.stream_rate < 1


def _verdict(model: Model, devices: Devices, made: Plan, decoding_s: float, by_rate: int | None) -> str:
    forwards, due_s = Graph(model.recipe).forwards_per_block, model.geometry.block_s
    room_s, forwards_s = Limits().load_limit * due_s, forwards * devices.forward_s
    takes = f"a block takes {forwards_s + decoding_s:.3f} s of a device"
    if by_rate is None:
        return takes
    if _is_late(devices, made):
        return (
            f"not one realtime stream: its forwards wait for each other, alone it is {made.stream_rate:.2f} x real time"
        )
    takes += f" and one is due every {due_s:.3f} s"
    if by_rate:
        return f"{by_rate} realtime by time: {takes}"
    needed, ways = math.ceil((forwards_s + decoding_s) / room_s), []
    if devices.count < needed <= model.recipe.lane_count:
        ways.append(f"{needed} devices")
    if forwards_s <= devices.count * room_s:
        ways.append("decoders on a device of their own")
    forward_s = (devices.count * room_s - decoding_s) / forwards
    if forward_s > 0:
        ways.append(f"forwards of {1000 * forward_s:.1f} ms, now {1000 * devices.forward_s:.1f}")
    reserve = f"{Limits().load_limit:.0%} of a device may be reserved"
    return f"not one realtime stream: {takes}, {reserve}; it would take {', or '.join(ways) or 'another card'}"
