"""Nothing that comes from outside is ever executed: no code that could, and bombs at every entrance that stay whole."""

from __future__ import annotations

import ast
import asyncio
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import grpc
import grpc.aio
import pytest
import torch
from grpc_reflection.v1alpha import reflection_pb2

from cluster.cell.engine import Engine
from cluster.config import load_config
from cluster.launch.launchers import launcher_for
from cluster.launch.link_server import LinkServer, LinkService
from cluster.launch.plan import plan_for
from longtake.core.errors import InternalFault, InvalidField
from longtake.core.limits import Limits
from longtake.core.recipe.layers import LayerTimes
from longtake.core.scheduler import Scheduler
from longtake.core.work import WorkerId
from longtake.link.v1 import link_pb2 as link
from longtake.v1 import longtake_pb2 as pb
from tests.hostile.cell import ROOT, Cell
from tests.workers.model_dir import model_info, write_model
from workers.link_trust import shown
from workers.messages import Seat
from workers.models import weights
from workers.models.api import Compute
from workers.peers import MeetingPoint, Pair, c10d
from workers.start.layer_times import held_layers
from workers.start.numerics import Kernels, Numerics
from workers.start.probe import BatchProfile
from workers.start.profile_cache import ProfileKey, cached

ATTACH = "/longtake.link.v1.LinkService/Attach"
FOLDERS = ("benchmarks", "cluster", "deploy", "longtake", "monitoring", "pocket", "protos", "workers")
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve", "pty"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "pickle.loads",
         "yaml.load", "yaml.unsafe_load", "yaml.full_load"}  # fmt: skip
METHODS = {"recv_pyobj", "send_pyobj", "broadcast_object_list", "all_gather_object", "gather_object",
           "scatter_object_list", "send_object_list", "recv_object_list"}  # fmt: skip
ALLOWED = {
    # Training goes on from its own optimizer's state; no server imports it, and `weights_only` runs no code.
    ("pocket/train.py", "torch.load(weights_only=True)"),
    # Checkpoints are published as pickles, and converted by a command that no server imports (import-linter). It takes
    # plain data only; the module's name is needed for the error that says a file holds more (tests/workers/convert).
    ("workers/convert/sources.py", "torch.load(weights_only=True)"),
    ("workers/convert/sources.py", "import pickle"),
}


# --- no code that could -----------------------------------------------------------------------------------------------


def dangers(source: str) -> Iterator[str]:
    """What in a module could execute what it reads."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"import {name.name}" for name in names if name.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield f"import {module}"
            case ast.Attribute(attr=name) if name in METHODS:
                yield name
            case ast.Call(func=function, keywords=keywords):
                called = ast.unparse(function)
                flags = {word.arg: ast.unparse(word.value) for word in keywords if word.arg}
                if called in CALLS:
                    weights_only = flags.get("weights_only") == "True"
                    yield f"{called}(weights_only=True)" if weights_only else called
                if flags.get("shell", "False") != "False" or flags.get("allow_pickle", "False") != "False":
                    yield f"{called}({', '.join(flags)})"


def test_no_code_could_execute_what_it_reads() -> None:
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 100
    found = {(str(path.relative_to(ROOT)), danger) for path in files for danger in dangers(path.read_text())}
    assert found == ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import torch\nx = torch.load(f)", "eval('1')", "exec(s)",
        "group.broadcast_object_list(x)", "torch.distributed.send_object_list(x)", "yaml.load(f, Loader=L)",
        "subprocess.run(c, shell=True)", "np.load(f, allow_pickle=True)", "socket.recv_pyobj()", "os.system(c)",
    ],
)  # fmt: skip
def test_each_danger_is_seen(source: str) -> None:
    assert list(dangers(source))


# --- bombs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bomb:
    """A pickle that makes a folder when it is loaded."""

    mark: Path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)

    @property
    def went_off(self) -> bool:
        return self.mark.exists()


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[Bomb]:
    made = Bomb(tmp_path / "bang")
    yield made
    assert not made.went_off


def payloads(bomb: Bomb) -> tuple[bytes, ...]:
    """The bomb as a pickle of every protocol, and as YAML."""
    pickled = tuple(pickle.dumps(bomb, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1))
    return (*pickled, f"!!python/object/apply:os.mkdir ['{bomb.mark}']".encode())


def test_the_bombs_are_live(tmp_path: Path) -> None:
    for number, payload in enumerate(payloads(Bomb(tmp_path / "bang"))[:-1]):
        pickle.loads(payload)
        assert (tmp_path / "bang").is_dir(), number
        (tmp_path / "bang").rmdir()
    torch.save(Bomb(tmp_path / "bang"), tmp_path / "bomb.pt")
    torch.load(tmp_path / "bomb.pt", weights_only=False)
    assert (tmp_path / "bang").is_dir()


def test_the_port_for_clients(cell: Cell, bomb: Bomb) -> None:
    """As a whole message of every method, and inside of well-formed ones."""
    service = pb.DESCRIPTOR.services_by_name["LongtakeService"]
    tried = 0
    with grpc.insecure_channel(cell.address) as channel:
        for payload in payloads(bomb):
            text = payload.decode("latin-1")
            inside = pb.StreamRequest(open=pb.Open(prompt=text)).SerializeToString()
            for method in [each for each in service.methods if each.name != "Drain"]:  # which any message begins
                path = f"/{service.full_name}/{method.name}"
                for message in (payload, inside):
                    tried += _ends(channel, path, message, client_streaming=method.name == "Stream")
        question = reflection_pb2.ServerReflectionRequest(file_by_filename="\x80\x04").SerializeToString()
        for message in (*payloads(bomb), question):
            path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            _ends(channel, path, message, client_streaming=True)
    assert tried
    assert cell.is_alive()


def _ends(channel: grpc.Channel, path: str, message: bytes, *, client_streaming: bool) -> bool:
    """Whether the call ends with an error; an answer is none, for a bomb may be a message with unknown fields."""
    try:
        if client_streaming:
            both: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(path)
            for _ in both(iter([message]), timeout=20):
                pass
        else:
            one: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
            for _ in one(message, timeout=20):
                pass
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        assert error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        return True
    return False


async def test_the_port_for_workers(bomb: Bomb) -> None:
    """From a stranger, and from a worker that has the secret."""
    info = model_info()
    engine = Engine(Scheduler(info.recipe, info.geometry, Limits()))
    running = asyncio.create_task(engine.run())
    server = LinkServer(LinkService(engine, token="secret", model_digest="model"))
    await server.start()
    hello = link.Hello(worker="w", role=link.ROLE_DECODE, capacity=1, batch_limit=1, model_digest="model")
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            for payload in payloads(bomb):
                done = link.OpDone(sequence=0, segment=payload)
                later = link.AttachRequest(op_done=done).SerializeToString()
                firsts = (payload, link.AttachRequest(hello=hello).SerializeToString())
                for secret, first in product(("guess", "secret"), firsts):
                    attach: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(ATTACH)
                    call = attach(metadata=shown(secret))
                    for message in (first, payload, later):
                        if call.done():
                            break
                        try:
                            await call.write(message)
                        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                            break
                    async with asyncio.timeout(20):
                        with pytest.raises(grpc.aio.AioRpcError):
                            while await call.read() is not grpc.aio.EOF:
                                pass
        async with asyncio.timeout(20):
            while engine.scheduler.workers():
                await asyncio.sleep(0.01)
    finally:
        await server.stop()
        running.cancel()


def test_a_model_directory(tmp_path: Path, bomb: Bomb) -> None:
    """As each of its files, and as a .pt beside them."""
    info = write_model(tmp_path)
    whole = {name: (tmp_path / name).read_bytes() for name in (weights.INFO_FILE, weights.DIT_FILE, weights.VAE_FILE)}
    torch.save({"blocks": bomb}, tmp_path / "dit.pt")
    checkpoints = ((tmp_path / "dit.pt").read_bytes(), *payloads(bomb))
    for name in whole:
        for payload in checkpoints:
            (tmp_path / name).write_bytes(payload)
            with pytest.raises(InvalidField):
                read = weights.load_info(tmp_path)
                weights.check_weights(tmp_path, read)
            if name == weights.DIT_FILE:
                with pytest.raises(InvalidField):
                    weights.load_denoiser(tmp_path, info, Compute())
            if name == weights.VAE_FILE:
                with pytest.raises(InvalidField):
                    weights.load_decoder(tmp_path, info, Compute())
        (tmp_path / name).write_bytes(whole[name])
    weights.check_weights(tmp_path, weights.load_info(tmp_path))


def test_a_folder_of_profiles(tmp_path: Path, bomb: Bomb) -> None:
    numerics = Numerics(kernels=Kernels(torch_version="2", device="AVX512", dtype="float32"), digest="d")
    key = ProfileKey(
        model_digest="m", layers="0-1", compute=Compute(), numerics=numerics, tokens_per_block=1, window_pages=1,
        turns_reads=False, adds_bias=False, first_frames=3, max_batch=1,
    )  # fmt: skip
    measured = BatchProfile(forward_s={1: 0.1}, limit=1, inexact=None, mixes_kinds=False)
    for payload in (*payloads(bomb), b"[" * 100_000):
        (tmp_path / key.file_name).write_bytes(payload)
        assert cached(tmp_path, key, lambda: measured) == measured


def test_a_configuration(tmp_path: Path, bomb: Bomb) -> None:
    for payload in payloads(bomb):
        (tmp_path / "server.toml").write_bytes(payload)
        with pytest.raises(InvalidField):
            load_config(tmp_path / "server.toml")
    (tmp_path / "model").mkdir()
    (tmp_path / "server.toml").write_text(f'[model]\npath = "{tmp_path / "model"}"\n')
    (tmp_path / "model" / weights.INFO_FILE).write_bytes(payloads(bomb)[0])
    info = model_info()
    config = load_config(tmp_path / "server.toml")
    with pytest.raises(InvalidField):
        launcher_for(plan_for(config, info), Engine(Scheduler(info.recipe, info.geometry, Limits())))


def test_the_meeting_point(bomb: Bomb) -> None:
    """What a stranger puts where workers look is data, and mostly none that they accept."""
    info = model_info()
    seat = Seat(replica=WorkerId("r"), rank=1, length=2)

    def never() -> LayerTimes:
        raise AssertionError("measured")

    for payload in (*payloads(bomb), b"[" * 100_000, b"[[0, 1]]", b"7", b"\xff"):
        point = MeetingPoint()
        host, _, port = point.address.rpartition(":")
        store = c10d.TCPStore(host, int(port), is_master=False)
        store.set("agreed/layers of 2 workers", payload)
        with pytest.raises(InvalidField, match="2 ranges that make up 2 layers"):
            held_layers(seat, info, never, point.address)


@pytest.mark.parametrize(
    ("count", "header"),
    [(-1, []), (1 << 40, []), (1, [99, 1, 4]), (1, [0, 9, 4]), (1, [0, 1, -4]), (1, [-1, 1, 4])],
)
def test_tensors_that_cannot_be_are_not_made(count: int, header: list[int]) -> None:
    """What a peer announces is looked at before there is memory for it."""
    point = MeetingPoint()

    def announce() -> None:
        pair = Pair(point.address, "p", 0, timeout_s=10)
        pair.send(torch.tensor([count]))
        if header:
            pair.send(torch.tensor([header + [0] * (10 - len(header))]))

    with ThreadPoolExecutor() as threads:
        sending = threads.submit(announce)
        pair = Pair(point.address, "p", 1, timeout_s=10)
        with pytest.raises(InternalFault, match="announced"):
            pair.receive_all()
        sending.result()


def test_a_bomb_among_tensors(bomb: Bomb) -> None:
    point = MeetingPoint()
    sent = [torch.frombuffer(bytearray(payload), dtype=torch.uint8) for payload in payloads(bomb)]
    with ThreadPoolExecutor() as threads:
        sending = threads.submit(lambda: Pair(point.address, "p", 0, timeout_s=10).send_all(sent))
        received = Pair(point.address, "p", 1, timeout_s=10).receive_all()
        sending.result()
    assert [bytes(tensor.numpy()) for tensor in received] == list(payloads(bomb))
