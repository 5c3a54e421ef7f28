"""docs/protocol.md: fresh and complete, and what it shows of a conversation is what a server says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from cluster.frontend.responses import WIRE_ENDINGS
from cluster.net.statuses import ENDINGS, STATUSES
from longtake.core.endings import Ending
from longtake.v1 import longtake_pb2 as pb
from longtake.v1 import longtake_pb2_grpc as rpc
from protos import document
from tests.cluster.frontend.toy import HEADER, segment, toy_cell, toy_cell_in_thread

TEXT = (document.ROOT / document.TARGET).read_text(encoding="utf-8")
OPAQUE = {"session_id", "recipe_digest", "header", "media_type", "resume_token", "data"}
"""Fields that the document shows as …: they differ between models and streams, or are video."""


def block(language: str) -> str:
    """The one example in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)
    assert isinstance(found, str)
    return found


def test_the_document_is_fresh() -> None:
    assert document.fresh() == TEXT


def test_a_document_that_is_stale_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "protos/longtake/v1").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    for file in (document.PROTOS.relative_to(document.ROOT) / document.SOURCE, document.PREFACE, document.TARGET):
        (tmp_path / file).write_text((document.ROOT / file).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(document, "ROOT", tmp_path)
    monkeypatch.setattr(document, "PROTOS", tmp_path / "protos")
    monkeypatch.setattr("sys.argv", ["document", "--check"])
    assert document.main() == 0
    source = tmp_path / "protos" / document.SOURCE
    source.write_text(source.read_text(encoding="utf-8").replace("// Gives credit.", "// Gives much credit."))
    assert document.main() == 1


def test_every_call_message_field_and_value_has_its_line_with_its_comment() -> None:
    lines = set(TEXT.splitlines())
    for method in pb.DESCRIPTOR.services_by_name["LongtakeService"].methods:
        assert f"### {method.name}" in lines
    rows = {line.split(" | ")[0]: line for line in lines if line.startswith("| `")}
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        section = TEXT.split(f"\n### {message.name}\n")[1].split("\n### ")[0]
        for field in message.fields:
            (row,) = [line for line in section.splitlines() if line.startswith(f"| `{field.name}` |")]
            assert f"| {field.number} |" in row and len(row.split(" | ")[3]) > 3
    for enum in pb.DESCRIPTOR.enum_types_by_name.values():
        for value in enum.values:
            assert f" | {value.number} | " in rows[f"| `{value.name}`"]
    assert set(re.findall(r"\]\(#([a-z]+)\)", TEXT)) <= {line[4:].lower() for line in lines if line.startswith("### ")}


def test_every_status_and_every_ending_is_told() -> None:
    table = TEXT.split("## Errors")[1].split("## Words")[0]
    told = set(re.findall(r"^\| ([A-Z_]+) \|", table, flags=re.MULTILINE))
    statuses = {status.name for status in STATUSES.values()} | {status.name for status in ENDINGS.values()}
    assert told == statuses - {"OK"}
    last = table.split("The status of a stream that has ended is ")[1]
    for ending, status in ENDINGS.items():
        if ending is Ending.KEPT:  # no ending to a client, to whom its call seems to break
            assert "a server that keeps" in last and ending not in WIRE_ENDINGS
            continue
        clause = next(part for part in re.split(r",\s(?=[A-Z]{5})", last) if f"ENDING_{ending.name}`" in part)
        assert clause.startswith(status.name), clause


async def test_the_conversation_is_what_a_server_says() -> None:
    asked = [ParseDict(json.loads(text), pb.StreamRequest()) for text in re.findall(r"echo '(.*)'", block("sh"))]
    expected = [json.loads(line) for line in block("json").splitlines()]

    second, over = asyncio.Event(), asyncio.Event()

    async def requests() -> AsyncIterator[pb.StreamRequest]:
        yield asked[0]
        await second.wait()
        for frame in asked[1:]:
            yield frame
        await over.wait()

    answers: list[object] = []
    async with toy_cell(delay_s=0.01) as cell, grpc.aio.insecure_channel(cell.target) as channel:
        async for answer in rpc.LongtakeServiceStub(channel).Stream(requests()):
            said = MessageToDict(answer, preserving_proto_field_name=True)
            for inner in said.values():
                inner.update({name: "…" for name in OPAQUE & inner.keys()})
            answers.append(said)
            if answer.segment.index == 1:
                second.set()
        over.set()
    assert answers == expected


def test_the_example_in_python_writes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prompt = "a red ball circling in the fog"
    with toy_cell_in_thread() as cell:
        code = block("python").replace("127.0.0.1:50051", cell.target)
        assert cell.target in code
        exec(compile(code, "protocol.md", "exec"), {})
    expected = b"".join(segment(number, 7, prompt) for number in range(4))
    assert (tmp_path / "out.mp4").read_bytes() == HEADER + expected
