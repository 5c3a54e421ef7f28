"""Workers that were given up and do not come back are ended, and new processes take their places."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Literal

import pytest

from cluster.config import ClusterSection
from cluster.launch import absences
from cluster.launch.absences import BACK_S, CHAINED_S, Absences
from cluster.launch.plan import LaunchPlan
from longtake.core.awake import TURN_S
from longtake.core.endings import Ending
from longtake.core.work import Continuity, WorkerId
from tests.cluster.cell.world import expected_hashes, stream, until_sent
from tests.cluster.launch.cells import LONG, LONG_BLOCKS, PROMPT, STRUCK_AT, cell, closed, specs
from tests.cluster.served import Server
from tests.workers.model_dir import write_model

START_S = 60.0
ONE, OTHER = WorkerId("denoise-0"), WorkerId("denoise-1")


class Watch:
    """Looks in time, at absences that the test notes."""

    def __init__(self) -> None:
        self.absences = Absences(START_S)
        self.now_s = 0.0
        self.absences.overdue(0.0)

    def run(self, seconds: float, *, turn_s: float = TURN_S) -> list[tuple[WorkerId, float]]:
        """Who is to be ended within so long, and when."""
        found = []
        for _ in range(round(seconds / turn_s)):
            self.now_s += turn_s
            found += [(worker, self.now_s) for worker in self.absences.overdue(self.now_s)]
        return found


def test_who_was_given_up_is_ended_unless_it_comes_back_and_its_successor_has_time_to_start() -> None:
    watch = Watch()
    watch.absences.given_up(ONE, chained=False)
    watch.absences.given_up(OTHER, chained=False)
    assert watch.run(BACK_S) == []
    watch.absences.came(OTHER)
    assert watch.run(START_S) == [(ONE, BACK_S + TURN_S)]
    assert watch.run(2 * TURN_S) == [(ONE, BACK_S + START_S + 2 * TURN_S)], "a process that never attaches"
    watch.absences.came(ONE)
    assert watch.run(10 * START_S) == []


def test_one_of_a_chain_may_wait_for_the_one_that_hangs_and_a_broken_link_for_a_new_process() -> None:
    watch = Watch()
    watch.absences.given_up(ONE, chained=True)
    watch.absences.starts(OTHER)
    assert watch.run(CHAINED_S + START_S - 1) == [(ONE, CHAINED_S + TURN_S), (OTHER, START_S + TURN_S)]


def test_a_pause_of_the_engine_ends_nobody() -> None:
    watch = Watch()
    watch.absences.given_up(ONE, chained=False)
    assert watch.run(3600.0, turn_s=3600.0) == []
    assert watch.run(BACK_S - 2 * TURN_S) == []
    assert watch.run(4 * TURN_S) != []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["subprocess", pytest.param("ray", marks=pytest.mark.ray)])
async def test_a_worker_that_is_stopped_is_replaced_and_its_stream_goes_on_bit_for_bit(
    model: Path, kind: Literal["subprocess", "ray"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absences, "BACK_S", 2.0)
    async with cell(LaunchPlan(cluster=ClusterSection(launch=kind), workers=specs(model, denoise=2))) as made:
        task = asyncio.create_task(stream(made.engine, "struck", PROMPT, picture_limit=LONG))
        await until_sent(made.engine, STRUCK_AT)
        stopped = (await made.pids())[OTHER]
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert closed(await task).ending is Ending.COMPLETED
            assert made.hashes.of("struck") == expected_hashes(made.model, {0: PROMPT}, 7, LONG_BLOCKS)
            assert made.hashes.recoveries("struck") == [Continuity.EXACT]
            await made.until_joined(OTHER)
            async with asyncio.timeout(30):
                while (replaced := (await made.pids()).get(OTHER)) in (None, stopped):
                    await asyncio.sleep(0.1)
        finally:
            os.kill(stopped, signal.SIGKILL) if replaced is None else None
        with pytest.raises(ProcessLookupError):
            os.kill(stopped, 0)
        assert closed(await stream(made.engine, "after", PROMPT)).ending is Ending.COMPLETED
    logging.getLogger("ray").setLevel(logging.NOTSET)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_server_whose_own_ray_node_is_gone_says_so_and_ends_to_be_started_again(model: Path, tmp_path: Path) -> None:
    server = Server(tmp_path, model, "ray")
    try:
        (raylet,) = [pid for pid in server.group() if Path(f"/proc/{pid}/comm").read_text().strip() == "raylet"]
        os.kill(raylet, signal.SIGKILL)
        assert server.process.wait(120) == 1
        assert "the Ray node of this machine is gone, so no worker that ends can be started anew" in server.text()
        assert "Traceback" not in server.text()
    finally:
        server.end()
