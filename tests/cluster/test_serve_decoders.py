"""Sessions of one server with different decoders at once: each gets what it gets alone, and others are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from longtake.cli.main import run
from longtake.client import DECODERS, Client, ClientError, DecoderName, OpenedEvent, SegmentEvent, StreamOptions
from longtake.v1 import longtake_pb2 as pb
from tests.cluster.served import Server
from tests.workers.model_dir import model_info, write_model
from tests.workers.tiny_decoder import with_tiny

PROMPT = "a red ball resting in the fog"
BLOCKS = 5
PICTURES = model_info().geometry.first_picture(BLOCKS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder / "model")
    with_tiny(folder / "model", folder)
    return folder / "model"


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), model, "subprocess")
    yield server
    server.end()


def options(decoder: DecoderName | None, fork: str | None = None) -> StreamOptions:
    return StreamOptions(seed=3, pictures=PICTURES, codec="raw", window=2, decoder=decoder, fork=fork)


async def made(
    client: Client, wished: StreamOptions, *, then_fork: bool = False
) -> tuple[dict[int, bytes], DecoderName]:
    """The segments of a stream and the decoder that it was told; of its fork's, if it is forked at its second block."""
    segments: dict[int, bytes] = {}
    async with client.stream(PROMPT, wished) as stream:
        decoder = stream.opened.decoder
        async for event in stream:
            if isinstance(event, SegmentEvent):
                segments[event.index] = event.data
                if then_fork and event.index == 1:
                    forked, told = await made(client, options(None, fork=stream.opened.session_id))
                    assert (told, min(forked) > 1) == (decoder, True)
                    return forked, told
            assert not isinstance(event, OpenedEvent) or event.decoder == decoder
    return segments, decoder


async def at_once_and_alone(address: str) -> tuple[dict[DecoderName, dict[int, bytes]], set[str]]:
    """The segments of each decoder alone, checked against those of several streams at once; and what is offered."""
    async with Client(address) as client:
        offered = {pb.Decoder.Name(number) for number in (await client.get_model()).decoders}
        alone = {decoder: (await made(client, options(decoder)))[0] for decoder in DECODERS}
        mixed: tuple[DecoderName | None, ...] = ("tiny", "full", "tiny", None)
        together = await asyncio.gather(*(made(client, options(decoder)) for decoder in mixed))
    for decoder, (segments, told) in zip(mixed, together, strict=True):
        assert told == (decoder or "full")
        assert segments == alone[told]
    return alone, offered


def test_two_decoders_at_once_make_what_each_makes_alone(server: Server, model: Path, tmp_path: Path) -> None:
    alone, offered = asyncio.run(at_once_and_alone(server.address))
    assert offered == {"DECODER_FULL", "DECODER_TINY"}
    assert sorted(alone["full"]) == sorted(alone["tiny"]) == list(range(BLOCKS))
    assert not set(alone["full"].values()) & set(alone["tiny"].values())
    for decoder, segments in alone.items():
        path = tmp_path / f"{decoder}.rgb"
        arguments = ["render", PROMPT, "--model", str(model), "--seed", "3", "--codec", "raw", "-o", str(path)]
        assert run([*arguments, "--duration", f"{PICTURES / 16}s", "--decoder", decoder]) == 0
        assert path.read_bytes() == b"".join(segments[number] for number in sorted(segments))


@pytest.mark.parametrize("decoder", ["full", "tiny"])
async def test_a_fork_goes_on_with_the_decoder_of_its_parent(server: Server, decoder: DecoderName) -> None:
    async with Client(server.address) as client:
        whole, _ = await made(client, options(decoder))
        forked, told = await made(client, options(decoder), then_fork=True)
    assert told == decoder
    assert forked == {number: whole[number] for number in forked}


async def test_what_cannot_be_had_is_refused_and_says_what_can(server: Server, tmp_path: Path) -> None:
    async with Client(server.address) as client:
        with pytest.raises(ClientError, match="unset in a fork") as refused:
            await made(client, options("full", fork="x"))
        assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(ValueError, match=r"decoder: 'huge' is not allowed; allowed: full, tiny"):
        await made(client, options("huge"))  # type: ignore[arg-type]


def test_a_model_without_a_tiny_decoder_refuses_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path)
    out = tmp_path / "out.rgb"
    arguments = ["render", PROMPT, "--model", str(tmp_path), "--duration", "1s", "--codec", "raw", "-o", str(out)]
    assert run([*arguments, "--decoder", "tiny"]) == 2
    error = capsys.readouterr().err
    assert "--decoder: 'DECODER_TINY' is not allowed; allowed: DECODER_FULL" in error
    assert not out.exists()


def test_the_summary_of_a_stream_says_which_decoder(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["stream", PROMPT, "--server", server.address, "--duration", "1s", "-o", "/dev/null"]
    assert run([*arguments, "--decoder", "tiny"]) == 0
    assert ", tiny decoder)" in capfd.readouterr().err
    assert run([*arguments, "--json"]) == 0
    assert '"decoder": "full"' in capfd.readouterr().out.splitlines()[-1]
    assert run(["model", "--server", server.address]) == 0
    assert "decoders: full, tiny" in capfd.readouterr().out
