"""What `import longtake` gives: the client's names, the version, and nothing that was not asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import longtake
import longtake.client


def test_the_names_of_the_client_are_those_of_the_package() -> None:
    assert set(longtake.client.__all__) == longtake.NAMES
    for name in longtake.NAMES:
        assert getattr(longtake, name) is getattr(longtake.client, name)
    assert longtake.__version__ == version("longtake")


def test_packages_stay_packages_and_what_is_unknown_is_said() -> None:
    from longtake import client

    assert client is longtake.client
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from longtake import Nothing")


def test_all_of_it_can_be_imported_at_once() -> None:
    found: dict[str, object] = {}
    exec("from longtake import *", found)
    assert found.keys() - {"__builtins__"} == longtake.NAMES


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, longtake, longtake.core.work; print([name for name in sys.modules if name.startswith('grpc')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
