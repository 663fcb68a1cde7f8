"""The pause after a refusal, and the pace that follows, call by call."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector._policies.pause import Pause


def refuse(pause, now, *, retry_after=None, refusals=1, rand=0.5):
    return pause.refused(now, retry_after=retry_after, refusals=refusals, rand=rand)


def offer(pause, start, end, rate):
    """Try to send `rate` requests per second at an even pace; return how many may go."""
    count = 0
    for step in range(round((end - start) * rate)):
        now = start + step / rate
        if not pause.delay(now, 0.5):
            pause.sent(now)
            pause.answered()
            count += 1
    return count


def test_nothing_is_paused_at_first():
    pause = Pause()
    assert pause.delay(0.0, 0.5) == 0.0
    assert not pause.is_active(0.0)
    assert offer(pause, 0.0, 1.0, 1_000) == 1_000


def test_nobody_goes_before_the_server_says_so():
    pause = Pause()
    assert refuse(pause, 100.0, retry_after=5.0) >= 5.0
    for now in (100.0, 102.0, 104.999):
        assert pause.delay(now, 0.0) >= 105.0 - now
    assert pause.is_active(104.0)
    assert pause.delay(105.0, 0.0) == 0.0


def test_a_shorter_pause_does_not_shorten_a_longer_one():
    pause = Pause()
    refuse(pause, 0.0, retry_after=10.0)
    wait = refuse(pause, 1.0, retry_after=2.0)
    assert wait >= 9.0
    assert refuse(pause, 1.0) >= 9.0
    assert pause.delay(3.0, 0.0) >= 7.0


def test_a_longer_pause_lengthens_a_shorter_one():
    pause = Pause()
    refuse(pause, 0.0, retry_after=2.0)
    refuse(pause, 1.0, retry_after=10.0)
    assert pause.delay(2.5, 0.0) >= 8.5


@pytest.mark.parametrize("retry_after", [None, 0.0])
@pytest.mark.parametrize("rand", [0.0, 0.5, 1.0])
def test_the_wait_of_a_refused_request_is_never_zero_and_doubles(retry_after, rand):
    pause = Pause()
    waits = [refuse(pause, 100.0 * n, retry_after=retry_after, refusals=n, rand=rand) for n in range(1, 30)]
    assert waits[0] >= 0.02
    assert all(a <= b for a, b in itertools.pairwise(waits))
    assert waits[-1] <= 3.2
    assert waits[2] >= 2 * waits[1] * 0.99


@pytest.mark.parametrize("retry_after", [None, 0.0])
def test_everybody_waits_for_a_moment_if_several_are_refused_one_after_the_other(retry_after):
    pause = Pause()
    for _ in range(4):
        assert pause.delay(10.0, 0.5) == 0.0
        refuse(pause, 10.0, retry_after=retry_after)
    assert 0.0 < pause.delay(10.0, 0.5) <= 0.02
    assert pause.delay(10.02, 0.5) == 0.0


@pytest.mark.parametrize("retry_after", [None, 0.0])
def test_nobody_waits_for_one_that_is_refused_among_others_that_are_not(retry_after):
    pause = Pause()
    for step in range(200):
        now = 10.0 + step / 100
        assert pause.delay(now, 0.5) == 0.0
        refuse(pause, now, retry_after=retry_after)
        pause.answered()


def test_that_moment_doubles_while_nothing_is_accepted():
    pause = Pause()
    now, holds = 10.0, []
    refuse(pause, now)
    # It is over, and nothing was accepted since.
    now += 0.021
    for _ in range(12):
        refuse(pause, now)
        wait = pause.delay(now, 0.0)
        holds.append(wait)
        now += wait + 0.001
    assert holds[1] == pytest.approx(2 * holds[0])
    assert holds[-1] <= 2.0
    assert sum(holds) > 5.0
    pause.answered()
    refuse(pause, now)
    now += 0.021
    refuse(pause, now)
    assert pause.delay(now, 0.0) == pytest.approx(holds[0])


def test_those_that_wait_come_back_one_after_the_other():
    pause = Pause()
    assert offer(pause, 0.0, 2.0, 100) == 200
    refuse(pause, 2.0, retry_after=1.0)
    waits = [pause.delay(2.0, 0.0) for _ in range(50)]
    assert len(set(waits)) == 50
    assert min(waits) >= 1.0
    assert max(waits) <= 2.0
    gaps = [b - a for a, b in itertools.pairwise(waits)]
    assert gaps == pytest.approx([1 / 100] * 49, rel=0.1)


def test_the_spread_is_bounded():
    pause = Pause()
    refuse(pause, 0.0, retry_after=60.0)
    waits = [pause.delay(0.0, rand) for rand in (0.0, 0.5, 1.0)]
    assert waits == pytest.approx([60.0, 60.5, 61.0])
    assert refuse(pause, 0.0, retry_after=60.0, rand=1.0) == pytest.approx(61.0)
    short = Pause()
    refuse(short, 0.0, retry_after=1.0)
    assert [short.delay(0.0, rand) for rand in (0.0, 1.0)] == pytest.approx([1.0, 1.1])


def test_places_are_given_away_for_one_second_only():
    pause = Pause()
    offer(pause, 0.0, 2.0, 20)
    refuse(pause, 2.0, retry_after=1.0)
    waits = [pause.delay(2.0, random.Random(n).random()) for n in range(500)]
    assert max(waits) <= 1.0 + 1.0 + 0.1 + 0.06


def test_a_refusal_tells_the_pace():
    pause = Pause()
    offer(pause, 0.0, 3.0, 100)
    refuse(pause, 3.0)
    # Not yet known to be near the limit: it grows, but does not jump.
    sent = offer(pause, 3.02, 3.22, 10_000)
    assert 15 <= sent <= 30
    # Refused at this pace: it stays just below from now on.
    refuse(pause, 3.22)
    offer(pause, 3.24, 5.0, 200)
    refuse(pause, 5.0)
    assert offer(pause, 5.02, 6.02, 10_000) <= 230


def test_the_pace_comes_near_the_estimate_and_goes_beyond_it_in_the_end():
    pause = Pause()
    offer(pause, 0.0, 2.0, 100)
    refuse(pause, 2.0)
    offer(pause, 2.02, 3.02, 120)
    refuse(pause, 3.02)
    sent = [offer(pause, 3.04 + second, 4.04 + second, 3_000) for second in range(12)]
    # It was refused at a pace that had grown to 200.
    assert sent[0] < 180
    assert sent[0] < sent[2] < sent[4]
    assert all(a <= b * 1.02 + 1 for a, b in itertools.pairwise(sent))
    assert sent[-1] == 3_000
    assert not pause.is_active(20.0)


def test_nothing_is_learnt_from_requests_that_were_not_counted():
    # Nobody counts before the first refusal, when the pause is not asked at all.
    pause = Pause()
    refuse(pause, 50.0)
    assert offer(pause, 50.02, 51.02, 1_000) == 1_000
    assert pause.is_active(55.0)
    assert not pause.is_active(61.0)


@pytest.mark.parametrize("one_of", [3, 10, 30])
def test_a_pace_that_makes_no_difference_to_the_share_of_refusals_is_given_up(one_of):
    pause, number, paced = Pause(), 0, []

    def run(start, end):
        nonlocal number
        for step in range(round((end - start) * 1_000)):
            now = start + step / 1_000
            if pause.delay(now, 0.5):
                paced.append(now)
                continue
            pause.sent(now)
            number += 1
            if number % one_of:
                pause.answered()
            else:
                refuse(pause, now)

    run(0.0, 4.0)
    assert paced, "a pace is tried"
    assert paced[-1] < 3.5, "but it is no help"
    paced.clear()
    run(4.0, 10.0)
    assert not paced
    # It is tried again, and after a `Retry-After` everybody waits as ever.
    refuse(pause, 10.0, retry_after=0.5)
    run(10.001, 10.4)
    assert len(paced) == pytest.approx(399, abs=2)
    run(10.501, 20.0)
    assert paced[-1] > 11.0


def test_refusals_by_chance_leave_a_share_of_the_pace():
    chance = random.Random(1)
    pause = Pause()
    offer(pause, 0.0, 2.0, 100)
    now = 2.0
    for _ in range(200):
        refuse(pause, now, rand=chance.random())
        offer(pause, now + 0.02, now + 0.2, 100)
        now += 0.2
    assert offer(pause, now, now + 5.0, 100) >= 150


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "send", "send", "refused", "answered"]),
            st.floats(0, 0.5),
            st.sampled_from([None, None, 0.0, 0.01, 1.0, 7.5, 60.0]),
            st.floats(0, 1),
        ),
        max_size=200,
    )
)
def test_invariants(events):
    pause = Pause()
    now, not_before, refusals = 1_000.0, 0.0, 0
    for kind, step, retry_after, rand in events:
        now += step
        if kind == "send":
            wait = pause.delay(now, rand)
            if now < not_before:
                assert now + wait >= not_before - 1e-6
                # The pause, its spread, and a place in the queue.
                assert wait <= max(not_before - now, 2.0) + 1.0 + 1.0 + 1e-6
            if wait:
                assert pause.is_active(now)
            else:
                pause.sent(now)
        elif kind == "answered":
            pause.answered()
        else:
            refusals += 1
            wait = pause.refused(now, retry_after=retry_after, refusals=refusals, rand=rand)
            not_before = max(not_before, now + (retry_after or 0.0))
            assert wait > 0.0
            assert now + wait >= not_before - 1e-6
    # It ends by itself.
    assert pause.delay(now + 200.0, 0.5) == 0.0
    assert not pause.is_active(now + 200.0)
