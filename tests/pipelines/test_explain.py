"""What drove a score is named by its group, strongest first, and only what raised it."""

import numpy as np
import pytest

from features.catalogue import CATALOGUE
from pipelines.explain import DRIVERS, drivers, group_of
from recsys.contributions import contributions, contributions_of
from recsys.ranker import RankerConfig, refit_ranker
from recsys.rows import Rows

FEATURES = ("user_events", "item_events", "pair_events", "interest", "ease")
GROUPS = {feature.name: group_of(feature) for feature in CATALOGUE}


@pytest.fixture(scope="module")
def fitted():
    """A ranker of rows that each feature raises, the later ones more; (ranker, its rows)."""
    rng = np.random.default_rng(0)
    table = rng.random((6_000, 5)).astype(np.float32)
    grade = (table @ [1, 1, 1.5, 2, 2] + 0.5 * rng.normal(size=6_000) > 4.5).astype(np.int64)
    config = RankerConfig(min_rows_in_leaf=20, feature_fraction=1.0)
    rows = Rows(table, grade, np.full(150, 40))
    return refit_ranker([rows], FEATURES, config, seed=0, trees=60), table


def test_every_feature_speaks_for_one_group():
    assert [GROUPS[name] for name in FEATURES] == [
        "user", "item", "history", "text", "neighbours"]  # fmt: skip
    assert GROUPS["repeat"] == GROUPS["pair_due"] == "history"
    assert {GROUPS[feature.name] for feature in CATALOGUE if feature.text} == {"text"}


def test_those_named_raised_the_score_most(fitted):
    ranker, table = fitted
    known = contributions_of(ranker, GROUPS)
    parts = dict(zip(known.groups, contributions(known, ranker, table).T, strict=True))
    del parts["user"]
    named = [found.split(", ") if found else [] for found in drivers(ranker, table)]
    assert {len(some) for some in named} == {0, 1, DRIVERS}
    for at, some in enumerate(named):
        raised = sorted((group for group in parts if parts[group][at] > 0),
                        key=lambda group: -parts[group][at])  # fmt: skip
        assert some == raised[:DRIVERS]


def test_a_row_of_high_interest_alone_is_driven_by_text(fitted):
    ranker, _ = fitted
    row = np.array([[0.5, 0.05, 0.05, 0.95, 0.05]], np.float32)
    assert drivers(ranker, row).tolist() == ["text"]


def test_no_row_has_no_drivers(fitted):
    ranker, table = fitted
    assert drivers(ranker, table[:0]).shape == (0,)
