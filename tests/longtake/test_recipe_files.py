"""Recipes that ship, recipes in files, and what `longtake recipe` says of both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.launch.plan import POCKET, model_path
from longtake.cli.main import run
from longtake.core.errors import InvalidField
from longtake.core.recipe.context import Level
from longtake.core.recipe.positions import Cyclic, Numbering
from longtake.recipes import find_recipe, shipped
from workers.models import weights

ROOT = Path(__file__).parents[2]
THREE = """
[steps]
ladder = [1000]
[blocks]
frames = 3
[context]
level = "input"
sink_frames = 3
"""


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_recipes_that_ship_are_these() -> None:
    made = shipped()
    assert list(made) == [
        *("hiar", "acdit", "liveact", "hiar-hybrid", "ca2-vdm", "clean", "lag-2"),
        *("longlive", "longlive-infinite", "reference", "sinks", "vid-gpt", "asd", "input", "longlive-2", "two-step"),
        *("one-step", "liveact-memory", "cmdm", "frame-wise", "rolling", "frame-wise-2", "causal-forcing-pp"),
    ]
    assert len({each.recipe.digest for each in made.values()}) == len(made)
    assert all(each.help and each.paper for each in made.values())
    told = {name: (each.recipe.level, each.recipe.step_count, each.recipe.blocks.frames, each.recipe.sink_frames)
            for name, each in made.items()}  # fmt: skip
    assert told == {
        "hiar": (Level.OUTPUT, 4, 3, 0), "clean": (Level.CLEAN, 4, 3, 0), "sinks": (Level.CLEAN, 4, 3, 3),
        "input": (Level.INPUT, 4, 3, 0), "two-step": (Level.CLEAN, 2, 3, 0), "one-step": (Level.CLEAN, 1, 3, 0),
        "lag-2": (Level.STAGGERED, 4, 3, 0), "cmdm": (Level.STAGGERED, 4, 1, 0), "rolling": (Level.STAGGERED, 4, 1, 3),
        "longlive": (Level.CLEAN, 4, 3, 3), "ca2-vdm": (Level.CLEAN, 4, 3, 0),
        "frame-wise": (Level.CLEAN, 4, 1, 0), "frame-wise-2": (Level.CLEAN, 2, 1, 0), "liveact": (Level.INPUT, 3, 4, 1),
        "hiar-hybrid": (Level.OUTPUT, 4, 3, 0),
        "liveact-memory": (Level.INPUT, 3, 2, 1), "acdit": (Level.CLEAN, 4, 4, 0),
        "longlive-2": (Level.CLEAN, 2, 3, 0),
        "longlive-infinite": (Level.CLEAN, 4, 3, 3), "vid-gpt": (Level.CLEAN, 4, 3, 0),
        "asd": (Level.CLEAN, 4, 3, 0), "causal-forcing-pp": (Level.CLEAN, 4, 1, 0), "reference": (Level.CLEAN, 4, 3, 0),
    }  # fmt: skip
    placed = {name: each.recipe.positions.stream for name, each in made.items()}
    others = {
        "longlive-infinite": Numbering.LISTED,
        "liveact-memory": Numbering.LISTED,
        "vid-gpt": Cyclic(cyclic=9),
        "ca2-vdm": Cyclic(cyclic=9),
    }
    assert placed == dict.fromkeys(made, Numbering.ABSOLUTE) | others
    assert {name for name, each in made.items() if each.recipe.memory.folds} == {"liveact-memory"}


def test_check_says_what_becomes_of_frames_that_leave(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["recipe", "check", str(ROOT / "longtake/recipes/liveact-memory.toml")]) == 0
    assert "1 sinks, a memory of 2 frames, each folded of 2 that leave the window\n" in capsys.readouterr().out
    text = (ROOT / "longtake/recipes/liveact-memory.toml").read_text()
    thirds = text.replace("fold_frames = 2", "fold_frames = 3").replace("memory_frames = 2", "memory_frames = 1")
    assert run(["recipe", "check", str(written(tmp_path, thirds))]) == 2
    assert "a divisor of 16, the tokens of a latent frame" in capsys.readouterr().err
    assert run(["recipe", "check", str(written(tmp_path, text.replace("fold_frames = 2", "fold_frames = 4")))]) == 2
    told = capsys.readouterr().err
    assert "memory.fold_frames = 4 with context.memory_frames = 2 contradicts blocks.frames = 2" in told


def test_check_says_how_distance_counts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = (ROOT / "longtake/recipes/clean.toml").read_text()
    assert run(["recipe", "check", str(written(tmp_path, text + "\n[positions]\nslope = 0.1\n"))]) == 0
    assert "0 sinks, 0.1 less for each frame of distance\n" in capsys.readouterr().out
    assert run(["recipe", "check", str(written(tmp_path, text + "\n[positions]\nslope = 11\n"))]) == 2
    assert "positions.slope" in (told := capsys.readouterr().err) and "a number from 0 to 10" in told


def test_check_names_the_lists_of_steps(capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    for name in ("asd", "causal-forcing-pp", "clean"):
        assert run(["recipe", "check", str(ROOT / f"longtake/recipes/{name}.toml")]) == 0
        told[name] = capsys.readouterr().out
    assert "blocks take for the first block [1000, 750, 500, 250], under load [1000, 500] or [1000]\n" in told["asd"]
    assert "blocks take [1000, 500], for the first block [1000, 750, 500, 250]\n" in told["causal-forcing-pp"]
    assert "0.38 x that" in told["causal-forcing-pp"] and "3 forwards a block" in told["causal-forcing-pp"]
    assert "2 forwards from noise" in told["causal-forcing-pp"]
    assert "blocks take" not in told["clean"]


def test_hiar_is_the_recipe_of_the_pocket_model_and_its_digest_is_what_it_was() -> None:
    own = weights.load_info(model_path(POCKET)).recipe
    assert shipped()["hiar"].recipe == own
    assert own.digest == "9a67e82bfdd81c86ba9768105efd61696070e1e3e06410f1caa9472f75b9116b"


def test_a_recipe_is_found_by_its_name_or_by_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_recipe("clean", field="f") is shipped()["clean"]
    path = written(tmp_path, (ROOT / "longtake/recipes/clean.toml").read_text())
    monkeypatch.chdir(tmp_path)
    for text in ("./mine.toml", "mine.toml", str(path)):
        found = find_recipe(text, field="f")
        assert (found.name, found.recipe) == ("mine", shipped()["clean"].recipe)


@pytest.mark.parametrize(
    "text", ["Clean", "", "mine", "./nothing.toml", "./Mine Own.toml", "./bytes.toml", "/dev/zero/"]
)
def test_what_is_no_recipe_is_refused_by_the_field_that_names_it(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, "[steps]\n", "Mine Own.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff = [")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidField) as caught:
        find_recipe(text, field="model.recipes")
    assert caught.value.field == "model.recipes"


def test_check_names_both_sides_of_each_contradiction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", "check", str(written(tmp_path, THREE))]) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == "" and len(lines) == 3
    expected = (
        ("context.window_frames", "blocks.limit"),
        ("context.sink_frames = 3", "context.window_frames"),
        ("context.level = input", "steps.ladder = [1000]"),
    )
    for line, sides in zip(lines, expected, strict=True):
        assert all(side in line for side in sides), line


def test_check_names_every_wrong_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", "check", str(written(tmp_path, THREE + "lags = 1\n[drafts]\nblocks = 4\n"))]) == 2
    said = capsys.readouterr()
    assert [line.split()[1] for line in said.err.splitlines()] == ["drafts:", "context.lags:"]


def test_check_says_what_a_recipe_costs(capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: 5 of 8 forwards of equal size; 3 of 8 that are a third, three times as often."""
    assert run(["recipe", "check", str(ROOT / "longtake/recipes/clean.toml")]) == 0
    said = capsys.readouterr().out
    assert "clean is right" in said and "0.62 x that of the own recipe of pocket: 5 forwards a block of 0.75 s" in said
    assert "9 pages in 1 lane " in said and "4 forwards from noise" in said
    told = {}
    for name in ("hiar", "one-step", "frame-wise-2"):
        assert run(["recipe", "check", str(ROOT / f"longtake/recipes/{name}.toml"), "--json"]) == 0
        told[name] = json.loads(capsys.readouterr().out)
    assert [told[name]["pages"] for name in told] == [36, 9, 9] and told["hiar"]["lanes"] == 4
    assert told["hiar"]["relative_cost"] == 1 and told["one-step"]["relative_cost"] == pytest.approx(2 / 8)
    assert told["frame-wise-2"]["relative_cost"] == pytest.approx(3 / 8)
    assert told["frame-wise-2"]["block_s"] == 0.25 and told["frame-wise-2"]["steps"] == [1000, 500]


def test_show_prints_a_file_that_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in shipped():
        assert run(["recipe", "show", name]) == 0
        path = written(tmp_path, capsys.readouterr().out, f"{name}.toml")
        assert find_recipe(str(path), field="f") == shipped()[name]
    assert run(["recipe", "show", "hear"]) == 2
    assert "allowed: hiar, " in capsys.readouterr().err
