"""Writes docs/protocol.md from the public .proto and its comments: `python -m protos.document`, or `--check`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
SOURCE = Path("longtake/v1/longtake.proto")
PREFACE = Path("protos/preface.md")
TARGET = Path("docs/protocol.md")

# Numbers of fields in descriptor.proto, of which the paths of comments are made.
_MESSAGES, _ENUMS, _SERVICES, _FIELDS, _VALUES, _METHODS, _SYNTAX = 4, 5, 6, 2, 2, 2, 12
_KINDS = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}


class Comments:
    """What stands above each declaration of a file."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._texts: dict[tuple[int, ...], str] = {}
        for location in file.source_code_info.location:
            text = location.leading_comments or "\n".join(location.leading_detached_comments)
            self._texts[tuple(location.path)] = "\n".join(line.strip() for line in text.strip().splitlines())

    def of(self, *path: int) -> str:
        """As it was written, without the slashes."""
        return self._texts.get(path, "")

    def line(self, *path: int) -> str:
        """In one line, for a cell of a table."""
        return " ".join(self.of(*path).split()).replace("|", "\\|")


def parsed(source: Path) -> FileDescriptorProto:
    """The file, with its comments; `source` is relative to protos/."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "set"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", "--include_source_info"]
        subprocess.run([*command, f"--descriptor_set_out={target}", str(source)], check=True, cwd=PROTOS)
        return FileDescriptorSet.FromString(target.read_bytes()).file[0]


def document(file: FileDescriptorProto, preface: str) -> str:
    """The whole document."""
    comments = Comments(file)
    parts = [preface.strip(), "## Words", _words(comments.of(_SYNTAX))]
    for number, service in enumerate(file.service):
        parts += [f"## {service.name}", comments.of(_SERVICES, number)]
        for index, method in enumerate(service.method):
            parts += [f"### {method.name}", _signature(method), comments.of(_SERVICES, number, _METHODS, index)]
    parts.append("## Messages")
    for number, message in enumerate(file.message_type):
        parts += [f"### {message.name}", comments.of(_MESSAGES, number), *_fields(message, number, comments)]
    parts.append("## Enums")
    for number, enum in enumerate(file.enum_type):
        parts += [f"### {enum.name}", comments.of(_ENUMS, number), _values(enum, number, comments)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _words(text: str) -> str:
    """What the comment at the head of the file says of the words; the preface says the rest at more length."""
    start = "Words. "
    return next(paragraph.removeprefix(start) for paragraph in text.split("\n\n") if paragraph.startswith(start))


def _signature(method: MethodDescriptorProto) -> str:
    def side(name: str, streams: bool) -> str:
        return f"{'stream of ' if streams else ''}{_link(name)}"

    asked, answered = method.input_type, method.output_type
    return f"{side(asked, method.client_streaming)} → {side(answered, method.server_streaming)}"


def _fields(message: DescriptorProto, number: int, comments: Comments) -> list[str]:
    if not message.field:
        return ["No fields."]
    rows = ["| field | type | number | meaning |", "|---|---|---|---|"]
    for index, field in enumerate(message.field):
        text = comments.line(_MESSAGES, number, _FIELDS, index)
        rows.append(f"| `{field.name}` | {_type(field, message)} | {field.number} | {text} |")
    choices = [
        f"One of `{oneof.name}`: {comments.line(_MESSAGES, number, 8, index)}"
        for index, oneof in enumerate(message.oneof_decl)
        if any(field.oneof_index == index and _in_oneof(field) for field in message.field)
    ]
    return [*choices, "\n".join(rows)]


def _in_oneof(field: FieldDescriptorProto) -> bool:
    return field.HasField("oneof_index") and not field.proto3_optional


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    name = _link(field.type_name) if field.type_name else _KINDS[field.type]
    if _in_oneof(field):
        return f"{name}, in `{message.oneof_decl[field.oneof_index].name}`"
    if field.proto3_optional:
        return f"optional {name}"
    return f"repeated {name}" if field.label == FieldDescriptorProto.LABEL_REPEATED else name


def _values(enum: EnumDescriptorProto, number: int, comments: Comments) -> str:
    rows = ["| value | number | meaning |", "|---|---|---|"]
    for index, value in enumerate(enum.value):
        rows.append(f"| `{value.name}` | {value.number} | {comments.line(_ENUMS, number, _VALUES, index)} |")
    return "\n".join(rows)


def _link(name: str) -> str:
    """A type's name, with the way to its section if it is one of ours."""
    short = name.rsplit(".", 1)[-1]
    return f"[{short}](#{short.lower()})" if name.startswith(".longtake.") else f"`{name.lstrip('.')}`"


def fresh() -> str:
    """The document as it must be now."""
    return document(parsed(SOURCE), (ROOT / PREFACE).read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/protocol.md from the .proto file and its comments.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if it is not fresh")
    target = ROOT / TARGET
    if not parser.parse_args().check:
        target.write_text(fresh(), encoding="utf-8")
        return 0
    if target.exists() and target.read_text(encoding="utf-8") == fresh():
        return 0
    sys.stderr.write(f"not fresh, run `python -m protos.document`: {TARGET}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
