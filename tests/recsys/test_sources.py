"""What the optional sources say, written out; the laws of all are in tests/test_every_source.py."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from recsys.asof import past_of
from recsys.baselines import als_scores, fit_als
from recsys.candidates import CandidateConfig, history_matrix
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, DAY, Items
from recsys.interest import TextModel, UserPooling
from recsys.neighbours import taken_matrix
from recsys.related import Related
from recsys.sources import (
    HAS_TO_SCORE,
    PRIOR_GAPS,
    PRIOR_RETURNS,
    View,
    als,
    category_popularity,
    due,
    fresh,
    interest,
    mean_gaps,
    new_items,
    trending,
)
from recsys.state import StateConfig, state_at

N_ITEMS = 8
CATEGORY = np.array([0, 0, 1, 1, 1, 2, -1, -1], np.int32)
CONFIG = CandidateConfig(history_decay=0.5, fresh_days=10)
DATED = pytest.mark.parametrize("dated", [True, False], ids=["dated", "ordered"])


def view_of(log, users, moment, dated=True):
    """Look at users at a moment, with the state of that moment and drawn text vectors."""
    text, none = np.array(["x"] * N_ITEMS, object), np.full(N_ITEMS, -1, np.int32)
    items = Items(np.arange(N_ITEMS), text, text, CATEGORY, none,
                  np.full(N_ITEMS, np.nan, np.float32), np.full(N_ITEMS, ALWAYS_FROM),
                  np.full(N_ITEMS, ALWAYS_UNTIL))  # fmt: skip
    moments, unit = np.full(len(users), moment), DAY if dated else 1
    vectors = np.random.default_rng(0).normal(size=(N_ITEMS, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    empty = history_matrix(past_of(log, np.array([10**6]), moments[:1], unit, 9), N_ITEMS, 1)
    texts = TextModel(np.arange(N_ITEMS), vectors, vectors, UserPooling(4, 3), empty)
    model = fit_als(taken_matrix([log], moment, N_ITEMS, counted=True), 0)
    return View(past_of(log, np.array(users), moments, unit, 99), moments, items,
                state_at([log], moment, N_ITEMS, dated, StateConfig()),
                Related(empty, empty, model), texts, CONFIG, dated)  # fmt: skip


def test_als_folds_a_user_in_from_counts_without_fading(log_of):
    log = log_of([(1, at * DAY, item) for at, item in enumerate([0, 1, 0, 2, 0])] + [(2, 0, 5)])
    view = view_of(log, [1, 7], 9 * DAY)
    counts = np.zeros((2, N_ITEMS), np.float32)
    counts[0, :3] = 3, 1, 1
    whole = view.related.als
    factors = whole.item_factors.astype(np.float64)
    weight = 10.0 * counts[0]  # the confidence of what was taken; of all else 1
    known = weight > 0
    normal = factors.T @ factors + factors[known].T * (weight[known] - 1) @ factors[known]
    solved = np.linalg.solve(normal + 0.05 * np.eye(64), factors[known].T @ weight[known])
    scores = als(view).dense()
    np.testing.assert_allclose(scores[0], factors @ solved, atol=1e-4)
    np.testing.assert_allclose(scores, als_scores(whole, sparse.csr_matrix(counts)), atol=1e-6)
    assert not scores[1].any()  # who took nothing


def test_a_category_counts_by_the_users_faded_share_and_its_items_by_theirs(log_of):
    rows = [(1, 1 * DAY, 0), (1, 2 * DAY, 2), (1, 3 * DAY, 6), (2, 3 * DAY, 3), (3, 3 * DAY, 3)]
    view = view_of(log_of(rows), [1, 9], 5 * DAY)
    half_life = StateConfig().popularity_days
    ages = {0: [4], 2: [3], 3: [2, 2], 6: [2]}
    recent = {item: sum(0.5 ** (age / half_life) for age in some) for item, some in ages.items()}
    mine = {0: 0.25 / 1.75, 1: 0.5 / 1.75}  # back 2, 1 and, without a category, 0
    expected = np.zeros((2, N_ITEMS))
    expected[0, 0] = mine[0]  # all of its category
    expected[0, 2] = mine[1] * recent[2] / (recent[2] + recent[3])
    expected[0, 3] = mine[1] * recent[3] / (recent[2] + recent[3])
    np.testing.assert_allclose(category_popularity(view).dense(), expected, rtol=1e-6)


def test_what_is_taken_more_lately_is_trending_and_without_dates_nothing_is(log_of):
    rows = [(user, 95 * DAY + user, 0) for user in range(20)]  # all in the last week
    rows += [(user, 5 * DAY + 4 * DAY * user, 1) for user in range(20)]  # over the quarter
    log = log_of(rows)
    scores = trending(view_of(log, [1, 2], 97 * DAY)).dense()
    one_in = [sum(97 - (5 + 4 * user) <= days for user in range(20)) for days in (7, 91)]
    expected = [(21 / 7) / (33 / 91), ((one_in[0] + 1) / 7) / ((one_in[1] + 13) / 91), 1.0]
    np.testing.assert_allclose(scores[:, :3], [expected] * 2, rtol=1e-6)
    assert HAS_TO_SCORE["trending"] == 1.0  # so what is as ever, or never was, is not found
    ordered = view_of(log_of([(1, -1, 0), (2, -1, 1)]), [1], 0, dated=False)
    assert not trending(ordered).dense().any()


def test_an_item_is_new_by_its_first_event_or_its_first_day_on_offer_or_without_any(log_of):
    log = log_of([(1, 10 * DAY, 0), (1, 20 * DAY - 1, 1), (1, 20 * DAY, 2), (2, 29 * DAY, 0)])
    view = view_of(log, [1], 30 * DAY)
    from_ = np.full(N_ITEMS, ALWAYS_FROM)
    from_[[0, 1]] = 20 * DAY, 20 * DAY - 1
    items = replace(view.items, available_from=from_)
    assert new_items(view.state, view.items, 10, True).tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert new_items(view.state, items, 10, True).tolist() == [1, 0, 1, 1, 1, 1, 1, 1]


def test_under_an_order_the_items_taken_least_are_new(log_of):
    rows = [(user, at - 8, at) for user in range(3) for at in range(8)][:-2]
    state = view_of(log_of(rows), [0], 0, dated=False).state
    assert state.count.tolist() == [3, 3, 3, 3, 3, 3, 2, 2]
    assert new_items(state, None, 10, False).tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


def test_a_new_item_scores_its_interest_plus_one_and_an_old_one_nothing(log_of):
    log = log_of([(1, 10 * DAY, 0), (1, 25 * DAY, 1), (2, 12 * DAY, 2)])
    view = view_of(log, [1, 2], 30 * DAY)
    old = np.array([1, 0, 1, 0, 0, 0, 0, 0], bool)
    cosine = interest(view).dense()
    expected = np.where(old, 0, 1 + cosine)
    np.testing.assert_allclose(fresh(view).dense(), expected, rtol=1e-6)
    assert (expected[:, ~old] > 0).all() and cosine.min() < 0
    assert HAS_TO_SCORE["fresh"] == 0  # so an old one is not found


def by_hand(rows, request, moment, unit):
    """Score what the user took before, in a loop."""
    days = defaultdict(lambda: defaultdict(set))  # item -> user -> days
    times = defaultdict(lambda: defaultdict(int))
    for user, when, item, grade, *_ in rows:
        if grade > 0 and when < moment:
            days[item][user].add(when // unit)
            times[item][user] += 1
    gaps = {item: [b - a for some in users.values() for a, b in pairwise(sorted(some))]
            for item, users in days.items()}  # fmt: skip
    every = [gap for some in gaps.values() for gap in some]
    overall = sum(every) / len(every)
    scores = np.zeros(N_ITEMS)
    for item, users in days.items():
        if request not in users:
            continue
        alike = [g for other in gaps for g in gaps[other] if CATEGORY[other] == CATEGORY[item]]
        group = (sum(alike) + PRIOR_GAPS * overall) / (len(alike) + PRIOR_GAPS)
        mean = (sum(gaps[item]) + PRIOR_GAPS * group) / (len(gaps[item]) + PRIOR_GAPS)
        own = sorted(users[request])
        repeaters = sum(n > 1 for n in times[item].values())
        share = (repeaters + 0.1) / (len(users) + 1)
        chance = (len(own) - 1 + PRIOR_RETURNS * share) / (len(own) - 1 + PRIOR_RETURNS)
        shape, scale = len(own) - 1 + PRIOR_GAPS, own[-1] - own[0] + PRIOR_GAPS * max(mean, 1)
        since = max(moment // unit - own[-1], 1)
        density = shape / scale * (1 + since / scale) ** -(shape + 1)
        later = (1 + since / scale) ** -shape
        scores[item] = chance * density / (chance * later + 1 - chance)
    return scores


@DATED
@pytest.mark.parametrize("seed", range(3))
def test_due_is_the_hazard_of_a_poisson_gamma_with_a_chance_of_no_return(
    log_of, random_rows, dated, seed
):
    rows, unit = random_rows(seed, dated), DAY if dated else 1
    moment = 35 * DAY if dated else -1
    users = sorted({row[0] for row in rows})
    found = due(view_of(log_of(rows), users, moment, dated)).dense()
    for row, user in enumerate(users):
        np.testing.assert_allclose(found[row], by_hand(rows, user, moment, unit), rtol=1e-5)
    assert (found > 0).sum() > len(users)


def test_due_grows_with_returns_and_with_shorter_gaps_and_fades_with_silence(log_of):
    def taken(user, *days):
        return [(user, day * DAY, 0) for day in days]

    rows = [*taken(1, 40, 50, 60, 70, 80, 90), *taken(2, 90), *taken(3, 80, 85, 90)]
    rows += [*taken(4, 70, 80, 90), *taken(5, 10, 20, 30), *taken(6, 30, 60, 90)]
    found = due(view_of(log_of(rows), [1, 2, 3, 4, 5, 6], 95 * DAY)).dense()
    often, once, weekly, third, long_ago, monthly = found[:, 0]
    assert often > third > once and weekly > third > monthly > long_ago > 0


def test_a_mean_gap_leans_on_its_category_and_on_all(log_of):
    rows = [(1, day * DAY, 0) for day in (0, 4, 8)] + [(2, day * DAY, 2) for day in (0, 20)]
    state = view_of(log_of(rows), [1], 50 * DAY).state
    overall = (4 + 4 + 20) / 3
    first = (8 + PRIOR_GAPS * overall) / (2 + PRIOR_GAPS)
    second = (20 + PRIOR_GAPS * overall) / (1 + PRIOR_GAPS)
    own = (8 + PRIOR_GAPS * first) / (2 + PRIOR_GAPS)
    other = (20 + PRIOR_GAPS * second) / (1 + PRIOR_GAPS)
    expected = [own, first, other, second, second, overall, overall, overall]
    np.testing.assert_allclose(mean_gaps(state, CATEGORY), expected)


def test_where_nobody_came_back_a_gap_is_a_day(log_of):
    state = view_of(log_of([(1, 0, 0), (2, DAY, 3)]), [1], 9 * DAY).state
    assert mean_gaps(state, CATEGORY).tolist() == [1.0] * N_ITEMS
