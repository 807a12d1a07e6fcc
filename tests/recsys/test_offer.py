"""A request may get what is on offer at its moment, is not left out, and was not taken already."""

import numpy as np
import pytest
from scipy import sparse

from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, Items
from recsys.offer import Offer

N_REQUESTS, N_ITEMS = 5, 12
MOMENT = np.array([10, 10, 20, 30, 20])


def offer_of(limits, left_out, taken, moment=MOMENT):
    rng = np.random.default_rng(0)
    from_, until = np.full(N_ITEMS, ALWAYS_FROM), np.full(N_ITEMS, ALWAYS_UNTIL)
    if limits:
        from_[:6] = [5, 10, 15, 20, 30, 31]
        until[4:10] = [40, 50, 10, 11, 20, 31]
    text, none = np.full(N_ITEMS, "x", object), np.full(N_ITEMS, -1, np.int32)
    items = Items(np.arange(N_ITEMS), text, text, none, none, np.full(N_ITEMS, np.nan), from_,
                  until)  # fmt: skip
    only = np.arange(N_ITEMS) % 5 > 0 if left_out else None
    seen = sparse.csr_matrix(rng.random((len(moment), N_ITEMS)) < 0.3) if taken else None
    return Offer(items, moment, only, seen)


def may_get(offer):
    """Say it again, one pair at a time."""
    seen = np.zeros((len(offer.moment), N_ITEMS)) if offer.seen is None else offer.seen.toarray()
    return np.array([
        [offer.items.available_from[item] <= moment < offer.items.available_until[item]
         and (offer.only is None or offer.only[item]) and not seen[request, item]
         for item in range(N_ITEMS)] for request, moment in enumerate(offer.moment.tolist())
    ])  # fmt: skip


each_offer = pytest.mark.parametrize(
    "limits,left_out,taken", [np.unravel_index(at, (2, 2, 2)) for at in range(8)]
)


@each_offer
def test_pairs_are_allowed_and_tables_masked_by_one_rule(limits, left_out, taken):
    offer = offer_of(limits, left_out, taken)
    expected = may_get(offer)
    pairs = np.divmod(np.arange(N_REQUESTS * N_ITEMS), N_ITEMS)
    np.testing.assert_array_equal(offer.allows(*pairs), expected.ravel())
    whole = offer.allows(np.arange(N_REQUESTS)[:, None], np.arange(N_ITEMS)[None])
    np.testing.assert_array_equal(whole, expected)
    scores = np.random.default_rng(1).normal(size=expected.shape).astype(np.float32)
    masked = offer.mask(scores.copy())
    np.testing.assert_array_equal(masked, np.where(expected, scores, -np.inf))
    rows, columns = np.array([0, 2, 4]), np.array([1, 3, 4, 8, 11])
    part = offer.mask(scores[np.ix_(rows, columns)], rows, columns)
    np.testing.assert_array_equal(part, masked[np.ix_(rows, columns)])
    assert expected.all() == (not (limits or left_out or taken))


@each_offer
def test_what_is_possible_holds_all_that_anybody_may_get_and_spare_all_they_may_not(
    limits, left_out, taken
):
    offer = offer_of(limits, left_out, taken)
    expected = may_get(offer)
    assert offer.possible[expected.any(0)].all()
    missing = offer.possible & ~expected
    assert offer.spare >= missing.sum(1).max()
    if not taken:
        assert offer.spare == missing.sum(1).max()


def test_of_nobody_nothing_is_asked():
    offer = offer_of(True, True, True, MOMENT[:0])
    assert offer.spare == 0 and offer.mask(np.zeros((0, N_ITEMS), np.float32)).shape[0] == 0
