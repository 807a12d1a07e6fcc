"""Features of the user at the request's moment."""

from __future__ import annotations

import numpy as np

from recsys.asof import Past, counts_before, new_days
from recsys.dataset import DAY

HALF_LIFE_DAYS = 30.0  # of an event in `user_decayed`


def user_features(past: Past, moment: np.ndarray, dated: bool) -> dict[str, np.ndarray]:
    """Describe each request's user; every array is (n_requests,) float, NaN = unknown.

    Args:
        past: events strictly before each request.
        moment: (n_requests,) int64 of the requests.
        dated: whether moments are microseconds.
    """
    n, taken = len(moment), past.keep(past.grade > 0)
    looked = np.diff(taken.indptr).astype(float)
    span = int(taken.item.max(initial=0)) + 1
    pairs = np.unique(taken.request * span + taken.item)
    distinct = np.bincount(pairs // span, minlength=n)
    priced = np.isfinite(taken.price)
    paid = np.bincount(taken.request[priced], taken.price[priced], minlength=n)
    table = {
        "user_events": past.total.astype(float),
        "user_recent_items": distinct.astype(float),
        "user_repeat_share": _ratio(looked - distinct, looked),
        "user_price": _ratio(paid, np.bincount(taken.request[priced], minlength=n)),
    }
    if dated:
        days_ago = (moment[past.request] - past.moment) / DAY
        idle = np.full(n, np.nan)
        some = np.diff(past.indptr) > 0
        idle[some] = days_ago[past.indptr[1:][some] - 1]
        age = np.where(past.total > 0, (moment - past.first) / DAY, np.nan)
        active = np.bincount(past.request, new_days(past.request, past.moment // DAY), minlength=n)
        oldest = np.full(n, np.nan)
        oldest[some] = days_ago[past.indptr[:-1][some]]
        [lately] = counts_before(past.request, past.moment, np.arange(n), moment, [28 * DAY])
        faded = 0.5 ** ((moment[taken.request] - taken.moment) / DAY / HALF_LIFE_DAYS)
        table |= {
            "user_events_28d": lately.astype(float),
            "user_decayed": np.bincount(taken.request, faded, minlength=n),
            "user_idle_days": idle,
            "user_age_days": age,
            "user_gap_days": _ratio(oldest - idle, active - 1),
        }
    return table


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is not positive."""
    ratio = np.full(len(above), np.nan)
    np.divide(above, below, where=below > 0, out=ratio)
    return ratio
