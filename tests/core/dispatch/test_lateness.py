"""While REALTIME streams are late no further one is let in; room comes back step by step, and nobody is put out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.dispatch.lateness import CALM_S, HICCUP_S
from longtake.core.effects import Closed, Parked, Restored
from longtake.core.errors import Lack
from longtake.core.fleet.load_limit import CUT, STEP, STEP_S, LoadLimit
from longtake.core.flow import Pace
from longtake.core.limits import Limits
from longtake.core.scarcity import Scarcity
from longtake.core.sessions.life import State
from longtake.core.work import Role, SessionId
from tests.core.support.clocked import Clocked

MOST = Limits().load_limit
BLOCK_S = 0.75
SAYS_S = {Role.DENOISE: 0.004, Role.DECODE: 0.05}
"""By what the workers say more than a dozen streams fit."""


def several(count: int = 3, *, times: float = 1.0, limits: Limits | None = None) -> Clocked:
    """So many streams; a decode takes so many times as long as the decoder says."""
    run = Clocked(SAYS_S, limits or Limits())
    slow(run, times)
    for number in range(count):
        assert run.open(f"s{number}") is None
    return run


def slow(run: Clocked, times: float) -> None:
    run.takes_s[Role.DECODE] = times * SAYS_S[Role.DECODE]


def standstill(run: Clocked, seconds: float) -> None:
    """The decoder does nothing for so long."""
    run.stuck = {Role.DECODE}
    run.run(seconds)
    run.stuck = set()


def test_a_decoder_that_is_slower_than_it_says_makes_streams_late_and_further_ones_are_refused() -> None:
    run = several()
    run.run(10.0)
    assert run.late == 0 and run.open("welcome") is None
    run.close("welcome")
    slow(run, 6.0)
    run.run(10.0)
    assert run.late == 0, "they were a window ahead"
    run.run(30.0)
    assert run.late == 3
    problem = run.open("further")
    assert problem is not None and problem.kind is Lack.TIME
    assert problem.message == (
        "No room for another live stream: 3 of 3 are late, limited by decode-0. Try again in 10 s, or choose pace fast."
    )
    about = problem.about
    assert isinstance(about, Scarcity) and about.retry_after_s == CALM_S and about.fast_instead
    shortage = about.shortage
    assert shortage is not None and (shortage.of, shortage.unit) == ("decode-0", "share of time")
    assert (shortage.free, shortage.limit) == (0.0, 0.0) and shortage.needed == pytest.approx(0.05 / BLOCK_S)
    assert run.open("fast", Pace.FAST) is None and "fast" in run.there
    assert [told.session for told in run.told if isinstance(told, Closed)] == ["welcome"], "nobody is put out"


def test_a_little_too_slow_is_late_within_a_minute_and_just_fast_enough_is_not() -> None:
    for times, late in ((5.4, 3), (4.8, 0)):
        run = several(times=times)
        run.run(60.0)
        assert run.late == late


def test_a_hiccup_changes_nothing_and_a_standstill_lowers_the_limit_which_rises_again_step_by_step() -> None:
    run = several(6)
    run.run(10.0)
    standstill(run, 3.0)
    run.run(5.0)
    assert run.late == 0 and run.share == MOST, "for the window there were segments ahead"
    standstill(run, 8.0)
    assert run.late == 6 and run.share == 0.0 and run.open("further") is not None
    run.run(0.8 * CALM_S)
    assert run.late == 6 and run.open("further") is not None, "not on time for long enough"
    run.run(0.4 * CALM_S)
    lowered = CUT * 6 * 0.05 / BLOCK_S
    assert run.late == 0 and run.share == pytest.approx(lowered)
    problem = run.open("further")
    assert problem is not None and "; 36 % may be reserved, and more while all streams are on time" in problem.message
    assert isinstance(problem.about, Scarcity) and problem.about.retry_after_s == 3 * STEP_S, "for 0.107 more"
    shares = [run.share]
    run.run(10 * STEP_S, each=lambda: shares.append(run.share))
    assert shares == sorted(shares) and len(set(shares)) == 11, "ten steps"
    assert run.share == pytest.approx(lowered + 10 * STEP)
    assert run.open("further") is None
    run.run(10 * STEP_S)
    assert run.share == MOST


def test_who_is_let_in_again_comes_one_after_the_other() -> None:
    """Clients that try without end: after a standstill they do not all come at once."""
    run = several(6)
    run.run(5.0)
    standstill(run, 8.0)
    came_s: list[float] = []
    tries = iter(range(100_000))

    def attempt() -> None:
        if run.open(f"more-{next(tries)}") is None:
            came_s.append(run.now_s)

    run.run(80.0, each=attempt)
    assert 2 <= len(came_s) <= 5
    assert all(later_s - sooner_s > 0.9 * STEP_S for sooner_s, later_s in pairwise(came_s))


def test_a_load_that_is_too_much_is_tried_again_seldom() -> None:
    """Three streams fit in truth, a dozen by what is measured; whoever is late leaves after a while, others try on."""
    run = several(3, times=4.6)
    late_s: list[float] = []
    tries = iter(range(100_000))

    def attempt() -> None:
        run.open(f"more-{next(tries)}")
        if run.late and (not late_s or run.now_s - late_s[-1] > 1.0):
            late_s.append(run.now_s)
        if run.late and len(run.there) > 3:
            run.close(run.there[-1])

    run.run(300.0, each=attempt)
    began_s = [later_s for sooner_s, later_s in pairwise([-100.0, *late_s]) if later_s - sooner_s > 2.0]
    assert 1 <= len(began_s) <= 300.0 / (CALM_S + STEP_S), "each time only after both"


def test_a_client_that_acknowledges_slowly_is_late_by_its_own_fault() -> None:
    run = several()
    run.acknowledges_after_s = lambda session: 1.0 if session == "s0" else 0.02
    run.run(60.0)
    emitted = [emit for _, emit in run.emitted if emit.session == "s0"]
    assert len(emitted) < 65, "it got less than it would have played"
    assert sum((emit.slack_s or 0.0) < -0.1 for emit in emitted) > 20
    assert run.late == 0 and run.open("further") is None


@pytest.mark.parametrize(("window", "after_s"), [(4, 0.95), (2, 0.75)])
def test_nor_does_one_whose_credit_comes_too_late_for_what_a_block_takes(window: int, after_s: float) -> None:
    """A block takes a second at the least, more than the next one may: its credit is there before the last has left."""
    run = Clocked({Role.DENOISE: 0.15, Role.DECODE: 0.4}, Limits())
    run.open("s", window=window)
    run.acknowledges_after_s = lambda _: after_s
    run.run(60.0)
    assert sum((emit.slack_s or 0.0) < -0.02 for _, emit in run.emitted) > 20
    assert run.late == 0


def test_a_client_with_a_window_that_is_too_small_lowers_nothing() -> None:
    """A block takes 0.73 s at the least, its window is 0.75 s: the next one begins when the client has acknowledged."""
    for window, least_late, most_late in ((1, 60, 80), (4, 0, 2)):
        run = Clocked({Role.DENOISE: 0.02, Role.DECODE: 0.65}, Limits())
        run.open("s", window=window)
        run.acknowledges_after_s = lambda _: 0.1
        run.run(60.0)
        late = sum((emit.slack_s or 0.0) < -0.05 for _, emit in run.emitted)
        assert least_late <= late <= most_late
        assert run.late == 0


def test_a_stream_that_is_paused_or_over_is_late_no_more() -> None:
    run = several()
    run.run(5.0)
    run.stuck = {Role.DECODE}
    run.run(8.0)
    assert run.late == 3
    run.pause("s0")
    run.close("s1")
    run.run(0.3)
    assert run.late == 1
    run.pause("s2")
    run.run(0.3)
    assert run.late == 0


def test_play_from_parked_gets_its_place_while_others_are_late() -> None:
    run = several(limits=Limits(park_after_s=2.0))
    run.run(5.0)
    run.pause("s0")
    run.run(5.0)
    assert [told.session for told in run.told if isinstance(told, Parked)] == ["s0"]
    slow(run, 9.0)
    run.run(40.0)
    assert run.late == 2 and run.open("further") is not None
    run.play("s0")
    run.run(5.0)
    assert [told.session for told in run.told if isinstance(told, Restored)] == ["s0"]
    assert run.scheduler.inspect(SessionId("s0")).state is State.RUNNING


STEPS = st.lists(
    st.tuples(st.sampled_from(["live", "fast", "close", "hang", "nothing"]), st.floats(0.5, 6.0), st.floats(0.5, 9.0)),
    min_size=4,
    max_size=9,
)
"""What happens, for how long, and how many times as long as the decoder says a decode takes then."""


@settings(max_examples=8, deadline=None)
@given(STEPS)
def test_nobody_comes_while_one_is_late_nobody_is_put_out_and_in_the_end_there_is_room(
    steps: list[tuple[str, float, float]],
) -> None:
    run, left = several(2), set[str]()
    for number, (what, lasts_s, times) in enumerate(steps):
        run.stuck = {Role.DECODE} if what == "hang" else set()
        slow(run, times)
        if what in ("live", "fast"):
            problem = run.open(f"n{number}", Pace.REALTIME if what == "live" else Pace.FAST)
            if what == "fast":
                assert problem is None
            elif run.late:
                assert problem is not None and problem.kind is Lack.TIME and run.share == 0.0
        elif what == "close" and run.there:
            left.add(run.there[0])
            run.close(run.there[0])
        run.run(lasts_s)
        run.scheduler.check()
        assert {told.session for told in run.told if isinstance(told, Closed)} <= left and 0.0 <= run.share <= MOST
    for name in run.there[2:]:
        run.close(name)
    run.stuck = set()
    slow(run, 1.0)
    run.run(HICCUP_S + 2 * CALM_S)
    assert run.late == 0 and run.share > 0.0


# --- the limit alone ------------------------------------------------------------------------------------------------


LOOKS = st.lists(st.tuples(st.floats(0.05, 30.0), st.integers(0, 2), st.floats(0.0, 0.95)), max_size=40)


@given(LOOKS)
def test_the_limit_falls_when_streams_become_late_and_rises_by_one_step_in_ten_seconds_on_time(
    looks: list[tuple[float, int, float]],
) -> None:
    limit, now_s, began_s, base = LoadLimit(MOST), 0.0, -1e9, MOST
    for passed_s, late, reserved in looks:
        now_s += passed_s
        if late and not limit.late:
            base = min(limit.share, CUT * reserved)
        if late:
            began_s = now_s
        limit.look(late, lambda reserved=reserved: reserved, now_s=now_s)  # type: ignore[misc]
        risen = base + STEP * ((now_s - began_s) // STEP_S)
        assert limit.share == (0.0 if late else pytest.approx(min(MOST, risen), abs=STEP + 1e-9))
        assert limit.is_lowered == (limit.share < MOST)
    limit.look(0, lambda: 0.0, now_s=now_s + 25 * STEP_S)
    assert limit.share == MOST and not limit.is_lowered and limit.wait_s(0.1) is None


def test_how_long_it_takes_until_there_is_room() -> None:
    limit = LoadLimit(MOST)
    limit.look(1, lambda: 0.5, now_s=0.0)
    limit.look(0, lambda: 0.5, now_s=1.0)
    assert limit.share == pytest.approx(0.45)
    assert (limit.wait_s(0.01), limit.wait_s(0.051), limit.wait_s(0.6)) == (STEP_S, 2 * STEP_S, None)
