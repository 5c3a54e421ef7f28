"""What a worker is to be: it reaches a process of its own as it was meant, and a line that is wrong is told exactly."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longtake.core.errors import InvalidField
from longtake.core.recipe.published import PUBLISHED
from longtake.core.work import Role, WorkerId
from tests.core.support.recipes import altered
from workers.link_trust import LinkFiles
from workers.messages import Seat
from workers.models.api import Compute
from workers.start.spec import WorkerSpec, read_spec, to_line

LONGLIVE = PUBLISHED["wan-longlive"].recipe
SPEC = WorkerSpec(worker=WorkerId("denoise-0"), role=Role.DENOISE, capacity=15, model=Path("/models/a b"))
WHOLE = replace(
    SPEC,
    compute=Compute(device="cuda:1", dtype="bfloat16"),
    max_batch=4,
    recipes=(
        PUBLISHED["wan-longlive"].recipe,
        altered(PUBLISHED["wan-hiar"].recipe, window_frames=None, block_limit=7),
    ),
    meeting_point="127.0.0.1:7",
    seat=Seat(replica=WorkerId("denoise-0"), rank=1, length=3),
    profiles="/p\nq",
    link_files=LinkFiles(certificate=Path("a.pem"), key=Path("a.key"), ca=Path("ca.pem")),
)


@pytest.mark.parametrize("spec", [SPEC, WHOLE])
def test_a_specification_is_read_as_it_is_written_in_one_line(spec: WorkerSpec) -> None:
    line = to_line(spec)
    assert line.count("\n") == 1 and line.endswith("\n")
    assert read_spec(io.StringIO(line)) == spec


def test_specifications_end_with_the_input() -> None:
    lines = io.StringIO(to_line(SPEC) + to_line(WHOLE))
    assert [read_spec(lines), read_spec(lines), read_spec(lines)] == [SPEC, WHOLE, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": "dance"}, r"worker\.role: 'dance' is not allowed; allowed: denoise, decode"),
        ({"capacity": 0}, r"worker\.capacity: 0 is not allowed; allowed: 1 or more pages or decoder slots"),
        ({"capacity": "many"}, r"worker\.capacity: 'many' is not allowed; allowed: a whole number"),
        ({"max_batch": 0}, r"worker\.max_batch: 0 is not allowed; allowed: 1 or more ops"),
        ({"model": 7}, r"worker\.model: 7 is not allowed; allowed: a path"),
        ({"batch": 3}, r"worker\.batch: 3 is not allowed; allowed: one of the fields worker, role, capacity, model"),
        (
            {"compute": {"dtyp": "x"}},
            r"worker\.compute\.dtyp: 'x' is not allowed; allowed: one of the fields device, dtype",
        ),
        ({"compute": {"dtype": "float8"}}, r"model\.dtype: 'float8' is not allowed; allowed: float32 or bfloat16"),
        ({"seat": {"replica": "d", "rank": 0}}, r"worker\.seat: .* allowed: also length"),
        ({"seat": {"replica": "d", "rank": 3, "length": 3}}, r"worker\.seat\.rank: 3 is not allowed; allowed: 0 to 2"),
        ({"seat": 1}, r"worker\.seat: 1 is not allowed; allowed: a JSON object or null"),
    ],
)
def test_a_field_that_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidField, match=message):
        read_spec(io.StringIO(json.dumps(json.loads(to_line(SPEC)) | change)))


@pytest.mark.parametrize("line", ["nonsense", '{"worker": "w"', "[" * 10_000, '"' + "x" * 100_000 + '"'])
def test_what_is_no_specification_is_refused(line: str) -> None:
    with pytest.raises(InvalidField, match="a JSON object in one line"):
        read_spec(io.StringIO(line + "\n"))
    with pytest.raises(InvalidField, match=r"worker: \[\] is not allowed; allowed: a JSON object"):
        read_spec(io.StringIO("[]\n"))
