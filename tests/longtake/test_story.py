"""Cuts and ways back: how a story is said on the command line and in the client, and what of it goes over the wire."""

from __future__ import annotations

import click
import pytest
from click import Context

from longtake.cli.story import backs, story, typed
from longtake.client import CueAt, OptionError
from longtake.client.decoder import Decoder
from longtake.client.events import CueAcceptedEvent
from longtake.client.options import StreamOptions, cue_request, open_request
from longtake.v1 import longtake_pb2 as pb

CUES = (CueAt(prompt="swaying", time_s=6),)
CUTS = (CueAt(prompt="box", time_s=4), CueAt(prompt="ring", time_s=8))


def way_back(*texts: str) -> tuple[CueAt, ...]:
    context = Context(click.Command("stream"))
    return backs(context, click.Option(["--back"]), texts)


def test_a_story_is_told_in_the_order_of_time_and_who_goes_back_has_the_prompt_of_that_shot() -> None:
    told = story("ball", CUES, CUTS, way_back("12s=0", "14s=1", "10s=2:a ring at night", "16s=4"))
    assert [(cue.time_s, cue.prompt, cue.change, cue.back_to_shot) for cue in told] == [
        (4, "box", "cut", None),
        (6, "swaying", None, None),
        (8, "ring", "cut", None),
        (10, "a ring at night", None, 2),
        (12, "ball", None, 0),
        (14, "box", None, 1),
        (16, "ball", None, 4),
    ]
    request = open_request("ball", StreamOptions(cues=told))
    assert [cue.change for cue in request.cues[:3]] == [pb.CHANGE_CUT, pb.CHANGE_UNSPECIFIED, pb.CHANGE_CUT]
    shots = [cue.back_to_shot if cue.HasField("back_to_shot") else None for cue in request.cues]
    assert shots == [None, None, None, 2, 0, 1, 4]


def test_a_shot_whose_prompt_is_not_known_needs_one() -> None:
    with pytest.raises(click.UsageError, match="a shot from 0 to 1, or a prompt"):
        story("ball", (), CUTS[:1], way_back("5s=2"))
    assert story("ball", (), CUTS[:1], way_back("5s=2:box"))[-1].back_to_shot == 2


@pytest.mark.parametrize("text", ["12s", "12s=", "12s=a", "12s=-1", "12s=0:", "12s=0: ", "x=0", "12s=1234567890"])
def test_a_way_back_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="allowed"):
        way_back(text)


def test_lines_that_cut() -> None:
    assert typed("/cut a blue box") == CueAt(prompt="a blue box", change="cut")
    assert typed("/back 0 a red ball") == CueAt(prompt="a red ball", back_to_shot=0)
    assert typed("/pause") is None
    for wrong in ("/cut", "/cut  ", "/back", "/back 0", "/back a b"):
        with pytest.raises(ValueError, match="/back SHOT PROMPT"):
            typed(wrong)


def test_a_way_back_is_a_cut_and_nothing_else() -> None:
    assert cue_request("box", "cut", set()).change == pb.CHANGE_CUT
    both = cue_request(CueAt(prompt="box", back_to_shot=3, change="cut"), None, set())
    assert (both.change, both.back_to_shot) == (pb.CHANGE_CUT, 3)
    for wrong in (CueAt(prompt="box", back_to_shot=3, change="swap"), CueAt(prompt="box", back_to_shot=-1)):
        with pytest.raises(OptionError):
            cue_request(wrong, None, set())


def test_an_accepted_cut_says_which_shot_begins() -> None:
    decoder = Decoder()
    video = pb.Video(fps_numerator=16, fps_denominator=1)
    decoder.feed(pb.StreamResponse(opened=pb.Opened(timescale=16, video=video)))
    for shot in (None, 0, 3):
        accepted = pb.CueAccepted(cue_id="c", block=4, pts_ticks=16, prompt="box", shot=shot)
        event = decoder.feed(pb.StreamResponse(cue_accepted=accepted))
        assert isinstance(event, CueAcceptedEvent) and event.shot == shot and event.start_s == 1
