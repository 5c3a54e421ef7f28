"""Orders to workers as tests give them, and what is answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from longtake.core.recipe.ops import Kind
from longtake.core.work import (
    ConditioningRef,
    DecodeWork,
    DispatchNumber,
    ForwardWork,
    FromNoise,
    PageId,
    Role,
    SegmentSettings,
    SessionId,
    WorkerId,
)
from tests.workers.works import Flat, changed
from workers.messages import Decode, Done, Forward, Task
from workers.orders import Answer, Later
from workers.start.spec import WorkerSpec

SESSION = SessionId("s")
RAW = SegmentSettings(codec="raw", quality=0)
SPEC = WorkerSpec(worker=WorkerId("denoise-0"), role=Role.DENOISE, capacity=15, model=Path("unset"))
TEXT = ConditioningRef(session=SESSION, version=0)
PROMPT = "a red ball resting in the fog"


def work(kind: Kind = Kind.DENOISE, **changes: object) -> ForwardWork:
    base = Flat(
        session=SESSION,
        lane=0,
        kind=kind,
        step=0,
        block=0,
        timestep=1000.0,
        sigma=1.0,
        next_sigma=0.9375,
        seed=5,
        positions=(0, 1),
        reads=(PageId(0), PageId(1)),
        writes=(PageId(0), PageId(1)),
        conditioning=TEXT,
        input=FromNoise(),
    ).work()
    return changed(base, **changes)  # type: ignore[arg-type]


def task(order: ForwardWork | DecodeWork, *, number: int = 0, latents: bytes = b"", text: bytes = b"") -> Task:
    if isinstance(order, DecodeWork):
        return Task(sequence=DispatchNumber(number), order=Decode(work=order, latents=latents))
    return batch(Forward(work=order, latents=latents, conditioning=text), number=number)


def batch(*items: Forward, number: int = 0) -> Task:
    return Task(sequence=DispatchNumber(number), order=items)


def done(reports: Iterator[Answer]) -> Done:
    (report,) = reports
    made = report.made() if isinstance(report, Later) else report
    assert isinstance(made, Done)
    return made


def output(reports: Iterator[Answer]) -> bytes:
    (made,) = done(reports).outputs
    return made
