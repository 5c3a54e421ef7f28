"""The server's configuration: a TOML file in, a validated frozen object out; unknown keys are errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    create_model,
)
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

from cluster.cell.recording import LIMIT_BYTES
from cluster.toml_files import Section, checked
from longtake.core.errors import Contradiction, InvalidField
from longtake.core.flow import Pace
from longtake.core.limits import AdmitAt, Limits, Recover
from longtake.net.addresses import WrongAddress, parse_host
from longtake.net.cells import CELL_PATTERN, DEFAULT_CELL
from longtake.net.origins import WrongOrigin, parse_origin
from longtake.recipes.toml_reading import read_toml
from workers.simulated.device import is_simulated, parse_device

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(gt=0, le=1, strict=False)]
_Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_./]{0,61}[A-Za-z0-9])?$")]
NodeLabels = dict[_Label, _Label]
DETACHED_ON_DISK_S = 86_400.0
"""The default of `limits.detached_s` where there is a journal on disk."""
_DEVICES = ("cpu", "cuda")


def _device(name: str) -> str:
    """A device that workers can be started on."""
    if is_simulated(name):
        try:
            parse_device(name)
        except InvalidField as error:
            raise PydanticCustomError("device", "{allowed}", {"allowed": error.allowed}) from None
    elif name not in _DEVICES:
        raise PydanticCustomError("device", "'cpu', 'cuda' or a simulated device such as 'simulated:60ms'")
    return name


def _host(name: str) -> str:
    """Where something can listen, or be reached; brackets around an IPv6 address are left out."""
    try:
        return parse_host(name) if name else name
    except WrongAddress as error:
        raise PydanticCustomError("host", "{allowed}", {"allowed": error.allowed}) from None


def _origin(text: str) -> str:
    """Where a page is called from, as browsers write it."""
    try:
        return str(parse_origin(text))
    except WrongOrigin as error:
        raise PydanticCustomError("origin", "{allowed}", {"allowed": error.allowed}) from None


def _several(value: object) -> object:
    """What must be a list: one alone is refused with a word on how it is written."""
    if isinstance(value, str):
        raise PydanticCustomError("several", "a list: [{value}]", {"value": f'"{value}"'})
    return value


class ModelSection(Section):
    """Which model is served, and where it runs."""

    path: str = "pocket"
    """A model directory, or "pocket" for the one that ships with Longtake."""
    recipes: Annotated[tuple[str, ...], Field(strict=False), BeforeValidator(_several)] = ()
    """Recipes that streams may choose beside the model's own: names of those that ship (`longtake recipe show`), or
    paths of TOML files, such as ["clean", "./mine.toml"]."""
    device: Annotated[str, AfterValidator(_device)] = "cpu"
    """cpu, cuda, or a device that only takes its time: simulated:60ms (workers.simulated.device)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    text_device: Literal["cpu", "cuda"] = "cpu"
    """Where text workers run."""
    compile: bool | None = None
    """Whether workers make kernels of their own for the model when they start (torch.compile): faster on a GPU, and the
    results are others in their last bits. If it is not said: on GPUs, and not on CPUs."""


class GpuShares(Section):
    """How much of a GPU a worker of each role takes under Ray: several workers whose shares add up to 1 share one."""

    denoise: Share = 1.0
    decode: Share = 1.0
    text: Share = 1.0


class ClusterSection(Section):
    """How many workers there are and what starts them."""

    launch: Literal["ray", "subprocess", "in-process"] = "ray"
    ray_address: str = ""
    """Address of a running Ray; if it is empty, a local one is started."""
    place_within_s: Annotated[float, Field(gt=0, le=86_400, strict=False)] = 30.0
    """How long Ray may take to find room for all workers. Where nodes are started on demand, it must be as long as that
    takes."""
    start_within_s: Annotated[float, Field(gt=0, le=86_400, strict=False)] = 600.0
    """How long workers may take to load their weights, measure what they can do, and attach. One that ends is noticed
    at once; only one that hangs is waited for."""
    denoise_nodes: NodeLabels = Field(default_factory=dict)
    """Labels of the Ray nodes on which denoise workers may be, such as { pool = "gpu" }; empty: all nodes."""
    decode_nodes: NodeLabels = Field(default_factory=dict)
    """The same as `denoise_nodes`, for decode workers."""
    text_nodes: NodeLabels = Field(default_factory=dict)
    """The same for text workers; empty: they are where decode workers are."""
    gpus: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = ()
    """Which GPUs of this machine the workers use with `launch = "subprocess"`, as places among those that are visible:
    denoise workers in turn, then decode and text workers. Empty: all. One is enough for all workers."""
    gpu_shares: GpuShares = GpuShares()
    """The same for Ray, which chooses the GPUs itself."""
    chains_on_one_node: bool = False
    """Whether the workers of a chain (`layer_split`) must be on one node; if not, they are as close as there is
    room."""
    denoise_workers: Count = 2
    """The number of replicas of the whole model; each is a worker or a chain of workers."""
    layer_split: Count = 1
    """How many workers hold one model together, each a range of its layers; each replica has this many."""
    decode_workers: Count = 1
    text_workers: Count = 1
    """Workers that encode prompts, if the model's text encoder has weights; if it has none, decode workers do it."""
    sessions_per_worker: Count | None = None
    """For how many sessions each worker has pages (a denoise worker: of all their lanes) or decoder slots; refused if
    its device has no room for so many. Left out: all workers together have room for as many sessions as fit, but for no
    more than `limits.max_sessions`."""
    max_batch: Count = 8
    """The most ops of different sessions and steps that one forward may serve; 1 means no batching. Each worker
    measures when it starts which sizes are exact and pay; it keeps memory for so many."""
    packed: Annotated[tuple[Literal["realtime", "fast"], ...], Field(strict=False)] = ()
    """Paces whose sessions are put on one worker each, so that the loss of a worker interrupts few of them. Sessions of
    other paces are spread over all workers, so that a single stream is fastest."""
    recover: Literal["exact", "fast"] = "exact"
    """What is made again of a lane that a lost worker had: all that it depends on, so that the stream goes on bit for
    bit; or (fast) what its window shows, so that it goes on sooner, with pictures that are alike and not the same."""
    fused_passes: bool = False
    """Whether each lane gets the pages of one more block, so that a commit and the denoise op after it can be one
    forward. That gives more throughput where forwards gain by batching, and costs a little latency."""
    profiles: str = ""
    """A folder, on each worker's machine, for what workers measure when they start; if it is empty they measure every
    time."""


class ListenSection(Section):
    """Where clients connect."""

    host: Annotated[str, AfterValidator(_host)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 50051
    """0 picks a free port."""


class MetricsSection(Section):
    """Where Prometheus scrapes, and what it is told of this cell."""

    address: str = ""
    """HOST:PORT of the endpoint /metrics; port 0 picks a free one, HOST is that of `listen` if it is left out, and
    there is no endpoint if the whole is empty. It tells no prompt and no session, and asks for no credentials: give it
    an address that only Prometheus can reach."""
    cell: Annotated[str, Field(pattern=f"^{CELL_PATTERN}$")] = DEFAULT_CELL
    """Name of this engine with its workers: the label `cell` of every metric, and what the names of its sessions begin
    with."""


class HttpSection(Section):
    """The web page."""

    address: str = ""
    """HOST:PORT of the page; port 0 picks a free one, HOST is that of `listen` if left out, and empty means no page."""
    origins: Annotated[
        tuple[Annotated[str, AfterValidator(_origin)], ...], Field(strict=False), BeforeValidator(_several)
    ] = ()
    """The public addresses of the page, each SCHEME://HOST or SCHEME://HOST:PORT, where a proxy stands before it; then
    browsers may use it under these and under no other one. Empty: under every address that leads to it."""


class RecordingSection(Section):
    """A recording of all that the engine is told, from which its decisions can be made again (cluster.cell.recording).

    It holds the prompts of all streams.
    """

    file: str = ""
    """The file to write it to; empty means no recording. If there is such a file already, the name gets a number."""
    limit_bytes: Annotated[int, Field(ge=1)] = LIMIT_BYTES
    """How long the recording may be; after that the server goes on without it."""


class JournalSection(Section):
    """A journal on disk, from which streams go on when the server was killed (cluster.journal).

    It holds the prompts of all streams.
    """

    path: str = ""
    """A folder for it, on a disk of this machine or one that comes with it; empty means none. No two servers may use
    one at a time. With it a client may come back for a day, if `limits.detached_s` does not say otherwise."""


class TlsSection(Section):
    """Certificates of the ports for clients (gRPC and the page), as PEM files; empty means none."""

    certificate: str = ""
    key: str = ""
    client_ca: str = ""
    """Clients must show a certificate signed by one of these (mTLS); if it is empty, they need none."""


class OidcSection(Section):
    """Bearer tokens (JWT) of an OpenID Connect issuer."""

    issuer: str = ""
    """The issuer's URL, the claim `iss`; if it is empty, such tokens are refused."""
    audience: str = "longtake"
    """What the claim `aud` must hold."""
    jwks: str = ""
    """File or https URL of the issuer's keys; if it is empty, the issuer's discovery document names it."""
    tenant_claim: str = "tenant"
    """The claim that names one of the tenants in `auth.tenants`."""


class AuthSection(Section):
    """Who may call, and how much."""

    tenants: str = ""
    """A TOML file of tenants: hashes of their tokens, roles, quotas. If it is empty, nobody is asked, and everybody is
    the tenant `default` with every right; that is allowed only where no other machine can connect, or with
    `allow_anonymous`."""
    allow_anonymous: bool = False
    """Whether the server may listen beyond this machine without asking anybody who they are."""
    allow_unencrypted: bool = False
    """Whether tokens from other machines are taken over connections without TLS. That is right only behind a proxy that
    ends TLS, where nobody else can listen."""
    audit: str = ""
    """The file to which a line of JSON is appended for each call that opens, changes or ends something; if it is empty,
    the lines go to the log, provided that there are tenants."""
    audit_required: bool = False
    """Whether streams, cues, and calls that end or carry something are refused (UNAVAILABLE) while the file `audit`
    cannot be written. If not, they go on; lines that cannot wait until it can be written again are left out and
    counted."""
    oidc: OidcSection = OidcSection()


class LinkSection(Section):
    """The port for workers. The PEM files are given all or not at all; without them workers show only the secret of
    this launch."""

    host: Annotated[str, AfterValidator(_host)] = ""
    """The address at which workers on a Ray cluster reach this machine, and under which its Ray node is known there; if
    it is empty, Ray says it. Workers that this process starts on this machine always use loopback."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """The port at which workers dial in; 0 picks a free one."""
    meeting_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """The port at which workers on a Ray cluster find each other; 0 picks a free one. The tensors that they exchange
    then pass between other free ports of their own."""
    certificate: str = ""
    key: str = ""
    ca: str = ""
    """The authority that signs the certificates of both sides: the engine's is for the name longtake-engine, a worker's
    for longtake-worker. Each side reads its own files under these paths, on its own machine."""
    network_trusted: bool = False
    """Whether workers on other machines may do without certificates: whoever listens on the network can take the
    secret."""


def _limits_section() -> type[Section]:
    """A section for the settings of longtake.core.limits, with the same names, defaults and bounds."""
    keys: dict[str, Any] = {
        key.name: (
            # A whole number is a number of seconds, too.
            Annotated[type(key.default), Field(ge=key.least, le=key.most, strict=isinstance(key.default, int))],
            key.default,
        )
        for key in Limits.settings()
    }
    keys["admit_at"] = (Literal["usual", "shed"], "usual")
    return create_model("LimitsSection", __base__=Section, **keys)


_LIMITS_SECTION = _limits_section()
LIMITS_KEYS = frozenset(_LIMITS_SECTION.model_fields)
"""The keys of the section `limits`."""


def _limits_schema(_: object, handler: GetCoreSchemaHandler) -> CoreSchema:
    read = handler.generate_schema(_LIMITS_SECTION)
    return no_info_after_validator_function(_limits, read)


def _limits(section: Section) -> Limits:
    values = section.model_dump()
    return Limits(**values | {"admit_at": AdmitAt(values["admit_at"])})


class ServerConfig(Section):
    """Everything `longtake serve` can be told."""

    model: ModelSection = ModelSection()
    cluster: ClusterSection = ClusterSection()
    listen: ListenSection = ListenSection()
    limits: Annotated[Limits, GetPydanticSchema(_limits_schema)] = Limits()
    """What one client, and all of them together, may have; see longtake.core.limits.Limits.settings."""
    metrics: MetricsSection = MetricsSection()
    http: HttpSection = HttpSection()
    recording: RecordingSection = RecordingSection()
    journal: JournalSection = JournalSection()
    tls: TlsSection = TlsSection()
    auth: AuthSection = AuthSection()
    link: LinkSection = LinkSection()

    @property
    def core_limits(self) -> Limits:
        """The limits as the scheduler takes them."""
        packed = frozenset(map(Pace, self.cluster.packed))
        recover = Recover(self.cluster.recover)
        return replace(self.limits, packed=packed, recover=recover, fused_passes=self.cluster.fused_passes)


def parse_config(document: Mapping[str, object]) -> ServerConfig:
    """The configuration in `document` (a parsed TOML file).

    InvalidField names the key that is wrong, InvalidFields all of them; Contradiction two that do not go together.
    """
    config = checked(ServerConfig, _with_defaults(document), inner={"limits": _LIMITS_SECTION})
    _check_limits(config.limits)
    _check_link(config.link)
    _check_devices(config.model, config.cluster)
    return config


def _with_defaults(document: Mapping[str, object]) -> Mapping[str, object]:
    """A client may come back for longer where its stream is on disk meanwhile."""
    journal, limits = document.get("journal"), document.get("limits", {})
    if isinstance(journal, Mapping) and journal.get("path") and isinstance(limits, Mapping):
        return {**document, "limits": {"detached_s": DETACHED_ON_DISK_S, **limits}}
    return document


def _check_limits(limits: Limits) -> None:
    if limits.default_window > limits.max_window:
        raise Contradiction(
            f"limits.default_window = {limits.default_window}",
            f"limits.max_window = {limits.max_window}",
            "the default must be allowed",
        )


def _check_link(link: LinkSection) -> None:
    files = {"certificate": link.certificate, "key": link.key, "ca": link.ca}
    if any(files.values()) and not all(files.values()):
        missing = next(key for key, path in files.items() if not path)
        raise InvalidField(f"link.{missing}", "", "a PEM file: link.certificate, link.key and link.ca go together")


def _check_devices(model: ModelSection, cluster: ClusterSection) -> None:
    for pool in ("denoise_nodes", "decode_nodes", "text_nodes"):
        labels = getattr(cluster, pool)
        if labels and not cluster.ray_address:
            raise Contradiction(
                f"cluster.{pool} = {labels}",
                'cluster.ray_address = ""',
                "the node of a Ray that is started here has no labels",
            )
    if cluster.layer_split > 1 and is_simulated(model.device):
        raise Contradiction(
            f"cluster.layer_split = {cluster.layer_split}",
            f"model.device = {model.device}",
            "a simulated device holds no layers that could be split",
        )


def load_config(path: Path, *, field: str = "config") -> ServerConfig:
    """Read a TOML file; InvalidField names the file (as `field`), or the key in it, that is wrong."""
    return parse_config(read_toml(path, field=field))
