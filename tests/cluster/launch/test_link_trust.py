"""Certificates of the link: who has none, another's or one for something else, attaches nothing and learns nothing."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
import trustme

from cluster.cell.engine import Engine
from cluster.config import ClusterSection, parse_config
from cluster.launch.launchers import check_link, launcher_for
from cluster.launch.link_server import LinkServer, LinkService, server_credentials
from cluster.launch.plan import LaunchPlan, plan_for
from cluster.launch.subprocesses import SubprocessLauncher
from longtake.core.errors import Contradiction, InvalidField, Unavailable
from longtake.core.limits import Limits
from longtake.core.scheduler import Scheduler
from longtake.core.work import Role, WorkerId
from longtake.link.v1 import link_pb2 as pb
from longtake.link.v1 import link_pb2_grpc
from tests.cluster.cell.world import drain, segments, stream, until_attached
from tests.workers.model_dir import model_info
from workers.link import dial
from workers.link.convert import hello_to_proto
from workers.link.dial import WorkerLink
from workers.link_trust import ENGINE_NAME, WORKER_NAME, LinkFiles, shown, shows
from workers.messages import Introduction
from workers.models.api import Compute
from workers.models.weights import save_info
from workers.simulated.device import parse_device
from workers.simulated.workers import SimulatedModel
from workers.start.loading import model_digest
from workers.start.spec import WorkerSpec, read_spec, to_line

PROMPT = "a red ball resting in the fog"
INFO = model_info()
SECRET = "secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """Files of an authority and of what it signed."""

    engine: LinkFiles
    worker: LinkFiles
    both: LinkFiles
    client: LinkFiles
    """For a client of the public port, by the same authority."""
    foreign: LinkFiles
    """For a worker, by another authority, which trusts this one."""


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("papers")
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")

    def issue(authority: trustme.CA, file: str, *names: str) -> LinkFiles:
        issued = authority.issue_cert(*names)
        issued.cert_chain_pems[0].write_to_path(folder / f"{file}.pem")
        issued.private_key_pem.write_to_path(folder / f"{file}.key")
        return LinkFiles(certificate=folder / f"{file}.pem", key=folder / f"{file}.key", ca=folder / "ca.pem")

    return Papers(
        engine=issue(ours, "engine", ENGINE_NAME),
        worker=issue(ours, "worker", WORKER_NAME),
        both=issue(ours, "both", ENGINE_NAME, WORKER_NAME),
        client=issue(ours, "client", "client-7"),
        foreign=issue(theirs, "foreign", WORKER_NAME),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_info(tmp_path, INFO)
    return tmp_path


def spec(model: Path, role: Role = Role.DENOISE) -> WorkerSpec:
    pages = 3 * INFO.recipe.page_count * INFO.recipe.lane_count
    capacity = pages if role is Role.DENOISE else 3
    worker = WorkerId(f"{role.value}-0")
    return WorkerSpec(worker=worker, role=role, capacity=capacity, model=model, compute=Compute(device="simulated:1ms"))


@asynccontextmanager
async def engine_with(model: Path, files: LinkFiles | None) -> AsyncIterator[tuple[Engine, str]]:
    engine = Engine(Scheduler(INFO.recipe, INFO.geometry, Limits()))
    running = asyncio.create_task(engine.run())
    server = LinkServer(LinkService(engine, token=SECRET, model_digest=model_digest(spec(model)), files=files))
    await server.start()
    try:
        yield engine, server.address
    finally:
        await server.stop()
        running.cancel()


def worker_link(model: Path, address: str, files: LinkFiles | None) -> WorkerLink:
    made = spec(model)
    loaded = SimulatedModel(
        worker=made.worker,
        role=made.role,
        capacity=made.capacity,
        model=model,
        device=parse_device(made.compute.device),
    )
    return WorkerLink(loaded, address, SECRET, files)


async def test_a_worker_with_its_certificate_attaches(model: Path, papers: Papers) -> None:
    async with engine_with(model, papers.engine) as (engine, address):
        serving = asyncio.create_task(worker_link(model, address, papers.worker).serve())
        await until_attached(engine, WorkerId("denoise-0"))
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_a_client_of_the_same_authority_is_no_worker_even_with_the_secret(model: Path, papers: Papers) -> None:
    async with engine_with(model, papers.engine) as (engine, address):
        with pytest.raises(Unavailable, match="refuses this worker: the certificate is not for longtake-worker"):
            await worker_link(model, address, papers.client).serve()
        assert engine.scheduler.workers() == ()


@pytest.mark.parametrize("which", ["foreign", "none"])
async def test_no_certificate_of_this_authority_is_no_connection(
    model: Path, papers: Papers, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "PATIENCE_S", 0.5)
    async with engine_with(model, papers.engine) as (engine, address):
        with pytest.raises(Unavailable, match="no engine at"):
            await worker_link(model, address, papers.foreign if which == "foreign" else None).serve()
        assert engine.scheduler.workers() == ()


class Impostor(link_pb2_grpc.LinkServiceServicer):
    """Listens for what workers say."""

    def __init__(self) -> None:
        self.heard: list[pb.AttachRequest] = []
        self.shown: list[bool] = []

    async def Attach(
        self,
        request_iterator: AsyncIterator[pb.AttachRequest],
        context: grpc.aio.ServicerContext[pb.AttachRequest, pb.AttachResponse],
    ) -> AsyncIterator[pb.AttachResponse]:
        self.shown.append(shows(context.invocation_metadata() or (), SECRET))
        async for message in request_iterator:
            self.heard.append(message)
            yield pb.AttachResponse(welcome=pb.Welcome())


@pytest.mark.parametrize("named", ["client", "engine"])
async def test_a_worker_tells_its_secret_to_the_engine_only(
    model: Path, papers: Papers, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers at the engine's address must have the engine's certificate; where it has, the worker speaks."""
    monkeypatch.setattr(dial, "PATIENCE_S", 0.5)
    impostor, server = Impostor(), grpc.aio.server()
    link_pb2_grpc.add_LinkServiceServicer_to_server(impostor, server)
    files = papers.client if named == "client" else papers.engine
    port = server.add_secure_port("127.0.0.1:0", server_credentials(files))
    await server.start()
    serving = asyncio.create_task(worker_link(model, f"127.0.0.1:{port}", papers.worker).serve())
    try:
        if named == "client":
            with pytest.raises(Unavailable, match="no engine at"):
                await serving
            assert impostor.heard == [] and impostor.shown == []
        else:
            async with asyncio.timeout(20):
                while not impostor.heard:
                    await asyncio.sleep(0.01)
            assert impostor.shown[0]
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await server.stop(0)


async def test_a_certificate_does_not_replace_the_secret(model: Path, papers: Papers) -> None:
    async with engine_with(model, papers.engine) as (engine, address):
        options = (("grpc.ssl_target_name_override", ENGINE_NAME),)
        credentials = grpc.ssl_channel_credentials(*papers.worker.contents())
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            call = link_pb2_grpc.LinkServiceStub(channel).Attach(metadata=shown("guess"))
            await call.write(hello_to_proto(worker_introduction(model)))
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "is not this launch's" in str(await call.details())
        assert engine.scheduler.workers() == ()


def worker_introduction(model: Path) -> Introduction:
    made = spec(model)
    return SimulatedModel(
        worker=made.worker,
        role=made.role,
        capacity=made.capacity,
        model=model,
        device=parse_device(made.compute.device),
    ).introduction


async def test_processes_meet_with_certificates_and_show_their_secret_to_nobody_else(
    model: Path, papers: Papers
) -> None:
    """A whole cell; the secret stands neither in the arguments nor in the environment of a process."""
    workers = tuple(replace(spec(model, role), link_files=papers.both) for role in Role)
    plan = LaunchPlan(cluster=ClusterSection(launch="subprocess"), workers=workers)
    engine = Engine(Scheduler(INFO.recipe, INFO.geometry, Limits()))
    running = asyncio.create_task(engine.run())
    launcher = launcher_for(plan, engine)
    assert isinstance(launcher, SubprocessLauncher)
    await launcher.start()
    try:
        for pid in set(launcher.pids.values()):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            assert b"--engine=" in arguments
            for shown in (arguments, Path(f"/proc/{pid}/environ").read_bytes()):
                assert shown and plan.token.encode() not in shown and str(papers.both.key).encode() not in shown
        assert len(segments(await stream(engine, "a", PROMPT))) > 0
        await drain(engine)
    finally:
        await launcher.stop()
        running.cancel()


def test_the_files_survive_the_way_to_a_process(model: Path, papers: Papers) -> None:
    made = replace(spec(model), link_files=papers.worker)
    assert read_spec(io.StringIO(to_line(made))) == made


def test_files_that_cannot_be_used_are_named(papers: Papers, tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match=r"link\.key: .*absent.* a readable PEM file \(No such file"):
        replace(papers.worker, key=tmp_path / "absent").contents()
    (tmp_path / "noise").write_bytes(b"noise")
    with pytest.raises(InvalidField, match=r"link\.ca: .*noise.* a PEM file"):
        replace(papers.worker, ca=tmp_path / "noise").contents()


async def test_the_key_of_another_certificate_is_named(model: Path, papers: Papers) -> None:
    wrong = replace(papers.engine, key=papers.worker.key)
    with pytest.raises(InvalidField, match=r"link\.key: .*worker\.key.* the key of .*engine\.pem"):
        async with engine_with(model, wrong):
            pass


def test_the_three_files_go_together() -> None:
    with pytest.raises(InvalidField, match=r"link\.ca: ''"):
        parse_config({"link": {"certificate": "a.pem", "key": "a.key"}})


def test_a_link_beyond_this_machine_needs_certificates_or_a_network_that_is_trusted() -> None:
    files = {"certificate": "a.pem", "key": "a.key", "ca": "ca.pem"}
    bare = plan_for(parse_config({}), INFO)
    for host in ("10.0.0.7", "0.0.0.0", "fd00::2"):
        with pytest.raises(Contradiction, match=r"link\.network_trusted"):
            check_link(bare, host)
        check_link(plan_for(parse_config({"link": {"network_trusted": True}}), INFO), host)
        check_link(plan_for(parse_config({"link": files}), INFO), host)
    for host in ("127.0.0.1", "127.8.9.1", "::1"):
        check_link(bare, host)
