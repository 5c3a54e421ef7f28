"""A denoise worker as it is served, behind its Runner: whole blocks, the device's idle time, waits, and memory."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterable, Iterator

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.kernels import profiled
from benchmarks.gpu.model import model_folder
from benchmarks.gpu.spans import Spans, summary
from benchmarks.process_use import own_rss_bytes
from longtake.core.recipe.graph import Graph
from longtake.core.recipe.ops import Chain, Kind
from longtake.core.recipe.positions import Bias
from longtake.core.work import (
    ConditioningRef,
    DispatchNumber,
    ForwardWork,
    FromLane,
    FromLatent,
    FromNoise,
    Input,
    LatentRef,
    NoiseKey,
    PageId,
    Pages,
    Role,
    SessionId,
    WorkerId,
)
from workers.messages import Done, Forward, Shutdown, StartOver, Task, Up
from workers.runner import Runner
from workers.start.loading import LoadedWorker
from workers.start.spec import WorkerSpec

_SESSION = SessionId("measured")
_QUEUED = 2
"""A worker holds one running and at most one queued dispatch."""
_BLOCKS_A_TIME = 2
_FLAT_BLOCKS = 50
_SPARE_S = 2.0
_REPORT_S, _END_S = 60.0, 30.0


def run(bench: Bench) -> None:
    """All steps."""
    spans = Spans(bench)
    recipe = bench.info.recipe
    spec = WorkerSpec(
        worker=WorkerId("measured"), role=Role.DENOISE, capacity=recipe.lane_count * recipe.page_count,
        model=model_folder(bench), compute=bench.compute,
    )  # fmt: skip
    with spans.watching():
        loaded = LoadedWorker(spec)
    stream = Stream(bench, loaded)
    try:
        bench.step("blocks", lambda: _blocks(bench, stream), need_s=15)
        bench.step("ops", lambda: _ops(bench, stream, spans))
        if bench.has_cuda:  # beside a CPU the profiler sees its own thread alone
            bench.step("device over a block", lambda: _device(bench, stream))
        bench.step("memory", lambda: _memory(bench, stream))
    finally:
        stream.end()


class Stream:
    """One session whose window is full, whose ops a worker is given as an engine would give them."""

    def __init__(self, bench: Bench, loaded: LoadedWorker) -> None:
        self._graph = Graph(bench.info.recipe)
        self._features = torch.randn(bench.info.text_rows, bench.info.text_width).numpy().astype("<f4").tobytes()
        self._reports: queue.SimpleQueue[Up | StartOver | str] = queue.SimpleQueue()
        self._given: deque[ForwardWork] = deque()
        self._latents = b""
        self._sequence = 0
        window = self._graph.window
        self.block = window.blocks.block_of(window.size - 1)
        """The next block."""
        worker = loaded.fresh()
        for page in range(bench.info.recipe.lane_count * window.size):
            worker.page(PageId(page)).normal_()  # what earlier blocks would have left
        self._runner = Runner(worker, self._reports.put, self._reports.put)
        self._runner.start()
        self.play(1)  # the text is encoded with the first op

    def play(self, blocks: int) -> None:
        """Have the next blocks denoised and committed; returns when all is reported. RuntimeError if an op fails."""
        for block in range(self.block, self.block + blocks):
            for chain in self._chains():
                work = self._work(chain, block)
                while len(self._given) >= _QUEUED or (isinstance(work.input, FromLatent) and self._awaits_latents()):
                    self._take()
                latents = self._latents if isinstance(work.input, FromLatent) else b""
                order = Forward(work=work, latents=latents, conditioning=self._features)
                self._runner.put(Task(sequence=DispatchNumber(self._sequence), order=(order,)))
                self._sequence += 1
                self._given.append(work)
        while self._given:
            self._take()
        self.block += blocks

    def end(self) -> None:
        """End the worker and its threads."""
        self._runner.put(Shutdown())
        self._runner.join(_END_S)

    def _chains(self) -> Iterator[Chain]:
        """A block's ops in order: each denoise op, and behind it the commit that starts from what it leaves, if any."""
        for step in range(self._graph.step_count):
            yield self._graph.chains[self._graph.first + step]
            readers = self._graph.readers(step + 1)
            if readers is not None and readers.commit is not None:
                yield self._graph.chains[readers.commit]

    def _work(self, chain: Chain, block: int) -> ForwardWork:
        window, lane = self._graph.window, chain.lane or 0
        source: Input = FromLatent(LatentRef(session=_SESSION, block=block, step=chain.entered_step))
        if chain.input_is_in_lane:
            source = FromLane()
        elif not chain.entered_step:
            source = FromNoise()

        def pages(slots: Iterable[int]) -> tuple[PageId, ...]:
            return tuple(PageId(lane * window.size + slot) for slot in slots)

        places = self._graph.places(block)
        return ForwardWork(
            session=_SESSION,
            lane=lane,
            op=self._graph.op(chain.number, block),
            pages=Pages(reads=pages(range(window.count(block))), writes=pages(window.own_slots(block))),
            times=chain.times,
            positions=places.queries,
            key_positions=places.keys,
            read_turns=places.read,
            bias=Bias(self._graph.recipe.positions.slope, places.seen),
            noise=NoiseKey(seed=1, block=block),
            conditioning=ConditioningRef(session=_SESSION, version=0),
            input=source,
            returns=chain.returns,
            enters=chain.step + 1 if chain.kind is Kind.DENOISE else 0,
        )

    def _awaits_latents(self) -> bool:
        """Whether a denoise op is yet to be reported: from its latents the next one starts."""
        return any(work.kind is Kind.DENOISE for work in self._given)

    def _take(self) -> None:
        """Wait for the next report; queue.Empty if none comes."""
        report = self._reports.get(timeout=_REPORT_S)
        self._given.popleft()
        if not isinstance(report, Done):
            raise RuntimeError(f"the worker reported {str(report)[:300]}")
        if report.outputs:
            (self._latents,) = report.outputs


def _blocks(bench: Bench, stream: Stream) -> None:
    stream.play(_BLOCKS_A_TIME)
    times = bench.clocked(lambda: stream.play(_BLOCKS_A_TIME))
    bench.fact("a block", **times.divided(_BLOCKS_A_TIME).fields(), level=bench.info.recipe.level.value)


def _ops(bench: Bench, stream: Stream, spans: Spans) -> None:
    spans.start()
    stream.play(_BLOCKS_A_TIME)
    seen = spans.stop()
    bench.fact("ops", ops_a_block=len(seen) / _BLOCKS_A_TIME, **summary(seen))


def _device(bench: Bench, stream: Stream) -> None:
    wall_ms = bench.clocked(lambda: stream.play(1)).ms
    seen = profiled(bench, lambda: stream.play(1))
    copies = sum(kernel.count for kernel in seen.kernels if "memcpy" in kernel.name.lower())
    bench.fact(
        "device over a block", wall_ms=wall_ms, busy_ms=seen.busy_ms, idle_share=1 - seen.busy_ms / wall_ms,
        ms_by_class=seen.by_class(), waits=seen.waits or None, copies=copies,
    )  # fmt: skip


def _memory(bench: Bench, stream: Stream) -> None:
    """Whether anything grows with a stream's length; as many blocks as there is time for."""
    blocks, block_s = 0, 0.0
    stream.play(_BLOCKS_A_TIME)  # torch takes again what the step before gave back to the device when it ended
    before, resident = bench.held(), own_rss_bytes()
    while blocks < _FLAT_BLOCKS and bench.left_s() > _SPARE_S + block_s:
        block_s = bench.clocked(lambda: stream.play(1), runs=1).ms / 1e3
        blocks += 1
    after = bench.held()
    bench.fact(
        "memory", blocks=blocks, flat=before == after if before else None, before=before, after=after,
        resident_grown_mb=(own_rss_bytes() - resident) / 1e6,
    )  # fmt: skip
