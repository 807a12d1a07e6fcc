"""What valid decides about the encoder's second fit, and what is reported then."""

import numpy as np

from pipelines.evaluate import Outcome
from pipelines.measure import with_ranker_of


def outcome(rank, found, names):
    """One request of one user that took one item."""
    one = np.zeros(1, np.int64)
    return Outcome(
        user=one, moment=one, history=one, request=one, item=one, grade=one + 1,
        unseen=np.zeros(1, bool),
        rank={name: np.array([rank]) for name in names},
        found={"interest": np.array([found]), "union": np.array([found])},
        listed={name: np.full((1, 1), rank) for name in names},
    )  # fmt: skip


def test_the_ranker_and_its_candidates_are_of_the_fit_that_is_kept_and_the_rest_stays():
    refitted = outcome(3.0, False, ["popularity", "full"])
    both = with_ranker_of(refitted, outcome(1.0, True, ["full"]))
    assert {name: rank.item() for name, rank in both.rank.items()} == {"popularity": 3, "full": 1}
    assert {name: items.item() for name, items in both.listed.items()} == {
        "popularity": 3, "full": 1,
    }  # fmt: skip
    assert both.found["interest"].item() and both.found["union"].item()
    assert refitted.rank["full"].item() == 3
