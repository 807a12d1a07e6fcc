"""What came of a comparison, in words."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from pipelines.changes import Shown
from pipelines.compare import Comparison, Side, Versus
from pipelines.verdicts import SLICES as GROUPS
from recsys.comparison import Difference

METRICS = {"ndcg_at_10": "NDCG@10", "hr_at_10": "HR@10", "recall_at_20": "recall@20",
           "mrr_at_10": "MRR@10", "map_at_10": "MAP@10"}  # fmt: skip
SLICES = {  # (column, value) -> whose requests these are
    ("user_kind", "cold"): GROUPS["cold_users"], ("user_kind", "warm"): GROUPS["warm_users"],
    ("unseen_share", "none"): "only items taken that had events",
    ("unseen_share", "some"): "some unseen items taken",
    ("unseen_share", "all"): "only unseen items taken",
    ("popularity", "head"): GROUPS["head_items"],
    ("popularity", "middle"): GROUPS["middle_items"],
    ("popularity", "tail"): GROUPS["tail_items"],
    ("popularity", "never"): "items taken for the first time",
}  # fmt: skip
MOST_SETTINGS = 3  # named where runs are listed


def sentence(found: Comparison, one: Versus) -> str:
    """Say in one sentence what came of a comparison."""
    total, name, base = one.total, one.other.run.name, found.base.run.name
    numbers = f"{metric_name(found)} {total.other:.4f} against {total.base:.4f}, {interval(total)}"
    seeds = "" if np.isnan(one.seed_spread) else (
        f"; other seeds move it by up to {one.seed_spread:.4f} ({one.seed_runs} runs)"
    )  # fmt: skip
    if one.verdict == "noise":
        return f"{name} cannot be told from {base}: {numbers}, which chance alone may make{seeds}."
    if one.verdict == "seed noise":
        return (
            f"{name} differs from {base} no more than another seed does: {numbers}, but a seed "
            f"moves it by up to {one.seed_spread:.4f} ({one.seed_runs} runs): noise."
        )
    return f"{name} is {one.verdict} than {base}: {numbers}, p = {p_said(total.corrected)}{seeds}."


def slice_that_matters(one: Versus) -> Difference | None:
    """Return the slice with the largest difference, of those that chance seldom makes if any."""
    slices = [some for some in one.differences if some.value]
    told = [some for some in slices if some.is_told] or slices
    return max(told, key=lambda some: abs(some.difference), default=None)


def about_run(found: Comparison, one: Versus | None = None) -> str:
    """Name the run that a section is about, where there are several."""
    return "" if len(found.others) == 1 else f": {(one or found.best).other.run.name}"


def metric_name(found: Comparison) -> str:
    return METRICS.get(found.metric, found.metric)


def short(side: Side) -> str:
    return side.run.name.partition(" = ")[0]


def slice_name(some: Difference) -> str:
    """Say whose requests a slice holds."""
    if some.column == "history_events":
        return f"users with {some.value} events before"
    words = f"{some.column.removeprefix('user_')} {some.value}"
    return SLICES.get((some.column, some.value), words)


def differs_in(one: Versus) -> str:
    """Say what a run was made with that the base line was not."""
    shown = [
        f"{name} {there or 'none'}, not {here or 'none'}" for name, here, there in one.settings
    ]
    if not shown:
        return "nothing" if one.other.settings else "a model measured again"
    more = f"; {len(shown) - MOST_SETTINGS} more" if len(shown) > MOST_SETTINGS else ""
    return "; ".join(few[:80] for few in shown[:MOST_SETTINGS]) + more


def verdicts(found: Comparison) -> list[str]:
    """Say what came of each run: a sentence for the best, the others by verdict."""
    if len(found.others) <= MOST_SETTINGS:
        return [sentence(found, one) for one in found.others]
    groups: dict[str, list[str]] = {}
    for one in found.others:
        if one is not found.best:
            groups.setdefault(one.verdict, []).append(one.other.run.name)
    words = {"noise": "Cannot be told from it", "seed noise": "No more than another seed does",
             "better": "Better", "worse": "Worse"}  # fmt: skip
    rest = [f"{words[verdict]}: {', '.join(names)}." for verdict, names in groups.items()]
    return [sentence(found, found.best), *rest]


def interval(some: Difference) -> str:
    return f"{some.difference:+.4f} [{some.low:+.4f}, {some.high:+.4f}]"


def bounds(some: Difference) -> tuple[float, float, float]:
    return some.difference, some.low, some.high


def cells(some: Difference) -> tuple[str, ...]:
    return (f"{some.base:.4f}", f"{some.other:.4f}", f"{some.difference:+.4f}",
            f"{some.low:+.4f} to {some.high:+.4f}", p_said(some.corrected))  # fmt: skip


def p_said(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def band(spread: float) -> str:
    return "." if np.isnan(spread) else "; band: what another seed does."


def date(moment_ms: int) -> str:
    return f"{datetime.fromtimestamp(moment_ms / 1000, UTC):%Y-%m-%d %H:%M}"


def user_title(found: Comparison, user: Shown) -> str:
    took = ", ".join(user.taken)
    return (
        f"user {user.user_id}, {user.request_time}, {user.history_events:,} events before; "
        f"took {took}; {metric_name(found)} {user.difference:+.2f}"
    )


def beside(user: Shown, most: int) -> tuple[tuple[str, ...], ...]:
    sides = [marked(some)[:most] for some in (user.base, user.other)]
    n = max(map(len, sides))
    padded = [[*some, *[""] * (n - len(some))] for some in sides]
    return tuple((str(at), *row) for at, row in enumerate(zip(*padded, strict=True), start=1))


def marked(some: list[tuple[str, bool]]) -> list[str]:
    return [f"* {title}" if taken else title for title, taken in some]


def few_lines(titles: list[str], most: int = 5) -> str:
    more = [f"... {len(titles) - most:,} more"] if len(titles) > most else []
    return "\n".join([title[:40] for title in titles[:most]] + more)
