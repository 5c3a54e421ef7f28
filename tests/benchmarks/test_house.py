"""The measure of the house, on a tree so small that its figures are known by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.house import House, circles, measure, table

ROOT = Path(__file__).resolve().parents[2]
WIDE = "def wide(self, a, b, c, *, d, e, **more):\n    pass\n"
TREE = {
    "longtake/__init__.py": '"""Imports nothing."""\n',
    "longtake/core/__init__.py": "",
    "longtake/core/scheduler.py": "from longtake.core.recipe.graph import Graph\n\n\n"
    "class Scheduler:\n    def __init__(self, recipe):\n        self._sessions = recipe\n",
    "longtake/core/recipe/__init__.py": "",
    # Up, and a circle of rooms that is none of files.
    "longtake/core/recipe/graph.py": "class Graph:\n    pass\n",
    "longtake/core/recipe/layers.py": "def layers(*, recipe):\n    from longtake.core import scheduler\n"
    "    import workers.runner\n",
    "longtake/v1/longtake_pb2.py": "class Graph:\n    pass\n",
    "workers/__init__.py": "",
    "workers/runner.py": "from pocket import *\n\nGraph = int | None\n_Hidden = int\nLIMIT = 1\n"
    f"Value = TypeVar('Value')\n{WIDE}",
    "workers/models/__init__.py": "",
    "workers/models/one.py": "from . import two\nclass Worker:\n    pass\n",
    "workers/models/two.py": "import workers.models.one\n\n\ndef long():\n" + "    pass\n" * 30,
    "pocket/__init__.py": "from workers import runner\nValue = TypeVar('Value')\nclass Worker:\n    pass\n",
    "tests/test_it.py": "class Fake:\n    def _mine(self):\n        super()._sessions\n        return self._sessions\n"
    "Fake()._mine()\nScheduler()._sessions\nScheduler()._sessions = 0\nrow._replace()\ntensor._base\nx.__name__\n",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    for name, text in TREE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def house(root: Path) -> House:
    return measure(root)


def test_files_and_lines_are_counted_where_they_lie(house: House) -> None:
    assert house.files_per_folder == {"longtake": 1, "longtake/core": 2, "longtake/core/recipe": 3, "pocket": 1,
                                      "workers": 2, "workers/models": 3}  # fmt: skip
    assert house.lines_per_package == {"longtake": 1, "longtake/core": 11, "pocket": 4, "workers": 45}
    assert house.longest_files["workers"] == "workers/models/two.py (34)"
    assert house.test_lines == 10


def test_imports_that_go_up_are_named_wherever_they_stand(house: House) -> None:
    assert house.imports_up == ["longtake.core.recipe.layers -> workers.runner", "workers.runner -> pocket"]


def test_circles_are_seen_of_files_of_rooms_and_of_packages(house: House) -> None:
    assert house.circles_of_files == [["pocket", "workers.runner"], ["workers.models.one", "workers.models.two"]]
    assert house.circles_of_rooms == [
        ["longtake/core/recipe", "longtake/core/scheduler.py"],
        ["pocket/__init__.py", "workers/runner.py"],
    ]
    assert house.circles_of_packages == [["pocket", "workers"]]
    assert circles({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset(), "d": frozenset("a")}) == []


def test_functions_are_measured_without_the_object_they_belong_to(house: House) -> None:
    assert house.functions == 4
    assert (house.long_functions, house.longest_function) == (1, "workers/models/two.py:long (31)")
    assert house.wide_functions == 1
    assert house.recipe_parameters == 2


def test_a_name_of_two_types_is_seen_and_generated_private_and_type_variables_are_not(house: House) -> None:
    assert house.names_in_two_files == {
        "Graph": ["longtake/core/recipe/graph.py", "workers/runner.py"],
        "Worker": ["pocket/__init__.py", "workers/models/one.py"],
    }


def test_private_reads_are_those_of_others_members(house: House) -> None:
    assert (house.private_reads, house.files_with_private_reads) == (3, 1), "two of _sessions, one of _base"


def test_it_prints_a_table_and_json_of_any_checkout(house: House, root: Path) -> None:
    assert "up: workers.runner -> pocket" in table(house)
    command = [sys.executable, "-m", "benchmarks.house", "--root", str(root), "--json"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert json.loads(printed)["circles_of_packages"] == [["pocket", "workers"]]


def test_this_house_has_no_circle_and_no_import_goes_up() -> None:
    own = measure(ROOT)
    assert own.imports_up == []
    assert own.circles_of_files + own.circles_of_rooms + own.circles_of_packages == []
