"""The past is what a loop over all events finds strictly before the moment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.asof import (
    counts_before,
    last_items,
    match_keys,
    past_of,
    returns_by_key,
)
from recsys.dataset import DAY

DATED = pytest.mark.parametrize("dated", [True, False], ids=["dated", "ordered"])
EVERYTHING = 1000  # more than any user has


def ask(rows, dated, seed):
    """Draw requests of known and unknown users, half of them at the moment of an event."""
    rng = np.random.default_rng(seed)
    user = rng.choice([*{row[0] for row in rows}, -5, 1, 10_000], 60)
    moments = [row[1] for row in rows]
    other = rng.integers(min(moments) - 2, max(moments) + 2, 60)
    return user, np.where(rng.random(60) < 0.5, rng.choice(moments, 60), other), DAY if dated else 1


def parts(past):
    """Cut the events of a past into one list of (item, moment, grade, price, back) a request."""
    columns = (past.item, past.moment, past.grade, np.nan_to_num(past.price, nan=-1), past.back)
    events = list(zip(*(column.tolist() for column in columns), strict=True))
    return [events[a:b] for a, b in zip(past.indptr, past.indptr[1:], strict=False)]


def looked_back(rows, user, moment, unit):
    """Find the same for one request with a loop: no numpy, no limit."""
    mine = [row for row in rows if row[0] == user and row[1] < moment]

    def days(some):
        return {row[1] // unit for row in some if row[3] > 0}

    return [(item, when, grade, -1 if price != price else price,
             len(days(mine[at + 1 :]) - days(mine[: at + 1])))
            for at, (_, when, item, grade, _, price) in enumerate(mine)]  # fmt: skip


@DATED
@pytest.mark.parametrize("seed", range(3))
def test_the_past_is_every_event_strictly_before_most_recent_last(log_of, random_rows, dated, seed):
    rows = random_rows(seed, dated)
    user, moment, unit = ask(rows, dated, seed)
    past = past_of(log_of(rows), user, moment, unit, EVERYTHING)
    expected = [looked_back(rows, *one, unit) for one in zip(user, moment, strict=True)]
    assert parts(past) == expected
    assert sum(map(len, expected)) > 0 and [] in expected  # both kinds of request are there
    assert past.total.tolist() == [len(events) for events in expected]
    assert past.first.tolist() == [events[0][1] if events else 0 for events in expected]
    assert past.request.tolist() == [at for at, events in enumerate(expected) for _ in events]


@DATED
@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_keeps_the_most_recent_events_and_every_total(log_of, random_rows, dated, limit):
    rows = random_rows(0, dated)
    user, moment, unit = ask(rows, dated, 0)
    whole, cut = (past_of(log_of(rows), user, moment, unit, n) for n in (EVERYTHING, limit))
    assert parts(cut) == [events[-limit:] for events in parts(whole)]
    assert whole.total.max() > limit
    np.testing.assert_array_equal(cut.total, whole.total)
    np.testing.assert_array_equal(cut.first, whole.first)


def test_back_counts_active_days_so_one_basket_is_equally_far(log_of):
    log = log_of([(1, 2 * DAY, 0), (1, 2 * DAY + 5, 1), (1, 3 * DAY - 1, 2), (1, 9 * DAY, 3)])
    assert past_of(log, *np.array([[1], [99 * DAY]]), DAY, 9).back.tolist() == [1, 1, 1, 0]


def test_a_day_of_looking_only_moves_nothing_further_back(log_of):
    bought, looked = [(1, 2 * DAY, 0, 1), (1, 4 * DAY, 1, 1)], (1, 9 * DAY, 2, 0)
    asked = np.array([[1], [99 * DAY]])
    assert past_of(log_of([*bought, looked]), *asked, DAY, 9).back.tolist() == [1, 0, 0]


def test_a_user_the_log_does_not_hold_has_an_empty_past(log_of):
    past = past_of(log_of([(5, 0, 1), (7, 0, 2)]), np.array([4, 6, 8]), np.full(3, 9), 1, 9)
    assert parts(past) == [[], [], []]
    assert past.total.tolist() == past.first.tolist() == [0, 0, 0]
    assert last_items(past, 2).tolist() == 3 * [[-1, -1]]


def test_an_event_at_the_moment_itself_is_not_past(log_of):
    log = log_of([(1, 10, 0), (1, 11, 1)])
    past = past_of(log, np.array([1, 1, 1]), np.array([10, 11, 12]), 1, 9)
    assert parts(past) == [[], [(0, 10, 1, -1, 0)], [(0, 10, 1, -1, 1), (1, 11, 1, -1, 0)]]


@DATED
def test_keeping_some_events_keeps_requests_and_totals(log_of, random_rows, dated):
    rows = random_rows(1, dated)
    past = past_of(log_of(rows), *ask(rows, dated, 1), EVERYTHING)
    taken = past.keep(past.grade > 0)
    assert parts(taken) == [[e for e in events if e[2] > 0] for events in parts(past)]
    assert len(taken.item) < len(past.item)
    np.testing.assert_array_equal(taken.total, past.total)
    np.testing.assert_array_equal(taken.request, past.request[past.grade > 0])


@DATED
def test_last_items_are_the_end_of_the_past_read_backwards(log_of, random_rows, dated):
    rows = random_rows(2, dated)
    past = past_of(log_of(rows), *ask(rows, dated, 2), EVERYTHING)
    expected = [[e[0] for e in events[::-1][:4]] for events in parts(past)]
    assert last_items(past, 4).tolist() == [items + [-1] * (4 - len(items)) for items in expected]


KEYED = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=30)
ASKED = st.lists(st.tuples(st.integers(-1, 7), st.integers(-9, 20)), max_size=10)


@given(KEYED, ASKED, st.lists(st.integers(1, 15), max_size=3), st.sampled_from([1, DAY, 2**58]))
def test_windows_hold_what_a_loop_counts_however_far_apart_events_are(events, asked, windows, unit):
    """With 2**58 between moments, keys are counted in parts of one or a few."""
    key, moment, asked_key, asked_moment = (
        np.array([row[at] for row in rows], np.int64) for rows in (events, asked) for at in (0, 1)
    )
    found = counts_before(key, moment * unit, asked_key, asked_moment * unit,
                          [window * unit for window in windows])  # fmt: skip
    assert found.shape == (len(windows), len(asked)) and found.dtype == np.int64
    assert found.tolist() == [
        [sum(k == one and when - window <= m < when for k, m in events) for one, when in asked]
        for window in windows
    ]


def test_a_window_takes_its_start_and_leaves_its_end():
    key, moment = np.array([0, 0, 0, 1], np.int32), np.array([4, 5, 8, 6])
    asked = np.array([0, 0, 1, 2]), np.array([8, 9, 8, 8])
    assert counts_before(key, moment, *asked, [3, 4]).tolist() == [[1, 1, 1, 0], [2, 2, 1, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_sums_and_least_are_those_of_a_dictionary(seed):
    rng = np.random.default_rng(seed)
    key, value = rng.integers(-4, 9, 50) * 10**12, rng.integers(-9, 9, 50)
    asked = np.append(rng.permutation(key)[:20], [-(10**15), 7, 10**15])
    found = {}
    for one, number in zip(key.tolist(), value.tolist(), strict=True):
        found.setdefault(one, []).append(number)
    sums = [sum(found.get(one, [])) for one in asked.tolist()]
    least = [min(found.get(one, [np.nan])) for one in asked.tolist()]
    matched = match_keys(key, asked)
    assert matched.keys.tolist() == sorted(found)
    number = value.astype(float)
    np.testing.assert_array_equal(matched.look_up(matched.sums(number), 0), sums)
    np.testing.assert_array_equal(matched.look_up(matched.least(number), np.nan), least)


def test_nothing_summed_is_zero_and_the_least_of_nothing_is_unknown():
    matched = match_keys(np.zeros(0, np.int64), np.array([3, 4]))
    assert matched.look_up(matched.sums(np.zeros(0)), 0).tolist() == [0, 0]
    assert np.isnan(matched.look_up(matched.least(np.zeros(0)), np.nan)).all()


@pytest.mark.parametrize("seed", range(3))
def test_returns_are_those_of_a_dictionary(seed):
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, 20, 60))
    key = rng.choice([0, 3, 10**13], 60)
    days = {one: day[key == one].tolist() for one in np.unique(key).tolist()}
    found = returns_by_key(key, day)
    assert found.key.tolist() == list(days)
    assert found.first.tolist() == [some[0] for some in days.values()]
    assert found.last.tolist() == [some[-1] for some in days.values()]
    assert found.days.tolist() == [len(set(some)) for some in days.values()]
    assert found.times.tolist() == [len(some) for some in days.values()]


def test_of_nothing_nothing_returns():
    none = np.zeros(0, np.int64)
    assert [len(values) for values in vars(returns_by_key(none, none)).values()] == [0] * 5
