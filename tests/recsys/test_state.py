"""The counted state is what a loop over all events before the moment counts."""

from collections import defaultdict
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest

from recsys.dataset import DAY, concat
from recsys.state import WINDOWS_DAYS, StateConfig, state_at

N_ITEMS = 8
DATED = pytest.mark.parametrize("dated", [True, False], ids=["dated", "ordered"])
CONFIG = StateConfig(popularity_days=10, pair_distance=3, pair_decay=0.5, pair_days=20)


def moment_of(dated):
    return 30 * DAY if dated else -2


def by_user(rows, as_of):
    """user -> its taken events strictly before the moment, in order."""
    users = defaultdict(list)
    for row in rows:
        if row[1] < as_of and row[3] > 0:
            users[row[0]].append(row)
    return users


def dense(neighbours):
    return neighbours.toarray()


def scaled(pairs):
    """Divide each weight by the geometric mean of its row's and its column's sum, in a loop."""
    table = np.zeros((N_ITEMS, N_ITEMS))
    for (i, j), weight in pairs.items():
        row = sum(w for (a, _), w in pairs.items() if a == i)
        column = sum(w for (_, b), w in pairs.items() if b == j)
        table[i, j] = weight / (row * column) ** 0.5
    return table


@DATED
@pytest.mark.parametrize("seed", range(2))
def test_events_users_and_repeaters_are_counted_strictly_before(log_of, random_rows, dated, seed):
    rows, as_of = random_rows(seed, dated), moment_of(dated)
    state = state_at([log_of(rows)], as_of, N_ITEMS, dated, CONFIG)
    taken = by_user(rows, as_of)
    for item in range(N_ITEMS):
        times = [sum(row[2] == item for row in mine) for mine in taken.values()]
        mine = [row for some in taken.values() for row in some if row[2] == item]
        moments = [row[1] for row in mine] or [np.nan]
        paid = [row[5] for row in mine if row[5] == row[5]]
        shown = sum(row[2] == item and row[3] == 0 and row[1] < as_of for row in rows)
        assert (state.count[item], state.users[item]) == (sum(times), sum(n > 0 for n in times))
        assert (state.repeaters[item], state.negative[item]) == (sum(n > 1 for n in times), shown)
        bought = sum(row[3] > 1 for row in mine)
        assert state.bought[item] == bought <= state.count[item]
        found = (state.first[item], state.last[item], state.price[item])
        price = sum(paid) / len(paid) if paid else np.nan
        np.testing.assert_allclose(found, (min(moments), max(moments), price))
    # the law is not empty
    assert state.repeaters.sum() > 0 and state.negative.sum() > 0 and state.bought.sum() > 0


@pytest.mark.parametrize("seed", range(2))
def test_popularity_halves_and_windows_end_at_the_moment(log_of, random_rows, seed):
    rows, as_of = random_rows(seed, True), moment_of(True)
    state = state_at([log_of(rows)], as_of, N_ITEMS, True, CONFIG)
    taken = [row for mine in by_user(rows, as_of).values() for row in mine]
    for item in range(N_ITEMS):
        ages = [(as_of - row[1]) / DAY for row in taken if row[2] == item]
        for found, half_life in ((state.popularity, 10), (state.lately, 7)):
            decayed = sum(0.5 ** (age / half_life) for age in ages)
            assert found[item] == pytest.approx(decayed)
        assert state.recent[:, item].tolist() == [sum(a <= w for a in ages) for w in WINDOWS_DAYS]


def test_a_window_takes_its_start_and_an_order_has_none(log_of):
    rows = [(1, 30 * DAY - 7 * DAY - 1, 0), (1, 30 * DAY - 7 * DAY, 1), (1, 30 * DAY, 2)]
    state = state_at([log_of(rows)], 30 * DAY, N_ITEMS, True, CONFIG)
    assert state.recent[0, :3].tolist() == [0, 1, 0]
    ordered = state_at([log_of([(1, -1, 0), (1, -2, 0)])], 0, N_ITEMS, False, CONFIG)
    assert ordered.recent.tolist() == np.zeros((len(WINDOWS_DAYS), N_ITEMS)).tolist()
    assert (
        ordered.popularity[0] == ordered.lately[0] == ordered.count[0] == 2
    )  # nothing halves without dates


@DATED
@pytest.mark.parametrize("seed", range(2))
def test_gaps_are_between_the_days_of_one_user_with_an_item(log_of, random_rows, dated, seed):
    rows, as_of, unit = random_rows(seed, dated), moment_of(dated), DAY if dated else 1
    state = state_at([log_of(rows)], as_of, N_ITEMS, dated, CONFIG)
    for item in range(N_ITEMS):
        days = [sorted({row[1] // unit for row in mine if row[2] == item})
                for mine in by_user(rows, as_of).values()]  # fmt: skip
        gaps = [after - before for some in days for before, after in pairwise(some)]
        assert (state.gap_days[item], state.gaps[item]) == (sum(gaps), len(gaps))
    assert state.gaps.sum() > N_ITEMS // 2


def test_the_trend_is_a_week_over_the_longest_window_smoothed(log_of):
    ages = [1, 2, 3, 20, 40, 60, 80, 90, 100]
    state = state_at([log_of([(1, (100 - age) * DAY, 0) for age in ages])], 100 * DAY, N_ITEMS,
                     True, CONFIG)  # fmt: skip
    assert state.trend[0] == pytest.approx(((3 + 1) / 7) / ((8 + 13) / 91))
    assert state.trend[1:] == pytest.approx(1)  # nothing is neither more nor less than nothing


@DATED
@pytest.mark.parametrize("seed", range(2))
def test_pairs_are_weighed_by_distance_and_age(log_of, random_rows, dated, seed):
    rows, as_of, unit = random_rows(seed, dated), moment_of(dated), DAY if dated else 1
    pairs = defaultdict(float)
    for mine in by_user(rows, as_of).values():
        days = sorted({row[1] // unit for row in mine})
        for at, left in enumerate(mine):
            for right in mine[at + 1 : at + 1 + CONFIG.pair_distance]:
                if left[2] == right[2]:
                    continue
                apart = days.index(right[1] // unit) - days.index(left[1] // unit)
                age = (as_of - right[1]) / DAY if dated else 0
                weight = 0.5 ** max(apart - 1, 0) * 0.5 ** (age / 20)
                pairs[left[2], right[2]] += weight
                if apart == 0:
                    pairs[right[2], left[2]] += weight
    state = state_at([log_of(rows)], as_of, N_ITEMS, dated, CONFIG)
    assert len(pairs) > N_ITEMS
    np.testing.assert_allclose(dense(state.follows), scaled(pairs), rtol=1e-5)
    np.testing.assert_allclose(dense(state.precedes), scaled(pairs).T, rtol=1e-5)


def test_one_basket_pairs_both_ways_and_days_only_forward(log_of):
    rows = [(1, 5 * DAY, 0), (1, 5 * DAY + 9, 1), (1, 6 * DAY, 2)]
    follows = dense(state_at([log_of(rows)], 7 * DAY, N_ITEMS, True, CONFIG).follows)
    found = {(int(i), int(j)) for i, j in np.argwhere(follows > 0)}
    assert found == {(0, 1), (1, 0), (0, 2), (1, 2)}


def test_nothing_pairs_with_itself_or_across_users(log_of):
    rows = [(1, 1 * DAY, 0), (1, 2 * DAY, 0), (2, 3 * DAY, 1)]
    assert dense(state_at([log_of(rows)], 9 * DAY, N_ITEMS, True, CONFIG).follows).sum() == 0


def test_only_the_strongest_neighbours_are_kept(log_of, random_rows):
    rows = random_rows(0, True)
    few = CONFIG.model_copy(update={"neighbours": 2})
    whole, cut = (state_at([log_of(rows)], 40 * DAY, N_ITEMS, True, one) for one in (CONFIG, few))
    for name in ("follows", "precedes"):
        for row, kept in zip(dense(getattr(whole, name)), dense(getattr(cut, name)), strict=True):
            assert sorted(kept[kept > 0]) == sorted(row)[-2:]


@DATED
def test_buckets_in_any_number_and_order_count_the_same(log_of, random_rows, dated):
    rows, as_of = random_rows(0, dated), moment_of(dated)
    logs = [log_of([row for row in rows if row[0] % 4 == part]) for part in range(4)]
    whole = state_at([log_of(rows)], as_of, N_ITEMS, dated, CONFIG)
    for some in (logs, logs[::-1]):
        state = state_at(iter(some), as_of, N_ITEMS, dated, CONFIG)
        for field in fields(state):
            one, other = (getattr(each, field.name) for each in (state, whole))
            if field.type == "Neighbours":
                one, other = dense(one), dense(other)
            np.testing.assert_allclose(one, other, rtol=1e-6, err_msg=field.name)


def test_popularity_ties_are_broken_by_all_events_then_by_code(log_of):
    popularity = np.array([0, 2, 1, 1, 0, 0, 0, 0, 2.0])
    count = np.array([0, 5, 3, 4, 0, 1, 0, 0, 5])
    state = state_at([log_of([(1, 0, 1)])], DAY, 9, True, CONFIG)
    state = replace(state, popularity=popularity, count=count)
    assert state.by_popularity.tolist() == [1, 8, 3, 2, 5, 0, 4, 6, 7]


def test_the_future_is_not_counted(log_of, random_rows):
    log = log_of(random_rows(3, True))
    state = state_at([log], 20 * DAY, N_ITEMS, True, CONFIG)
    cut = state_at([log.before(20 * DAY)], 20 * DAY, N_ITEMS, True, CONFIG)
    assert 0 < state.count.sum() < (log.grade > 0).sum()
    np.testing.assert_array_equal(state.count, cut.count)
    np.testing.assert_array_equal(dense(state.follows), dense(cut.follows))


def test_an_item_that_nobody_took_is_unknown_not_zero(log_of):
    state = state_at([log_of([(1, 0, 0)])], DAY, N_ITEMS, True, CONFIG)
    assert np.isnan([state.first[1], state.last[1], state.price[0], state.price[1]]).all()
    assert (state.count[1], state.users[1], state.popularity[1]) == (0, 0, 0)


def test_a_price_that_was_only_shown_was_not_paid(log_of):
    rows = [(1, 0, 0, 1, 1.0, 4.0), (2, 0, 0, 0, 1.0, 10.0)]
    assert state_at([log_of(rows)], DAY, N_ITEMS, True, CONFIG).price[0] == 4.0


def test_the_log_is_left_as_it_was(log_of, random_rows):
    log = concat([log_of(random_rows(0, True))])
    copy = replace(log, moment=log.moment.copy(), grade=log.grade.copy(), item=log.item.copy())
    state_at([log], 20 * DAY, N_ITEMS, True, CONFIG)
    for name in ("moment", "grade", "item"):
        np.testing.assert_array_equal(getattr(log, name), getattr(copy, name))
