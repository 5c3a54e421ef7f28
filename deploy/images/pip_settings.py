"""Where pip finds packages on this machine, as a pip.conf for a build and the files and folders that it names."""

from __future__ import annotations

import ast
import configparser
import io
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ENVIRONMENT = ":env:"
_GLOBAL = "global"
_LINE = re.compile(r"(?P<section>[^.=]+)\.(?P<key>[^=]+)=(?P<value>.*)")
_INDEXES = frozenset({"index-url", "extra-index-url"})
_KEYS = _INDEXES | {
    "cert", "client-cert", "constraint", "default-timeout", "find-links", "no-index", "pre", "proxy", "retries",
    "timeout", "trusted-host",
}  # fmt: skip
"""Those of pip's settings that say what is found and how it is reached; the others are about installing here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipSettings:
    """pip's settings for a build. They may hold passwords."""

    text: str
    """A pip.conf."""
    paths: tuple[Path, ...]
    """What it names on this machine: a build needs it at the same places."""
    told: tuple[str, ...]
    """The values of the settings: none of them belongs into an image."""


def settings_of(listing: str) -> PipSettings:
    """What a build needs of what `pip config list` prints. A variable of the environment goes before a file."""
    values: dict[str, dict[str, str]] = {_GLOBAL: {}}
    environment: dict[str, str] = {}
    for section, key, value in _listed(listing):
        if key in _KEYS:
            (environment if section == _ENVIRONMENT else values.setdefault(section, {}))[key] = value
    for keys in values.values():
        for key in environment:
            keys.pop(key, None)
    values[_GLOBAL] |= environment
    written = io.StringIO()
    parser = configparser.RawConfigParser()
    parser.read_dict({section: keys for section, keys in values.items() if keys})
    parser.write(written)
    paths = {path for keys in values.values() for path in _paths(keys)}
    told = {word for keys in values.values() for value in keys.values() for word in value.split() if "/" in word}
    return PipSettings(text=written.getvalue(), paths=tuple(sorted(paths)), told=tuple(sorted(told)))


def settings_here() -> PipSettings:
    """Those of the pip beside this interpreter, without paths that lead nowhere."""
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = settings_of(asked.stdout)
    return PipSettings(text=found.text, told=found.told, paths=tuple(path for path in found.paths if path.exists()))


def _listed(listing: str) -> Iterator[tuple[str, str, str]]:
    for line in listing.splitlines():
        if (match := _LINE.fullmatch(line)) is not None:
            yield match["section"], match["key"], str(ast.literal_eval(match["value"]))


def _paths(keys: Mapping[str, str]) -> Iterator[Path]:
    for key, value in keys.items():
        for word in value.split():
            if word.startswith("file:"):
                path = Path(unquote(urlsplit(word).path))
                # The pages of an index lead to files beside it.
                yield path.parent if key in _INDEXES and path.parent != Path("/") else path
            elif word.startswith("/"):
                yield Path(word)
