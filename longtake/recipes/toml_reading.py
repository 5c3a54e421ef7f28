"""TOML files, read as editors write them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from longtake.core.errors import InvalidField

MOST_BYTES = 1 << 20
"""No file that people write is longer; a device that never ends is not read for ever."""


def read_toml(path: Path, *, field: str) -> Mapping[str, object]:
    """What stands in a TOML file that somebody names in `field`; InvalidField if that is none."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidField(field, str(path), f"a readable file ({error.strerror})") from None
    except ValueError:
        raise InvalidField(field, str(path), "a readable file (no name holds a zero byte)") from None
    if len(content) > MOST_BYTES:
        raise InvalidField(field, str(path), f"a TOML file of at most {MOST_BYTES} bytes")
    try:
        return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        raise InvalidField(field, str(path), f"a TOML file, in UTF-8 (byte {error.start} is not)") from None
    except ValueError as error:
        raise InvalidField(field, str(path), f"a TOML file ({error})") from None
    except RecursionError:
        raise InvalidField(field, str(path), "a TOML file (brackets in brackets, too deep)") from None
