"""The gRPC server around the front end: port, limits, keepalive, health checking, reflection, and the way down."""

from __future__ import annotations

import asyncio
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cluster.access.audit import Audit
from cluster.access.guard import Guard
from cluster.access.identity import Access
from cluster.access.tenancy import Tenancy
from cluster.cell.engine import Engine
from cluster.frontend.offer import Offer
from cluster.frontend.service import Frontend
from cluster.net.descriptors import Connections
from cluster.net.grpc_options import TO_CLIENTS, server_options
from longtake.core.errors import InvalidField
from longtake.core.work import Role
from longtake.net.addresses import Address
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc

SERVICE = pb.DESCRIPTOR.services_by_name["LongtakeService"].full_name
HEALTH_PERIOD_S = 0.1
SPARE_CALLS = 64
"""Calls allowed at once beside those of sessions and observers."""


class FrontendServer:
    """A running front end. Healthy while the engine has workers of every role and does not drain."""

    def __init__(self, engine: Engine, offer: Offer, tenancy: Tenancy) -> None:
        self._engine = engine
        self.offer = offer
        self.audit = tenancy.audit
        self._frontend = Frontend(engine, offer, tenancy)
        self._guard = Guard(tenancy, engine)
        self.calls = self._guard.calls
        self._health = health.aio.HealthServicer()
        self._serving: bool | None = None
        limits, wire = offer.limits, offer.wire
        self._server = grpc.aio.server(
            interceptors=(self._guard,),
            maximum_concurrent_rpcs=(limits.max_sessions + limits.max_queued) * (1 + wire.max_watchers) + SPARE_CALLS,
            options=(
                *server_options(max_message_bytes=wire.max_message_bytes, connections=Connections.allowed().clients),
                *TO_CLIENTS,
            ),
        )
        rpc.add_LongtakeServiceServicer_to_server(self._frontend, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self.port = 0

    @classmethod
    async def start(
        cls,
        engine: Engine,
        offer: Offer,
        *,
        host: str,
        port: int,
        tenancy: Tenancy | None = None,
        tls: grpc.ServerCredentials | None = None,
        page: str = "",
    ) -> Self:
        """Listen on `host`:`port` (0: any free port, see `self.port`); InvalidField if that is not possible.

        Without `tenancy` nobody is asked who they are, without `tls` nothing is encrypted. `page` is the unix
        socket on which the page asks.
        """
        self = cls(engine, offer, tenancy or Tenancy(Access(), Audit()))
        address = str(Address(host=host, port=port))
        try:
            self.port = (
                self._server.add_insecure_port(address) if tls is None else self._server.add_secure_port(address, tls)
            )
        except RuntimeError:
            raise InvalidField("listen", address, "an address of this machine and a port that is free") from None
        if page:
            self._server.add_insecure_port(page)
        await self.tell_health()
        await self._server.start()
        self._tasks = (asyncio.create_task(self._keep_health()), asyncio.create_task(self._guard.watch()))
        return self

    @property
    def serving(self) -> bool:
        """Whether it takes streams, as the health service says."""
        return self._serving is True

    async def stop(self, grace_s: float) -> None:
        """Close the port, wait up to `grace_s` for calls to end, then cut them."""
        for task in self._tasks:
            task.cancel()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def _keep_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_PERIOD_S)
            await self.tell_health()

    async def tell_health(self) -> None:
        """Tell health checkers at once what is true now; otherwise they are told every HEALTH_PERIOD_S."""
        roles = {worker.role for worker in self._engine.scheduler.workers()}
        needed = {Role.DENOISE, Role.DECODE} | ({Role.TEXT} if self.offer.text_workers else set())
        serving = needed <= roles and not self._engine.is_draining
        if serving is self._serving:
            return
        self._serving = serving
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self._health.set(service, status)
