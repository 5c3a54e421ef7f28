"""The thread that gives a device its ops never waits for it: calls that would make it wait are counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from longtake.core.recipe.ops import Kind, Returns
from longtake.core.work import FromLane, FromLatent, FromNoise, LatentRef, PageId
from tests.workers.orders import SESSION, batch, work
from tests.workers.waits import Waits
from tests.workers.works import changed
from workers.denoise import noise
from workers.denoise.worker import DenoiseWorker
from workers.device_work import DeviceWork
from workers.messages import Done, Forward
from workers.orders import Later


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda t: t.item(), "item"),
        (lambda t: t.to("cpu"), "to"),
        (lambda t: t.to(device=torch.device("cpu")), "to"),
        (lambda t: torch.tensor([1.0], device=t.device), "tensor"),
        (lambda t: t.view(1)[[0]], "__getitem__"),
        (lambda t: t.view(1)[t.view(1) > 0], "__getitem__"),
        (lambda t: t.view(1).__setitem__([0], 2.0), "__setitem__"),
        (lambda t: bool(t), "__bool__"),
        (lambda t: torch.equal(t, t), "equal"),
    ],
)
def test_every_kind_of_call_that_waits_is_noted(call: Callable[[Tensor], object], name: str) -> None:
    with Waits() as waits:
        call(torch.ones(()))
    assert name in waits.calls


def test_calls_that_do_not_wait_are_not_noted() -> None:
    tensor = torch.ones(2, 2)
    with Waits() as waits:
        tensor.to(torch.float64)
        tensor.to("cpu", non_blocking=True)
        torch.tensor([1.0])
        torch.zeros(2, device="cpu")
        tensor[0] = tensor[1]
        tensor[None, :, 0]
    assert waits.calls == []


def orders() -> dict[str, tuple[Forward, ...]]:
    """Batches of every shape that a worker meets: inputs of all kinds, pages in a run and not, kinds mixed."""
    scattered = (PageId(4), PageId(2))
    latents = torch.randn(2, 4, 4, 4).numpy().tobytes()
    travelled = FromLatent(LatentRef(session=SESSION, block=0, step=1))
    more, own = tuple(map(PageId, (6, 7, 8, 9))), (PageId(8), PageId(9))
    noise = Forward(work=work())
    far = Forward(work=work(lane=1, input=travelled, reads=more, writes=own), latents=latents)
    last = Forward(work=work(lane=2, next_sigma=None, reads=scattered, writes=scattered))
    commit = Forward(work=work(Kind.COMMIT, lane=0, input=FromLane()))
    return {
        "noise": (noise,),
        "scattered": (last,),
        "travelled": (far,),
        "batch": (noise, far, last),
        "commit": (commit,),
        "commit beside a denoise op": (commit, last),
        "an output that nobody wants": (Forward(work=changed(noise.work, returns=Returns.NOTHING)),),
    }


@pytest.fixture
def asynchronous(denoiser: DenoiseWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the worker's device one that is still busy when its ops have been given, and takes roots by itself."""
    monkeypatch.setattr(DeviceWork, "is_over", False)
    monkeypatch.setattr(noise, "square_root", torch.sqrt)


@pytest.mark.usefixtures("asynchronous")
@pytest.mark.parametrize("name", list(orders()))
def test_no_op_waits_for_the_device(denoiser: DenoiseWorker, text: bytes, name: str) -> None:
    list(denoiser.perform(batch(Forward(work=work(input=FromNoise()), conditioning=text))))
    order = batch(*orders()[name], number=1)
    with Waits() as waits:
        (later,) = denoiser.perform(order)
    assert waits.calls == []
    assert isinstance(later, Later)
    made = later.made()
    assert isinstance(made, Done)
    assert len(made.outputs) == sum(forward.work.returns.are_sent for forward in orders()[name])
    assert made.seconds > 0


@pytest.mark.usefixtures("asynchronous")
def test_a_new_prompt_does_not_wait_either(denoiser: DenoiseWorker, text: bytes) -> None:
    with Waits() as waits:
        list(denoiser.perform(batch(Forward(work=work(), conditioning=text))))
    assert waits.calls == []
