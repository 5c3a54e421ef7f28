"""Command lines that pages and manifests have, as `longtake` would read them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from longtake.cli.main import cli


def commands(text: str) -> Iterator[list[str]]:
    """Lines of the shell blocks, without redirections."""
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
        for line in block.splitlines():
            if line.strip():
                words = shlex.split(line, comments=True)
                ends = [number for number, word in enumerate(words) if re.match(r"\d?>|&$|\|$", word)]
                yield words[: ends[0]] if ends else words


def understood(words: list[str]) -> None:
    """UsageError if `longtake` would not take a command line; nothing is run."""
    command = cli.commands[words[1]]
    command.make_context(words[1], words[2:], resilient_parsing=False)
