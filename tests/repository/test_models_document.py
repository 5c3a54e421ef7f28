"""docs/models.md: every recipe that ships is in it, as it ships, and its table is what `longtake plan` computes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from longtake.core.plan.measured import MEASURED
from longtake.core.recipe.published import PUBLISHED
from tests.core.plan.h100 import on_h100s

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
LAYOUTS = [
    ("wan-hiar", 1, 1), ("wan-hiar", 4, 1), ("wan-self-forcing", 1, 1), ("wan-longlive", 1, 1), ("wan-14b-krea", 4, 4),
]  # fmt: skip
"""Recipe, GPUs, and how many of them hold one model together."""


def row(recipe: str, gpus: int, split: int) -> str:
    planned = on_h100s(recipe, gpus, split)
    forward, found = planned.times.forward, planned.shared
    pages = f"{planned.made.bytes_per_session.kv_reserved / 1e9:.1f} GB"
    return (
        f"| `{recipe}` | {gpus}{', one chain' if split > 1 else ''} | {pages} | {1000 * forward.value:.0f} ms, "
        f"{forward.basis} | {found.block_s:.2f} s of a GPU | at most {found.blocks_per_s:.2f} blocks/s | "
        f"{found.streams or 'none'} |"
    )


@pytest.mark.parametrize(("recipe", "gpus", "split"), LAYOUTS)
def test_the_table_is_what_the_plan_computes(recipe: str, gpus: int, split: int) -> None:
    assert row(recipe, gpus, split) in TEXT.splitlines()


def test_the_table_has_no_other_rows() -> None:
    table = TEXT.partition("### Memory and speed")[2].partition("\n- ")[0]
    assert len(re.findall(r"^\| `", table, flags=re.MULTILINE)) == len(LAYOUTS)
    assert {recipe for recipe, _, _ in LAYOUTS} == PUBLISHED.keys()


def test_it_names_the_measurement_that_the_plan_goes_by() -> None:
    joined = " ".join(TEXT.split())
    for part in (MEASURED.card, f"torch {MEASURED.torch}", f"commit {MEASURED.commit}"):
        assert part in joined
    for value_s in (MEASURED.denoise_s[21], MEASURED.commit_s[21], MEASURED.host_s):
        assert f"{1000 * value_s:.1f} ms" in joined
    for value_s in (MEASURED.decode_s, MEASURED.encode_s):
        assert f"{1000 * value_s:.0f} ms" in joined
    for times_as_long in (MEASURED.slower_denoise, MEASURED.slower_decode):
        assert f"{times_as_long} times" in joined


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_every_recipe_is_told_as_it_ships(recipe: str) -> None:
    made = PUBLISHED[recipe]
    (told,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{recipe}` | Wan")]
    cells = [cell.strip() for cell in told.strip("|").split("|")]
    window = str(made.recipe.window_frames)
    weights = f"`{made.weights}`" if made.weights else "one file"
    expected = [f"`{recipe}`", made.base.value, made.recipe.level.value, window, str(made.recipe.sink_frames), weights]
    assert cells == [*expected, made.source, made.licence]
    assert f"--recipe {recipe} " in TEXT
