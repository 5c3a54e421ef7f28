"""The endpoint /metrics of a whole server: what Prometheus is told is what clients saw."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from pathlib import Path

import grpc
import httpx
import pytest

from benchmarks.simulated_streams import small_pictures
from cluster.access.call_counts import UNKNOWN_METHOD
from cluster.config import parse_config
from cluster.serve import Ready, Stop, serve_until
from longtake.client import Client, PaceName, StreamOptions
from longtake.client.errors import ClientError
from longtake.client.events import OpenedEvent, SegmentEvent, StreamEvent
from longtake.core.errors import InvalidField
from longtake.core.recipe.graph import Graph
from longtake.core.work import DispatchNumber, Loss, Role, WorkerId
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from monitoring.declarations import METRICS, Instrument
from tests.cluster.http.desk import Desk, scraped, served
from tests.monitoring.world import ELSEWHERE
from tests.programs import required
from tests.workers.model_dir import model_info
from workers.messages import Done, Heartbeat
from workers.models.weights import save_info

PROMPT = "a red ball swaying at night"
BLOCKS = 6
SERVICE = "longtake.v1.LongtakeService"


async def streamed(ready: Ready, pace: PaceName) -> list[StreamEvent]:
    """Everything a client is told of a stream."""
    pictures = small_pictures(model_info()).geometry.first_picture(BLOCKS)
    options = StreamOptions(seed=1, pace=pace, pictures=pictures, codec="raw")
    async with Client(ready.address) as client, client.stream(PROMPT, options) as stream:
        return [event async for event in stream]


async def test_the_counts_are_what_clients_saw(tmp_path: Path) -> None:
    async with served(tmp_path) as ready:
        told = await asyncio.gather(streamed(ready, "fast"), streamed(ready, "fast"), streamed(ready, "realtime"))
        page = await scraped(ready)
    for pace, streams in (("fast", told[:2]), ("realtime", told[2:])):
        segments = [event for events in streams for event in events if isinstance(event, SegmentEvent)]
        assert len(segments) == BLOCKS * len(streams)
        assert page.sum("longtake_blocks_total", pace=pace) == len(segments)
        assert page.sum("longtake_pictures_total", pace=pace) == sum(event.picture_count for event in segments)
        assert page.sum("longtake_segment_bytes_total", pace=pace) == sum(len(event.data) for event in segments)
        assert page.sum("longtake_opens_granted_total", pace=pace) == len(streams)
        assert page.sum("longtake_sessions_closed_total", pace=pace, ending="completed") == len(streams)
        assert page.sum("longtake_first_segment_seconds_count", pace=pace) == len(streams)
        assert page.sum("longtake_sessions", pace=pace) == 0
    assert page.sum("longtake_block_slack_seconds_bucket", pace="realtime", le="+Inf") == BLOCKS - 1
    recipe, blocks = model_info().recipe, 3 * BLOCKS
    commits = 3 * recipe.lane_count  # of the last block of each stream, which nobody reads
    assert page.sum("longtake_ops_total", op="decode") == blocks
    assert page.sum("longtake_ops_total", op="denoise") == recipe.step_count * blocks
    assert page.sum("longtake_ops_total", op="commit") == recipe.lane_count * blocks - commits
    assert page.sum("longtake_forwards_per_block") == Graph(recipe).forwards_per_block
    assert page.sum("longtake_calls_total", method=f"{SERVICE}/Stream", code="OK") == 3
    assert page.sum("longtake_busy_seconds_total") > 0
    assert page.sum("longtake_journal_bytes") == 0
    assert {label for _, labels in page.samples for label in labels if label[0] == "cell"} == {("cell", "under-test")}


async def test_a_decoder_that_holds_up_the_cell_is_its_limit_and_is_named_wherever_it_is_told(tmp_path: Path) -> None:
    """Forwards take next to no time and a decode 60 ms: what one decoder can do is what the cell can do."""
    async with served(tmp_path, device="simulated:1ms,decode=60ms") as ready:
        unknown = await scraped(ready)
        async with Client(ready.address) as client:
            before = await client.get_status()
            began_s = asyncio.get_running_loop().time()
            await asyncio.gather(*(streamed(ready, "fast") for _ in range(3)))
            took_s = asyncio.get_running_loop().time() - began_s
            status = await client.get_status()
        page = await scraped(ready)
    assert not unknown.has("longtake_limit_blocks_per_second") and not before.HasField("limit_blocks_per_s")
    assert not before.limited_by, "nobody has measured a simulated device"
    limit = page.sum("longtake_limit_blocks_per_second", role="decode")
    assert 10 < limit <= 1 / 0.06 < page.sum("longtake_limit_blocks_per_second", role="denoise")
    assert status.limited_by == "simulated-decode-0" and status.limit_blocks_per_s == pytest.approx(limit)
    assert 0.6 < 3 * BLOCKS / took_s / limit <= 1.05, "streams were about as fast as it says"
    assert {stage.role: stage.HasField("blocks_per_s") for stage in status.stages} == {
        pb.WORKER_ROLE_DENOISE: True, pb.WORKER_ROLE_DECODE: True,
    }  # fmt: skip
    assert status.engine_busy_s > before.engine_busy_s > 0


async def test_every_declared_metric_has_samples_and_says_nothing_of_clients(tmp_path: Path) -> None:
    async with served(tmp_path) as ready:
        options = StreamOptions(seed=1, window=2, codec="raw")
        async with Client(ready.address) as client, client.stream(PROMPT, options) as stream:
            opened = await anext(stream)
            await anext(stream)
            assert isinstance(opened, OpenedEvent)
            page = await scraped(ready)
            while not page.sum("longtake_stalled_sessions", pace="fast"):  # nobody reads on
                await asyncio.sleep(0.02)
                page = await scraped(ready)
            assert page.sum("longtake_sessions", state="running", pace="fast") == 1
            assert (
                page.sum("longtake_pages", state="held")
                == model_info().recipe.lane_count * model_info().recipe.page_count
            )
            assert page.sum("longtake_decoder_slots", state="held") == 1
            assert page.sum("longtake_journal_bytes", content="conditioning") > 0
    names = {name for name, _ in page.samples}
    absent = []
    for metric in METRICS:
        name = metric.name + ("_bucket" if metric.instrument is Instrument.HISTOGRAM else "")
        if name not in names:
            absent.append(metric.name)
    # No call has ended; workers that share this process have no resident memory of their own; there is no certificate.
    assert absent == [
        "longtake_resident_memory_bytes",
        "longtake_calls_total",
        "longtake_certificate_not_before_seconds",
        "longtake_certificate_not_after_seconds",
    ]
    moving = {"longtake_uptime_seconds", "longtake_engine_step_seconds", "longtake_worker_slowness_ratio"}
    assert moving < ELSEWHERE and all(any(name in found for found in names) for name in moving)
    assert opened.session_id not in page.text and "ball" not in page.text
    assert page.sum("longtake_workers", role="denoise") == page.sum("longtake_workers_expected", role="denoise") == 2
    assert page.sum("longtake_numerics_classes", role="denoise") == 1  # both computed the same


async def test_promtool_finds_nothing_to_say_about_the_page(tmp_path: Path) -> None:
    promtool = required("promtool")
    async with served(tmp_path) as ready:
        await streamed(ready, "realtime")
        page = await scraped(ready)
    checked = subprocess.run([promtool, "check", "metrics"], input=page.text, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    broken = page.text.replace("longtake_blocks_total", "longtake_blocks_sum_of_milliseconds")
    checked = subprocess.run([promtool, "check", "metrics"], input=broken, capture_output=True, text=True)
    assert checked.returncode != 0


async def test_refused_calls_and_opens_are_counted_by_why(tmp_path: Path) -> None:
    async with served(tmp_path, sessions_per_worker=1) as ready:
        async with Client(ready.address) as client:
            with pytest.raises(ClientError, match=r"open\.window"):
                async with client.stream(PROMPT, StreamOptions(pace="realtime", window=1000)) as stream:
                    await anext(stream)
            async with client.stream(PROMPT, StreamOptions(window=2, pictures=100)) as holder:
                opened = await anext(holder)
                assert isinstance(opened, OpenedEvent)
                with pytest.raises(ClientError, match="has no decoder slot free"):
                    async with client.stream(PROMPT, StreamOptions(pace="fast")) as stream:
                        await anext(stream)
                async with grpc.aio.insecure_channel(ready.address) as channel:
                    cut = rpc.LongtakeServiceStub(channel).Watch(pb.WatchRequest(session_id=opened.session_id))
                    await cut.read()
                    cut.cancel()
                    unheard: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/no.Such/Method")
                    with pytest.raises(grpc.aio.AioRpcError, match="Method not found"):
                        await unheard(b"")
                assert [event async for event in holder]
        page = await scraped(ready)
        async with asyncio.timeout(30):
            while page.sum("longtake_calls_total") < 5:  # one is being cut
                await asyncio.sleep(0.02)
                page = await scraped(ready)
    assert page.sum("longtake_opens_refused_total", pace="realtime", reason="invalid") == 1
    assert page.sum("longtake_opens_refused_total", pace="fast", reason="slots") == 1
    assert page.sum("longtake_opens_refused_total") == 2
    calls = {
        (dict(labels)["method"], dict(labels)["code"]): value
        for (name, labels), value in page.samples.items()
        if name == "longtake_calls_total"
    }
    assert calls == {
        (f"{SERVICE}/Stream", "INVALID_ARGUMENT"): 1,
        (f"{SERVICE}/Stream", "RESOURCE_EXHAUSTED"): 1,
        (f"{SERVICE}/Watch", "CANCELLED"): 1,
        (f"{SERVICE}/Stream", "OK"): 1,
        (UNKNOWN_METHOD, "UNIMPLEMENTED"): 1,
    }
    assert page.sum("longtake_calls_refused_total") == 0
    reasons = {dict(labels)["reason"] for name, labels in page.samples if name == "longtake_calls_refused_total"}
    assert reasons == {"no_credentials", "wrong_credentials", "not_allowed", "unknown_token", "quota", "unavailable"}


async def test_the_endpoint_answers_health_checks_leaves_signals_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with served(tmp_path) as ready:
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        assert str(ready).endswith(f", metrics at {ready.metrics}")
        async with httpx.AsyncClient() as client:
            health = await client.get(ready.metrics.replace("/metrics", "/healthz"))
            assert (health.status_code, health.text) == (200, "ok\n")
            assert (await client.get(ready.metrics.replace("/metrics", "/"))).status_code == 404
            assert (await client.post(ready.metrics)).status_code == 405
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(ready.metrics)


@pytest.mark.parametrize("address", ["nowhere.invalid:0", "127.0.0.1", "127.0.0.1:taken", "127.0.0.1:99999"])
async def test_an_address_that_cannot_be_listened_on_is_named(tmp_path: Path, address: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = address.replace("taken", str(taken.getsockname()[1]))
        save_info(tmp_path, small_pictures(model_info()))
        config = parse_config(
            {
                "model": {"path": str(tmp_path), "device": "simulated:1ms"},
                "cluster": {"launch": "in-process"},
                "listen": {"port": 0},
                "metrics": {"address": address},
            }
        )
        with pytest.raises(InvalidField, match=r"metrics\.address"):
            await serve_until(config, Stop(), say=lambda _: None)


# --- how a worker was lost, and how it fares -------------------------------------------------------------------------


WORKER = WorkerId("denoise-0")


def test_a_worker_that_dials_in_again_was_replaced() -> None:
    desk = Desk()
    desk.join()
    desk.join()
    assert desk.settle() == [Loss.REPLACED]


def test_a_worker_that_reports_what_it_was_not_told_broke_the_protocol() -> None:
    desk = Desk()
    desk.engine.hear(WORKER, desk.join(), Done(sequence=DispatchNumber(7)))
    assert desk.settle() == [Loss.PROTOCOL]
    assert desk.engine.tally.fleet.lost[Role.DENOISE, Loss.PROTOCOL] == 1


def test_a_worker_whose_link_ends_lost_its_link() -> None:
    desk = Desk()
    desk.engine.leave(WORKER, desk.join(), "its link broke")
    assert desk.settle() == [Loss.LINK]


def test_what_a_worker_said_last_of_its_process_is_known_while_it_is_attached() -> None:
    desk = Desk()
    port = desk.join()
    assert desk.engine.vitals() == {}
    for size_bytes in (1, 2):
        desk.engine.hear(WORKER, port, Heartbeat(host_bytes=size_bytes, copied_out_bytes=7))
    assert desk.engine.vitals() == {WORKER: Heartbeat(host_bytes=2, copied_out_bytes=7)}
    desk.engine.leave(WORKER, port, "its link broke")
    assert desk.engine.vitals() == {}
