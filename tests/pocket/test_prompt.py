"""The grammar of prompts: synonyms, defaults, unknown words, and the encoder."""

import numpy as np
import pytest

from longtake.core.errors import InvalidField
from pocket import world
from workers.models import pocket_text
from workers.models.pocket_text import Background, Colour, Motion, Scene, Shape


def test_every_scene_survives_its_own_sentence() -> None:
    for scene in world.all_scenes():
        parsed = pocket_text.parse(pocket_text.sentence(scene))
        assert parsed.scene == scene
        assert parsed.ignored == ()
        assert parsed.defaulted == ()
        assert parsed.notice() is None


def test_synonyms_case_and_order() -> None:
    wanted = Scene(colour=Colour.MAGENTA, shape=Shape.RING, motion=Motion.CIRCLING, background=Background.DUSK)
    assert pocket_text.parse("At SUNSET, a pink donut orbits").scene == wanted


def test_unknown_words_are_reported_once_with_the_vocabulary() -> None:
    parsed = pocket_text.parse("a shiny red ball and a shiny spaceship")
    assert parsed.ignored == ("shiny", "spaceship")
    notice = parsed.notice()
    assert notice is not None
    assert "shiny, spaceship" in notice
    assert all(word in notice for word in ("magenta", "triangle", "circling", "dusk"))


@pytest.mark.parametrize("prompt", ["hello world", "the a of", "an elephant dances in Paris"])
def test_a_prompt_of_which_no_word_is_known_is_served_and_says_so(prompt: str) -> None:
    parsed = pocket_text.parse(prompt)
    assert parsed.scene == pocket_text.DEFAULT_SCENE
    assert parsed.defaulted == tuple(pocket_text.vocabulary())
    notice = parsed.notice()
    assert notice is not None and notice.startswith("no word of the prompt was understood")
    assert "'a red ball resting in the fog'" in notice
    assert all(word in notice for word in ("magenta", "triangle", "circling", "dusk"))


def test_of_two_colours_the_first_wins() -> None:
    parsed = pocket_text.parse("a green and blue box")
    assert parsed.scene.colour is Colour.GREEN
    assert parsed.ignored == ("blue",)


def test_what_is_missing_is_the_default_and_named() -> None:
    parsed = pocket_text.parse("a ring")
    assert parsed.defaulted == ("colour", "motion", "background")
    assert parsed.scene.shape is Shape.RING
    assert parsed.scene.colour is pocket_text.DEFAULT_SCENE.colour


@pytest.mark.parametrize("text", ["", "  ", "?!", "\n\t"])
def test_a_prompt_without_words_is_refused(text: str) -> None:
    with pytest.raises(InvalidField) as caught:
        pocket_text.parse(text)
    assert caught.value.field == "prompt"


def test_the_encoder_tells_all_scenes_apart() -> None:
    codes = {pocket_text.encode(scene, 64).tobytes() for scene in world.all_scenes()}
    assert len(codes) == 576
    assert pocket_text.encode(world.all_scenes()[0], 64).dtype == np.float32
    with pytest.raises(ValueError, match="text_dim 8"):
        pocket_text.encode(world.all_scenes()[0], 8)
