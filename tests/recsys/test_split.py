"""Windows are half-open, and every positive event of a window is in exactly one request."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.dataset import DAY, Log
from recsys.errors import ConfigError
from recsys.split import Windows, cut_windows, leave_last_out, requests_in

DATED = Windows(ranker=4 * DAY, valid=6 * DAY, test=8 * DAY, test_end=10 * DAY, dated=True)
HOUR = DAY // 24


def log_of(rows: list[tuple[int, int, int, int]]) -> Log:
    """Build a log from (user, moment, item, grade), in any order."""
    table = np.array(sorted(rows), np.int64).reshape(-1, 4)
    users, lengths = np.unique(table[:, 0], return_counts=True)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    item, grade = table[:, 2].astype(np.int32), table[:, 3].astype(np.int8)
    ones = np.ones(len(table), np.float32)
    return Log(users, indptr, item, table[:, 1], grade, ones, ones)


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4),  # user
        st.integers(0, 10 * 24 - 1).map(lambda hour: hour * HOUR),
        st.integers(0, 3),  # item
        st.integers(0, 2),  # grade
    ),
    max_size=60,
)


def dict_of(requests, what="grade") -> dict[tuple[int, int], dict[int, float]]:
    """(user, moment) -> {item: grade}, through `take`, one request at a time."""
    found = {}
    for row in range(len(requests)):
        one = requests.take(np.array([row]))
        key = (int(one.user[0]), int(one.moment[0]))
        assert key not in found, "one user has two requests at one moment"
        found[key] = dict(zip(one.item.tolist(), getattr(one, what).tolist(), strict=True))
    return found


@given(rows=EVENTS, window=st.sampled_from(["ranker", "valid", "test"]))
def test_every_positive_event_of_the_window_is_in_exactly_one_request(rows, window):
    start, end = DATED.span(window)
    expected: dict[tuple[int, int], dict[int, int]] = {}
    for user, moment, item, grade in rows:
        if start <= moment < end and grade > 0:
            taken = expected.setdefault((user, moment // DAY * DAY), {})
            taken[item] = max(grade, taken.get(item, 0))
    requests = requests_in(log_of(rows), DATED, start, end)
    assert dict_of(requests) == expected
    assert len(requests.item) == sum(map(len, expected.values()))


@given(rows=EVENTS, seed=st.integers(0, 99))
def test_an_item_has_the_largest_value_of_its_best_grade_that_day(rows, seed):
    value = np.random.default_rng(seed).choice([np.nan, 1.0, 2.0, 3.0], len(rows))
    log = replace(log_of(rows), value=value.astype(np.float32))
    best: dict[tuple[int, int], dict[int, tuple[int, float]]] = {}
    for (user, moment, item, grade), worth in zip(sorted(rows), value.tolist(), strict=True):
        if grade > 0:
            day = best.setdefault((user, moment // DAY * DAY), {})
            known = (grade, -1.0 if np.isnan(worth) else worth)
            day[item] = max(day.get(item, known), known)
    requests = requests_in(log, DATED, 0, DATED.test_end)
    requests = replace(requests, value=np.nan_to_num(requests.value, nan=-1.0))
    expected = {key: {item: worth for item, (_, worth) in day.items()} for key, day in best.items()}
    assert dict_of(requests, "value") == expected
    kept = requests.keep_relevant(np.arange(4) == 2)
    assert dict_of(kept, "value") == {key: {2: day[2]} for key, day in expected.items() if 2 in day}
    plain = requests_in(log_of(rows), DATED, 0, DATED.test_end)
    assert plain.value is None and dict_of(plain) == dict_of(requests)


@given(rows=EVENTS)
def test_what_was_shown_that_day_and_not_taken_comes_with_grade_0_where_asked_for(rows):
    days: dict[tuple[int, int], dict[int, list[int]]] = {}
    for user, moment, item, grade in rows:
        days.setdefault((user, moment // DAY * DAY), {}).setdefault(item, []).append(grade)
    days = {key: day for key, day in days.items() if any(max(grades) for grades in day.values())}
    log = log_of(rows)
    requests = requests_in(log, DATED, 0, DATED.test_end, shown=True)
    best = {key: {item: max(grades) for item, grades in day.items()} for key, day in days.items()}
    assert dict_of(requests) == best
    shown = {key: {item: 0 in grades for item, grades in day.items()} for key, day in days.items()}
    assert dict_of(requests, "shown") == shown
    plain = requests_in(log, DATED, 0, DATED.test_end)
    np.testing.assert_array_equal(requests.user, plain.user)
    np.testing.assert_array_equal(requests.moment, plain.moment)
    assert plain.shown is None and (plain.grade > 0).all()


@given(rows=EVENTS, seed=st.integers(0, 99))
def test_a_position_is_the_best_of_the_day_and_says_shown_where_lists_are_in_the_log(rows, seed):
    place = np.random.default_rng(seed).choice([-1, 1, 2, 3], len(rows))
    log = replace(log_of(rows), position=place)
    requests = requests_in(log, DATED, 0, DATED.test_end, shown=True)
    plain = requests_in(log_of(rows), DATED, 0, DATED.test_end, shown=True)
    places: dict[tuple[int, int, int], list[int]] = {}
    for (user, moment, item, _), at in zip(sorted(rows), place.tolist(), strict=True):
        places.setdefault((user, moment // DAY * DAY, item), []).append(at)
    best = {key: min((at for at in some if at > 0), default=-1) for key, some in places.items()}
    for key, day in dict_of(requests, "position").items():
        assert day == {item: best[*key, item] for item in day}
    only_shown, grades = dict_of(plain, "shown"), dict_of(plain)
    for key, day in dict_of(requests, "shown").items():
        lists = 0 in grades[key].values()
        assert day == {item: only_shown[key][item] or (lists and best[*key, item] > 0)
                       for item in day}  # fmt: skip
    assert dict_of(requests) == grades and plain.position is None
    assert requests_in(log, DATED, 0, DATED.test_end).position is None


def test_with_an_order_only_nothing_was_shown_on_a_day():
    rows = [(1, -back, back, back % 2) for back in range(1, 6)]
    requests = requests_in(log_of(rows), LAST_THREE, -9, 0, shown=True)
    assert dict_of(requests) == {(1, -back): {back: 1} for back in (1, 3, 5)}
    assert requests.shown is None


@given(rows=EVENTS)
def test_the_windows_share_no_request_and_lose_none(rows):
    log = log_of(rows)
    parts = [dict_of(requests_in(log, DATED, *DATED.span(w))) for w in ("ranker", "valid", "test")]
    whole = dict_of(requests_in(log, DATED, DATED.ranker, DATED.test_end))
    assert {key: taken for part in parts for key, taken in part.items()} == whole
    assert sum(map(len, parts)) == len(whole)


@given(rows=EVENTS)
def test_requests_are_sorted_and_their_items_too(rows):
    requests = requests_in(log_of(rows), DATED, 0, DATED.test_end)
    keys = list(zip(requests.moment.tolist(), requests.user.tolist(), strict=True))
    assert keys == sorted(keys)
    cuts = zip(requests.indptr, requests.indptr[1:], strict=False)
    items = [requests.item[a:b].tolist() for a, b in cuts]
    assert all(taken and taken == sorted(set(taken)) for taken in items)


@given(rows=EVENTS, seed=st.integers(0, 99))
def test_taking_requests_keeps_the_order_asked_for(rows, seed):
    requests = requests_in(log_of(rows), DATED, 0, DATED.test_end)
    order = np.random.default_rng(seed).permutation(len(requests))
    mixed = requests.take(order)
    assert dict_of(mixed) == dict_of(requests)
    np.testing.assert_array_equal(mixed.user, requests.user[order])
    np.testing.assert_array_equal(mixed.moment, requests.moment[order])


def test_a_window_takes_its_start_and_leaves_its_end():
    start, end = DATED.span("valid")
    rows = [(1, start - 1, 0, 1), (2, start, 0, 1), (3, end - 1, 0, 1), (4, end, 0, 1)]
    assert requests_in(log_of(rows), DATED, start, end).user.tolist() == [2, 3]


def test_a_request_stands_at_midnight_before_its_events():
    rows = [(1, 6 * DAY + 5 * HOUR, 0, 1), (1, 6 * DAY + 23 * HOUR, 2, 2), (1, 7 * DAY, 3, 1)]
    requests = requests_in(log_of(rows), DATED, *DATED.span("valid"))
    assert dict_of(requests) == {(1, 6 * DAY): {0: 1, 2: 2}, (1, 7 * DAY): {3: 1}}


LAST_THREE = leave_last_out(n_events=19, n_users=1)


def test_with_an_order_only_and_few_events_each_window_holds_one_of_each_user():
    rows = [(user, -back, 10 * user + back, 1) for user in (1, 2) for back in range(1, 6)]
    for window, back in {"ranker": 3, "valid": 2, "test": 1}.items():
        requests = requests_in(log_of(rows), LAST_THREE, *LAST_THREE.span(window))
        assert dict_of(requests) == {(1, -back): {10 + back: 1}, (2, -back): {20 + back: 1}}


def test_the_windows_follow_each_other_without_a_gap():
    for windows in (DATED, LAST_THREE):
        spans = [windows.span(name) for name in ("ranker", "valid", "test")]
        assert [end for _, end in spans[:2]] == [start for start, _ in spans[1:]]


def test_where_users_have_many_events_the_ranker_learns_from_its_share_of_them():
    rows = [(1, -back, back, 1) for back in range(1, 81)] + [(2, -1, 1, 1)]
    windows = leave_last_out(n_events=81, n_users=2, share=0.1)
    learned = dict_of(requests_in(log_of(rows), windows, *windows.span("ranker")))
    assert learned == {(1, -back): {back: 1} for back in (3, 4, 5, 6)}
    assert (windows.valid, windows.test) == (LAST_THREE.valid, LAST_THREE.test)


@given(counts=st.lists(st.integers(1, 9), min_size=40, max_size=99), first=st.integers(0, 20_000))
def test_each_window_is_the_shortest_run_of_days_with_its_share(counts, first):
    days, counts = first + np.arange(len(counts)), np.array(counts)
    windows = cut_windows(days, counts, share=0.1)
    assert windows.test_end == (days[-1] + 1) * DAY
    for start, n_windows in ((windows.test, 1), (windows.valid, 2), (windows.ranker, 3)):
        day, rest = divmod(start, DAY)
        assert rest == 0, "windows begin at midnight"
        wanted = n_windows * counts.sum()  # in tenths of an event, so nothing is rounded
        assert 10 * counts[days > day].sum() < wanted <= 10 * counts[days >= day].sum()


@pytest.mark.parametrize("n_days", [4, 5])
def test_equal_days_are_shared_out_exactly(n_days):
    windows = cut_windows(np.arange(100, 140), np.full(40, 7), share=n_days / 40)
    starts = [(140 - n * n_days) * DAY for n in (3, 2, 1)]
    assert windows == Windows(*starts, 140 * DAY, dated=True)


@pytest.mark.parametrize("counts", [[5], [5, 5, 5], [1, 1, 1, 1, 100]])
def test_a_log_of_too_few_days_is_refused_in_words(counts):
    with pytest.raises(ConfigError, match="leave_last_out"):
        cut_windows(np.arange(len(counts)), np.array(counts))
