"""What documents name (commands, settings, metrics, alerts, messages, files), and whether it exists."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from cluster.config import LIMITS_KEYS, ServerConfig
from deploy.render import CHART
from longtake import client
from longtake.cli.main import cli
from longtake.core.limits import Limits
from longtake.core.recipe.table import KEYS
from longtake.v1 import longtake_pb2 as pb
from monitoring.alerting.alerts import alerts
from monitoring.alerting.records import Records, TimeScale
from monitoring.declarations import METRICS

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^([ ]*)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<!\S)--?[a-zA-Z][a-z-]*")
INSTANCES = {"client": "Client", "stream": "Stream", "cue": "StreamCue", "event": "SegmentEvent"}
"""What a variable of this name is an instance of."""
OTHERS = ("asyncio.", "torch.", "grpc.", "google.", "hiar.", "taew2_1.", "models_t5_umt5", "out.", "same.", "CELL.")
"""How names begin that are not ours."""
Schema = dict[str, Any]
DATA = (".json", ".txt", ".toml")
SERVICES = {service.full_name for service in pb.DESCRIPTOR.services_by_name.values()}
LONGTAKE_FRAMES = (pb.StreamRequest, pb.StreamResponse)


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks in one of these languages."""
    return [code for _, language, code in FENCE.findall(text) if language in languages]


def spans(text: str) -> list[str]:
    """What stands in code within the lines."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", text))]


# --- commands ---------------------------------------------------------------------------------------------------------


def command_lines(text: str) -> Iterator[list[str]]:
    """The calls of `longtake` in blocks, without what stands before them and without redirections."""
    for block in blocks(text, "", "sh"):
        for line in block.splitlines():
            found = re.match(r"\s*(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(longtake .*)", line)
            if found:
                words = shlex.split(found[1], comments=True)
                ends = [number for number, word in enumerate(words) if re.match(r"\d?>|&$|\|$", word)]
                yield words[: ends[0]] if ends else words


def wrong_command(call: str) -> str:
    """Why `longtake …` is no command of ours, or an option none of it; empty if it is one."""
    _, name, *rest = f"{call} ".split(" ")
    command = cli.commands.get(name)
    if command is None:
        return "" if name in ("", "COMMAND", "--help", "--version") else f"longtake {name}"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    outside_quotes = re.sub(r'"[^"]*"|\'[^\']*\'', "", " ".join(rest))
    unknown = set(OPTION.findall(outside_quotes)) - known
    return f"longtake {name} {' '.join(sorted(unknown))}" if unknown else ""


def help_texts() -> dict[str, str]:
    """What `longtake --help` and `longtake COMMAND --help` print."""
    root = click.Context(cli, info_name="longtake")
    texts = {"longtake": cli.get_help(root)}
    for name, command in cli.commands.items():
        texts[name] = command.get_help(click.Context(command, info_name=name, parent=root))
    return texts


def wrong_module(call: str) -> list[str]:
    """What of `python -m MODULE --option …` does not exist."""
    found = re.search(r"python -m ([\w.]+)([^|#]*)", call)
    if found is None or found[1] in ("pip", "venv", "pytest"):
        return []
    path = ROOT / found[1].replace(".", "/")
    files = [path.with_suffix(".py")] if path.with_suffix(".py").exists() else [path / "__main__.py"]
    if not files[0].exists():
        return [f"python -m {found[1]}"]
    text = "".join(file.read_text(encoding="utf-8") for file in files[0].parent.glob("*.py"))
    options = {option for option in OPTION.findall(found[2]) if option.startswith("--")}
    return [f"python -m {found[1]} {option}" for option in sorted(options) if not _takes(text, option)]


def _takes(text: str, option: str) -> bool:
    """Whether the text of a program has an option, or a field of which one is made."""
    field = option.removeprefix("--").replace("-", "_")
    return re.search(rf'"{option}"|"{option}[/= ]|/{option}"|^ +{field}: ', text, re.MULTILINE) is not None


def files_in_blocks(text: str) -> list[str]:
    """The paths below folders of the repository that commands are given."""
    top = "deploy|benchmarks|tests|examples|docs|monitoring|pocket|protos"
    return [path for block in blocks(text, "", "sh") for path in re.findall(rf"(?<![\w./-])(?:{top})/[\w./-]+", block)]


# --- settings, metrics, alerts ----------------------------------------------------------------------------------------


def is_key(name: str) -> bool:
    """Whether it is a key of the configuration or of a recipe, `section.key`."""
    if name in KEYS:
        return True
    section: type[BaseModel] = ServerConfig
    for part in name.split("."):
        if part not in section.model_fields:
            return False
        annotation = section.model_fields[part].annotation
        if annotation is Limits:
            return name in {"limits", *(f"limits.{key}" for key in LIMITS_KEYS)}
        section = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else BaseModel
    return True


@cache
def _schema() -> Schema:
    schema: Schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return schema


def _properties(schema: Schema) -> Schema:
    if "$ref" in schema:
        schema = schema | _schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    found: Schema = dict(schema.get("properties", {}))
    for part in schema.get("allOf", ()):
        found |= _properties(part)
    return found


def is_value(name: str) -> bool:
    """Whether it is one of the chart's values; below `config` it is a key of the configuration."""
    schema = _schema()
    if name.startswith("config."):
        return is_key(name.removeprefix("config."))
    for part in name.split("."):
        properties = _properties(schema)
        if part not in properties:
            return False
        schema = properties[part]
    return True


def is_metric(text: str) -> bool:
    """Whether `name` or `name{label,label="value"}` is a metric of ours with these labels."""
    found = re.fullmatch(r"(longtake_\w+)(?:\{(.*)\})?", text)
    metric = next((metric for metric in METRICS if found and metric.name == found[1]), None)
    if found is None or metric is None:
        return False
    return {label.split("=")[0].strip() for label in (found[2] or "").split(",") if label} <= {*metric.labels}


def is_alert(name: str) -> bool:
    """Whether an alert has this name."""
    return any(alert.name == name for alert in alerts(Records(TimeScale())))


# --- the protocol, the client, files ----------------------------------------------------------------------------------


@cache
def constants() -> frozenset[str]:
    """The constants of all enumerations of the protocol."""
    enums = pb.DESCRIPTOR.enum_types_by_name.values()
    return frozenset(name for enum in enums for name in enum.values_by_name)


def is_field(name: str) -> bool:
    """Whether it is `Message.field`, `Method.field` of its request, or `frame.field` of a stream."""
    first, *fields = name.split(".")
    found: Any = pb.DESCRIPTOR.message_types_by_name.get(first)
    for frames in LONGTAKE_FRAMES:
        if found is None and first in frames.DESCRIPTOR.fields_by_name:
            found = frames.DESCRIPTOR.fields_by_name[first].message_type
    for field in fields:
        if found is None or not (field in found.fields_by_name or field in found.oneofs_by_name):
            return False
        found = found.fields_by_name[field].message_type if field in found.fields_by_name else None
    return bool(fields)


def has_member(kind: type, name: str) -> bool:
    """Whether instances of a class of the client have it."""
    return hasattr(kind, name) or bool(re.search(rf"^ +(self\.)?{name}\b *[:=]", inspect.getsource(kind), re.MULTILINE))


def is_of_client(name: str) -> bool:
    """Whether it is `Class.member` of what the client exports, or `variable.member` of what is called so."""
    first, _, member = name.partition(".")
    kind = getattr(client, INSTANCES.get(first, first), None)
    return isinstance(kind, type) and has_member(kind, member)


@cache
def exported() -> tuple[type, ...]:
    """The classes that the client exports."""
    kinds = (getattr(client, name) for name in client.__all__)
    return tuple(kind for kind in kinds if isinstance(kind, type))


def is_module(name: str) -> bool:
    """Whether it is a module or package of ours, a name within one, or our service."""
    if name in SERVICES:
        return True
    path, member = ROOT / name.replace(".", "/"), ""
    if not (path.is_dir() or path.with_suffix(".py").exists()):
        path, member = path.parent, path.name
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.exists():
        return False
    tree = ast.parse(file.read_text(encoding="utf-8"))
    known = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    known |= {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return not member or member in known


@cache
def _files() -> frozenset[str]:
    skipped = {".git", ".venv", "node_modules", "build", "__pycache__"}
    return frozenset(
        str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if skipped.isdisjoint(path.relative_to(ROOT).parts)
    )


def is_file(name: str, page: Path) -> bool:
    """Whether it is a file or folder of the repository: from its root, from the page, or the end of one path only."""
    path = name.split("::")[0].rstrip("/")
    return (ROOT / path).exists() or (page.parent / path).exists() or any(f.endswith(f"/{path}") for f in _files())
