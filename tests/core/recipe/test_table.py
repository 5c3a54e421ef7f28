"""Recipes as tables of a file: what is left out, what is wrong, and that no key is passed over."""

from __future__ import annotations

from typing import Any

import pytest

from longtake.core.errors import Contradiction, Contradictions, InvalidField, InvalidFields
from longtake.core.recipe.blocks import BlockPlan
from longtake.core.recipe.context import Context, Level
from longtake.core.recipe.positions import Cyclic, Numbering, Positions
from longtake.core.recipe.recipe import Recipe
from longtake.core.recipe.steps import StepPlan
from longtake.core.recipe.table import Quality, read_recipe

Document = dict[str, Any]
LEAST: Document = {"blocks": {"frames": 3}, "context": {"level": "clean", "window_frames": 9}}


def changed(**tables: object) -> Document:
    return LEAST | {
        name: LEAST.get(name, {}) | table if isinstance(table, dict) else table for name, table in tables.items()
    }


def test_what_is_left_out_is_as_published() -> None:
    made = read_recipe(LEAST, "mine")
    assert made.recipe == Recipe(
        steps=StepPlan(ladder=(1000, 750, 500, 250), shift=5.0),
        blocks=BlockPlan(frames=3),
        context=Context(level=Level.CLEAN, window_frames=9),
    )
    assert (made.name, made.help, made.paper, made.quality) == ("mine", "", "", Quality.UNPROVEN)


def test_every_key_says_what_it_is_named_after() -> None:
    made = read_recipe(
        changed(
            steps={"ladder": [1000, 500], "shift": 8}, blocks={"frames": 2, "first_frames": 1, "limit": 7},
            context={"level": "output", "window_frames": 12, "sink_frames": 3, "start_blocks": 2},
            positions={"stream": "absolute"},
            help="h", paper="p", quality="proven",
        ),
        "mine",
    )  # fmt: skip
    assert made.recipe == Recipe(
        steps=StepPlan(ladder=(1000, 500), shift=8.0),
        blocks=BlockPlan(frames=2, first_frames=1),
        context=Context(level=Level.OUTPUT, window_frames=12, sink_frames=3, start_blocks=2),
        positions=Positions(stream=Numbering.ABSOLUTE),
        block_limit=7,
    )
    assert (made.help, made.paper, made.quality) == ("h", "p", Quality.PROVEN)
    lists = {"usual": [1000, 500], "first": [1000, 750, 250], "first_blocks": 2, "shed": [[1000]]}
    assert read_recipe(changed(steps={"ladder": [1000, 750, 500, 250], **lists}), "mine").recipe.steps == StepPlan(
        ladder=(1000, 750, 500, 250), shift=5.0, usual=(1000, 500), first=(1000, 750, 250), first_blocks=2,
        shed=((1000,),),
    )  # fmt: skip


def test_positions_are_a_word_or_a_period() -> None:
    for stream, wanted in (("listed", Numbering.LISTED), ({"cyclic": 33}, Cyclic(cyclic=33))):
        recipe = read_recipe(changed(positions={"stream": stream}), "mine").recipe
        assert recipe.positions == Positions(stream=wanted)
        assert recipe.plain()["positions"] == stream, "what a model's file has"


def test_a_slope_is_a_number_and_0_is_none() -> None:
    plain = read_recipe(changed(), "mine").recipe
    assert read_recipe(changed(positions={"slope": 0}), "mine").recipe == plain
    sloped = read_recipe(changed(positions={"stream": "listed", "slope": 1}), "mine").recipe
    assert sloped.positions == Positions(stream=Numbering.LISTED, slope=1.0)
    assert sloped.plain()["slope"] == 1.0 and "slope" not in plain.plain()
    told = r"positions\.slope = 0\.1 contradicts positions\.stream = absolute with context\.sink_frames = 1: what"
    with pytest.raises(Contradiction, match=told):
        read_recipe(changed(positions={"slope": 0.1}, context={"window_frames": 9, "sink_frames": 1}), "mine")


@pytest.mark.parametrize(
    ("document", "field", "allowed"),
    [
        (changed(stepz={}), "stepz", "[steps]"),
        (changed(frames=3), "frames", "help, paper, quality"),
        (changed(steps=[1000]), "steps", "a table: a line [steps]"),
        (changed(blocks={"frames": 3, "overlap_frames": 1}), "blocks.overlap_frames", "frames, first_frames, limit"),
        (changed(steps={"solver": "dpm2m"}), "steps.solver", "ladder, shift, usual, first, first_blocks, shed"),
        (changed(steps={"usual": 1000}), "steps.usual", "a list of whole numbers"),
        (changed(steps={"usual": [500, 1000]}), "steps.usual", "strictly falling"),
        (changed(steps={"first": [1000, 0]}), "steps.first", "from 1 to 1000"),
        (changed(steps={"first_blocks": -1}), "steps.first_blocks", "0 or more"),
        (changed(steps={"shed": [1000]}), "steps.shed", "a list of lists"),
        (changed(steps={"shed": [[]]}), "steps.shed", "none of them empty"),
        (changed(steps={"shed": [[1000, 500], [1000, 250]]}), "steps.shed", "each is shorter"),
        (changed(context={"lags": 1}), "context.lags", "level, window_frames, sink_frames"),
        (changed(context={"lag": -1}), "context.lag", "0 or more"),
        (changed(context={"both_ways": 1}), "context.both_ways", "true or false"),
        (changed(context={"level": "lagging"}), "context.level", '"clean", "output", "input", "staggered"'),
        (changed(positions={"stream": "relative"}), "positions.stream", '"absolute", "listed" or a period'),
        (changed(positions={"stream": {"cyclic": 0}}), "positions.stream", "{ cyclic = 33 }"),
        (changed(positions={"stream": {"cyclic": True}}), "positions.stream", "{ cyclic = 33 }"),
        (changed(positions={"stream": {"cyclic": 9, "phase": 1}}), "positions.stream", "{ cyclic = 33 }"),
        (changed(positions={"slope": -0.1}), "positions.slope", "a number from 0 to 10"),
        (changed(positions={"slope": float("nan")}), "positions.slope", "a number from 0 to 10"),
        (changed(positions={"slope": "0.1"}), "positions.slope", "a number from 0 to 10"),
        (changed(quality="good"), "quality", '"proven", "unproven"'),
        (changed(help="two\nlines"), "help", "one line"),
        (changed(steps={"ladder": [1000.0]}), "steps.ladder", "whole numbers"),
        (changed(steps={"ladder": []}), "steps.ladder", "one or more"),
        (changed(steps={"ladder": [500, 1000]}), "steps.ladder", "strictly falling"),
        (changed(steps={"shift": True}), "steps.shift", "a number"),
        (changed(steps={"shift": float("nan")}), "steps.shift", "a number above 0"),
        (changed(steps={"shift": float("inf")}), "steps.shift", "a number above 0"),
        (changed(blocks={"frames": True}), "blocks.frames", "a whole number"),
        (changed(blocks={"frames": 0}), "blocks.frames", "1 or more latent frames"),
        (changed(blocks={"frames": 3, "first_frames": 0}), "blocks.first_frames", "1 or more latent frames"),
        (changed(blocks={"frames": 3, "limit": 0}), "blocks.limit", "1 or more blocks"),
        (changed(context={"window_frames": 0}), "context.window_frames", "1 or more"),
        (changed(context={"start_blocks": -1}), "context.start_blocks", "0 or more"),
        (changed(context={"sink_frames": -1}), "context.sink_frames", "0 or more"),
        (changed(context={"commit_step": 1000}), "context.commit_step", "1 to 999"),
        (changed(context={"commit_label": -2}), "context.commit_label", "or -1"),
        (changed(context={"commit_label": float("nan")}), "context.commit_label", "0 to 1000"),
        ({"context": LEAST["context"]}, "blocks.frames", "the key must be there"),
        ({"blocks": LEAST["blocks"]}, "context.level", "the key must be there"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(document: Document, field: str, allowed: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read_recipe(document, "mine")
    assert caught.value.field == field and allowed in caught.value.allowed


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidFields) as caught:
        read_recipe({"blocks": {"frames": 0}, "steps": {"ladder": [1, 2], "shift": 0}, "tracks": {}}, "mine")
    fields = {error.field for error in caught.value.errors}
    assert fields == {"tracks", "context.level", "blocks.frames", "steps.ladder", "steps.shift"}


def test_what_could_be_served_and_makes_no_sense_is_refused_in_a_file() -> None:
    with pytest.raises(Contradiction, match=r"context\.level = input contradicts steps\.ladder = \[1000\]: every"):
        read_recipe(changed(context={"level": "input"}, steps={"ladder": [1000]}), "mine")


def test_contradictions_are_told_in_the_words_of_the_file() -> None:
    with pytest.raises(
        Contradiction, match=r"context\.window_frames = 2 contradicts blocks\.frames = 3 with context\."
    ):
        read_recipe(changed(context={"window_frames": 2}), "mine")
    with pytest.raises(Contradictions) as caught:
        read_recipe(
            {"blocks": {"frames": 3}, "context": {"level": "input", "sink_frames": 3}, "steps": {"ladder": [1000]}}, "m"
        )
    first, second, third = (str(each).partition(":")[0] for each in caught.value.all)
    assert first == "context.window_frames left out contradicts blocks.limit left out"
    assert second == "context.sink_frames = 3 contradicts context.window_frames left out"
    assert third == "context.level = input contradicts steps.ladder = [1000]"
