"""The life of a server: it starts workers, opens the front end, and on a signal ends without leaving anything
behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.access.audit import Audit
from cluster.access.identity import Access
from cluster.access.tenancy import Tenancy
from cluster.adoption import KeptSessions
from cluster.cell.engine import Engine
from cluster.cell.identity import Identity
from cluster.cell.recording import InboxRecording, RecordedCell
from cluster.config import AuthSection, RecordingSection, ServerConfig
from cluster.frontend.offer import offer_for
from cluster.frontend.server import FrontendServer
from cluster.http.figures import longtake_version
from cluster.http.metrics import scraped
from cluster.http.page.server import page_for
from cluster.launch.launchers import Launcher, launcher_for
from cluster.launch.plan import POCKET, LaunchPlan, model_path, plan_for
from cluster.launch.served import served_recipes
from cluster.launch.sizing import sized_here
from cluster.net.descriptors import ask_for_enough
from cluster.net.exposure import check_exposure
from cluster.net.files import warn_of_readable_secrets
from cluster.net.listener import ShortOfFiles
from cluster.net.tls import CertificateFiles
from longtake.core.effects import Effect
from longtake.core.errors import Unavailable
from longtake.core.events import Event
from longtake.core.recipe.table import NamedRecipe
from longtake.core.sessions.draining import Draining
from longtake.core.work import Role
from longtake.net.addresses import Address
from monitoring.folding.recorder import AllRecorders, LogLines
from workers.models import weights
from workers.models.weights import ModelInfo
from workers.simulated.device import is_simulated
from workers.start.device_memory import ReadMemory, read_memory
from workers.start.loading import model_digest
from workers.start.log import settle_log

_log = logging.getLogger("longtake.serve")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
DRAIN_S = 60.0
"""How long the blocks that have begun may take at the end."""
GRACE_S = 5.0
"""How long clients may take to read what they were sent last."""
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A server that takes streams."""

    model: str
    config: ServerConfig
    port: int
    metrics: str = ""
    """The URL that Prometheus scrapes; empty if there is none."""
    page: str = ""
    """The URL of the page; empty if there is none."""

    @property
    def address(self) -> str:
        """Where clients connect: HOST:PORT."""
        return str(Address(host=self.config.listen.host, port=self.port))

    def __str__(self) -> str:
        cluster = self.config.cluster
        chains = f" chains of {cluster.layer_split}" if cluster.layer_split > 1 else ""
        workers = f"{cluster.denoise_workers} denoise{chains} and {cluster.decode_workers} decode workers"
        metrics = f", metrics at {self.metrics}" if self.metrics else ""
        page = f", page at {self.page}" if self.page else ""
        return f"ready: {self.model} on {self.address} ({workers}, {cluster.launch}){metrics}{page}"


class Stop:
    """A request to end, from signals or from a test: the first drains at once, the second does not wait for that.

    From the third on a signal has its default effect: the process dies, and what it started follows.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        self.has_begun = False
        """Whether there is anything to end: a port, a file, a process."""

    def __call__(self) -> None:
        if not self.asked.is_set():
            self.asked.set()
            return
        self.at_once.set()
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)


class WayDown:
    """How far a drain of the engine has come, for those who wait for it; it is a recorder of the engine."""

    def __init__(self, draining: Draining) -> None:
        self._draining = draining
        self.begun = asyncio.Event()
        """Set when nothing is opened any more."""
        self.over = asyncio.Event()
        """Set when nothing is open any more."""

    def fold(self, event: Event, effects: Sequence[Effect]) -> None:
        """See Recorder."""
        if self._draining.has_begun:
            self.begun.set()
            if self._draining.is_done:
                self.over.set()


async def serve(config: ServerConfig, *, say: Callable[[Ready], object]) -> None:
    """Serve until SIGINT, SIGTERM or Drain; then finish the blocks begun, end every session and every process.

    `say` is called once, when clients can open streams. A signal ends the grace that Drain has given; a second one does
    not wait for blocks or clients. Raises
    InvalidField or Contradiction if configuration or model are wrong, NoCapacity if the devices have no room for a
    session, Unavailable if the workers cannot be started, or cannot be started anew any more.
    """
    loop = asyncio.get_running_loop()
    ask_for_enough()
    loop.set_exception_handler(ShortOfFiles())
    stop = Stop()

    def signalled(number: int) -> None:
        if not stop.has_begun:  # torch may be half imported in a thread, for which an ordinary end would wait
            settle_log()
            os._exit(128 + number)
        stop()

    def listen() -> None:
        for number in _SIGNALS:
            loop.add_signal_handler(number, signalled, number)

    def ready(what: Ready) -> None:
        # Once more, because Ray has meanwhile installed a handler that prints a stack trace at SIGTERM.
        if not stop.at_once.is_set():
            listen()
        say(what)

    listen()
    try:
        await serve_until(config, stop, say=ready)
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def serve_until(
    config: ServerConfig, stop: Stop, *, say: Callable[[Ready], object], read: ReadMemory = read_memory
) -> None:
    """Serve until `stop` is called, or Drain; see `serve`. `read` tells the memory of this machine's devices."""
    check_exposure(config)
    warn_of_readable_secrets(config)
    _log.info("reading the model %s", config.model.path)
    began_s = time.monotonic()
    what = await asyncio.to_thread(_read, config, read)
    stop.has_begun = True
    tls = CertificateFiles(config.tls).credentials() if config.tls.certificate else None
    tenancy = Tenancy(Access.of(config.auth), _audit(config.auth))
    engine, down, recording = _engine(config, what.info, what.recipes, tenancy)
    launcher = launcher_for(what.plan, engine)
    offer = replace(
        offer_for(what.info, config.core_limits, what.recipes, encodes=what.encodes),
        cell=config.metrics.cell,
        model_digest=what.model_digest,
        text_workers=sum(spec.role is Role.TEXT for spec in what.plan.workers),
    )
    async with (
        _running(engine, recording) as failed,
        page_for(config) as page,
        _journal(config, offer.identity, engine, tenancy) as journal,
    ):
        # The port first: it is the cheapest thing that can be wrong.
        host, port, inside = config.listen.host, config.listen.port, page.target if page else ""
        server = await FrontendServer.start(engine, offer, host=host, port=port, tenancy=tenancy, tls=tls, page=inside)
        try:
            if page:
                page.begin()
            async with scraped(config, engine, server) as metrics:
                if not await _done_before(launcher.start(), stop.asked, down.begun, failed):
                    return
                if journal is not None:
                    await journal.take_over()
                _log.info("ready after %.1f s", time.monotonic() - began_s)
                await server.tell_health()  # who is told "ready" shall not be turned away
                url = page.url if page else ""
                say(Ready(model=what.info.name, config=config, port=server.port, metrics=metrics.url, page=url))
                async with _while_able(launcher) as unable:
                    await _done_before(stop.asked.wait(), down.begun, failed, unable)
                    await _done_before(_grace(engine), stop.asked, down.over, failed, unable)
                    await _done_before(_drain(engine, down, server), stop.at_once, failed)
                    await _done_before(metrics.scrapes.told(), stop.at_once, failed)
        finally:
            await server.stop(0.0)
            await launcher.stop()
            await asyncio.to_thread(tenancy.audit.close)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """What is served, and by which workers."""

    info: ModelInfo
    recipes: tuple[NamedRecipe, ...]
    plan: LaunchPlan
    model_digest: str
    encodes: bool
    """Whether streams may begin with pictures."""


def _read(config: ServerConfig, read: ReadMemory) -> _Served:
    """Read all of it, which takes seconds and leaves nothing behind.

    A simulated model says so in its name, so that nobody takes it for the model.
    """
    info, device = weights.load_info(model_path(config.model.path)), config.model.device
    if is_simulated(device):
        info = replace(info, name=f"{info.name} ({device})")
    recipes = served_recipes(info, config.model.recipes, is_pocket=config.model.path == POCKET)
    plan = sized_here(plan_for(config, info, recipes), read)
    encodes = is_simulated(device) or weights.encodes(model_path(config.model.path))
    digest = model_digest(plan.workers[0])
    return _Served(info=info, recipes=recipes, plan=plan, model_digest=digest, encodes=encodes)


def _engine(
    config: ServerConfig, info: ModelInfo, recipes: tuple[NamedRecipe, ...], tenancy: Tenancy
) -> tuple[Engine, WayDown, tuple[InboxRecording, ...]]:
    """The engine, and what it tells: how far a drain of it has come, and what it was told, if that is recorded."""
    cell = RecordedCell(
        recipe=info.recipe,
        geometry=info.geometry,
        limits=config.core_limits,
        recipes={each.name: each.recipe for each in recipes},
    )
    scheduler, recording = cell.scheduler(), _recording(config.recording, cell)
    down = WayDown(scheduler.draining)
    return Engine(scheduler, AllRecorders(LogLines(), tenancy, down, *recording)), down, recording


@contextlib.asynccontextmanager
async def _journal(
    config: ServerConfig, identity: Identity, engine: Engine, tenancy: Tenancy
) -> AsyncIterator[KeptSessions | None]:
    """The journal on disk, if one is configured; what waits is written at the end."""
    if not config.journal.path:
        yield None
        return
    kept = await asyncio.to_thread(
        KeptSessions, Path(config.journal.path), engine, tenancy.owners, identity, asyncio.get_running_loop()
    )
    try:
        yield kept
    finally:
        await kept.close()


def _audit(auth: AuthSection) -> Audit:
    """The audit log. Where nobody is asked who they are, its lines are written only if a file is configured."""
    return Audit(auth.audit if auth.audit or auth.tenants else None, required=auth.audit_required)


def _recording(section: RecordingSection, cell: RecordedCell) -> tuple[InboxRecording, ...]:
    """The recording that the configuration asks for, if it asks for one."""
    if not section.file:
        return ()
    cell = replace(cell, version=longtake_version())
    return (InboxRecording(Path(section.file), cell, limit_bytes=section.limit_bytes, field="recording.file"),)


@contextlib.asynccontextmanager
async def _running(engine: Engine, recording: tuple[InboxRecording, ...]) -> AsyncIterator[asyncio.Event]:
    """The engine's loop in the background; the event is set if it ends by itself, which is a defect."""
    failed = asyncio.Event()
    running = asyncio.create_task(engine.run())
    running.add_done_callback(lambda task: None if task.cancelled() else failed.set())
    try:
        yield failed
    finally:
        if failed.is_set():
            _log.error("the engine ended by a defect of its own")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        for each in recording:
            await asyncio.to_thread(each.close)


@contextlib.asynccontextmanager
async def _while_able(launcher: Launcher) -> AsyncIterator[asyncio.Event]:
    """The event is set when workers cannot be started anew any more; Unavailable says so at the end."""
    unable = asyncio.Event()

    async def look() -> None:
        why = await launcher.unable()
        _log.error("%s; the server ends, to be started again", why)
        unable.set()
        raise Unavailable(why)

    looking = asyncio.create_task(look())
    try:
        yield unable
    finally:
        looking.cancel()
        await asyncio.wait((looking,))
    if not looking.cancelled():
        looking.result()


async def _done_before(work: Coroutine[None, None, object], *events: asyncio.Event) -> bool:
    """Do `work` unless one of the events comes first: then cancel it. Returns whether it was done."""
    task = asyncio.ensure_future(work)
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait((task, *waits), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        for future in (task, *waits):
            future.cancel()
        await asyncio.gather(task, *waits, return_exceptions=True)


async def _grace(engine: Engine) -> None:
    """Wait until the grace of a drain that was asked for by call is over; another call may shorten it."""
    while engine.now_s() < engine.drains_at_s:
        await asyncio.sleep(_LOOK_S)


async def _drain(engine: Engine, down: WayDown, server: FrontendServer) -> None:
    engine.begin_drain()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            await down.over.wait()
    await server.stop(GRACE_S)
