"""One rank of a process group, as workers make them: NCCL on a GPU, gloo on a CPU. Two GPUs would tell more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from benchmarks.gpu.bench import Bench
from workers.peers import MeetingPoint

c10d: Any = torch.distributed
"""torch's c10d without types: its stubs lack what is used here."""
_TIMEOUT = timedelta(seconds=20)


def run(bench: Bench) -> None:
    """All steps."""
    bench.step("one rank", lambda: _alone(bench))


def _alone(bench: Bench) -> None:
    """What passes between layer-split workers, summed over one rank: the same numbers must come out."""
    meeting = MeetingPoint()
    host, _, port = meeting.address.rpartition(":")
    store = c10d.PrefixStore("alone", c10d.TCPStore(host, int(port), is_master=False))
    kind = c10d.ProcessGroupNCCL if bench.has_cuda else c10d.ProcessGroupGloo
    options = kind.Options() if bench.has_cuda else kind._Options()
    options._timeout = _TIMEOUT
    if not bench.has_cuda:
        options._devices = [kind.create_device(hostname=host)]
    group = kind(store, 0, 1, options)
    frames, dim = bench.info.recipe.blocks.frames, bench.info.dit.dim
    with torch.inference_mode(False), torch.no_grad():
        x_LE = torch.randn(frames * bench.info.geometry.tokens_per_frame, dim, device=bench.device)
        y_LE = x_LE.clone()
        first_ms = bench.clocked(lambda: group.allreduce([y_LE]).wait(), runs=1).ms
        later = bench.timed(lambda: group.allreduce([y_LE]).wait())
        bench.fact("one rank", kind=kind.__name__, first_ms=first_ms, later_ms=later.ms, equal=torch.equal(x_LE, y_LE))
