"""What is made from the chart and the configuration: the chart's schema, and one rendering for readers.

`python -m deploy.render` writes them, `--check` says whether they are fresh.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.config import ServerConfig
from deploy.kubernetes_schema import definitions
from deploy.tools import tool

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy/chart/longtake"
OVERLAYS = ROOT / "deploy/overlays"
SCHEMA = CHART / "values.schema.json"
EXAMPLE = ROOT / "deploy/rendered/cpu-one-machine.yaml"
"""The rendering that lies in git: whoever has a cluster can apply it, and it holds no copy of dashboards and rules."""
NAMESPACE = "longtake"
OWNED: Mapping[str, frozenset[str]] = {
    "cluster": frozenset({"launch", "ray_address", "place_within_s", "denoise_nodes", "decode_nodes",
                          "text_nodes", "chains_on_one_node", "denoise_workers", "layer_split", "decode_workers",
                          "text_workers"}),
    "listen": frozenset({"host", "port"}),
    "metrics": frozenset({"address", "cell"}),
    "http": frozenset({"address"}),
    "journal": frozenset({"path"}),
    "tls": frozenset({"certificate", "key", "client_ca"}),
    "auth": frozenset({"tenants"}),
    "link": frozenset({"host", "port", "meeting_port", "certificate", "key", "ca"}),
}  # fmt: skip
"""Keys of the configuration that the chart sets from other values; all others may stand in `config`."""


def config_schema() -> dict[str, Any]:
    """The JSON schema of the value `config`: every key of the server's configuration that the chart leaves open."""
    whole = ServerConfig.model_json_schema()
    sections, definitions = whole["properties"], whole["$defs"]
    for name, owned in OWNED.items():
        properties = definitions[_named(sections[name])]["properties"]
        for key in owned:
            del properties[key]
        if not properties:
            del sections[name]
    schema = _inlined(whole, definitions)
    assert isinstance(schema, dict)
    return schema


def _named(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


def _inlined(schema: object, definitions: Mapping[str, object]) -> object:
    """`schema` with its references replaced, and without titles and defaults, which the server has, or null, which no
    TOML file can say."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    match schema:
        case {"anyOf": [only, {"type": "null"}]}:
            return _inlined(only, definitions)
    if "$ref" in schema:
        return _inlined(definitions[_named(schema)], definitions)
    kept = {
        key: value for key, value in schema.items() if key not in ("$defs", "default") and not _is_title(key, value)
    }
    return {key: _inlined(value, definitions) for key, value in kept.items()}


def _is_title(key: str, value: object) -> bool:
    return key == "title" and isinstance(value, str)


def helm(*arguments: str) -> str:
    """What helm prints; CalledProcessError if it fails, with what it says in `stderr`."""
    return subprocess.run([tool("helm"), *arguments], check=True, capture_output=True, text=True).stdout


def rendering(overlay: Path) -> str:
    """The manifests of a release named like the overlay."""
    name = overlay.stem
    text = helm("template", name, str(CHART), "--namespace", NAMESPACE, "--values", str(overlay))
    return f"# Made by `make rendered` from deploy/overlays/{overlay.name}: read it, do not edit it.\n{text}"


def made() -> dict[Path, str]:
    """What each file shall hold; the rendering is one of the chart as it lies there."""
    return {
        SCHEMA: chart_schema(),
        EXAMPLE: rendering(OVERLAYS / EXAMPLE.name),
    }


def chart_schema() -> str:
    """The chart's schema as it lies there, with `config` made anew, and Kubernetes' definitions, one a line."""
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["config"] = config_schema()
    taken = definitions()
    own = {name: each for name, each in schema["$defs"].items() if name not in taken and not name.startswith("io.k8s.")}
    text = json.dumps(schema | {"$defs": own | dict.fromkeys(taken)}, indent=2, ensure_ascii=False) + "\n"
    for name, each in taken.items():
        text = text.replace(f'"{name}": null', f'"{name}": {json.dumps(each)}', 1)
    return text


def stale() -> list[Path]:
    """Files that are not as they would be made, or that nothing makes."""
    wanted = made()
    wrong = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return wrong + [path for path in EXAMPLE.parent.glob("*") if path not in wanted]


def write() -> None:
    """Make all of them again."""
    SCHEMA.write_text(chart_schema())  # helm reads it
    EXAMPLE.parent.mkdir(exist_ok=True)
    for path, text in made().items():
        path.write_text(text)


def main() -> int:
    """Entry; 1 if --check finds something stale."""
    parser = argparse.ArgumentParser(prog="python -m deploy.render", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something is not fresh")
    if not parser.parse_args().check:
        write()
        return 0
    wrong = stale()
    for path in wrong:
        sys.stderr.write(f"{path.relative_to(ROOT)} is not fresh: make rendered\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
