"""What a report's numbers say, in sentences that a reader can disagree with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from pipelines.evaluate import SINGLE

Report = Mapping[str, Any]
GROUPINGS = {
    "history": "how many events they had before the request",
    "taste": "how popular the items are that they had taken",
    "category": "the category that they had taken most of",
}
BY_HISTORY = {
    "history_0": "users without an event",
    "history_1_4": "users with 1 to 4 events",
    "history_5_19": "users with 5 to 19 events",
    "history_20_plus": "users with 20 events or more",
}
WITHOUT_A_PAST = {
    "cold_users": "users without any event",
    "unseen_items": "items nobody had taken when the parts were fitted",
}
SLICES = BY_HISTORY | {  # whose requests they are, or which of the taken items count
    "cold_users": "new users",
    "warm_users": "known users",
    "unseen_items": "items taken that had no event when the parts were fitted",
    "seen_items": "items taken that had events",
    "head_items": "popular items taken (head)",
    "middle_items": "less popular items taken",
    "tail_items": "rare items taken (tail)",
    "unseen_catalogue": "only items without an event may be listed",
}
AS_SAID = 1.1  # a probability and a share that are apart by less than this factor agree


def number(value: float | None, sign: bool = False) -> str:
    """Write a number with the digits that matter; a dash for none."""
    if value is None:
        return "-"
    digits = 4 if abs(value) < 10 else 1
    return f"{value:+.{digits}f}" if sign else f"{value:,.{digits}f}"


def interval(row: Sequence[float], sign: bool = False) -> str:
    """Write [value, low, high] as "value [low, high]"."""
    value, low, high = (number(one, sign) for one in row)
    return f"{value} [{low}, {high}]"


def tested(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return name -> what it has of the test window, those that have it."""
    return {name: windows["test"] for name, windows in section.items() if "test" in windows}


def judged(row: Sequence[float], better: str, worse: str, open_: str) -> str:
    """Choose words by whether an interval [value, low, high] is above 0, below, or holds it."""
    _, low, high = row
    return better if low > 0 else worse if high < 0 else open_


def best_single(report: Report, window: str = "test") -> str:
    """Name the best of the models that are one score, by NDCG@10."""
    models = report["models"]
    return max((name for name in SINGLE if name in models),
               key=lambda name: models[name][window]["ndcg_at_10"])  # fmt: skip


def quality_words(report: Report) -> tuple[str, ...]:
    """Compare the full ranker with the best single model and with popularity."""
    best, found = best_single(report), []
    for name in dict.fromkeys((best, "popularity")):
        row = report["differences"][name]["test"]["ndcg_at_10"]
        says = judged(row, "beats", "is worse than", "cannot be told from")
        which = "the best single model, " if name == best else ""
        noise = judged(row, "", "", "; may be noise")
        found.append(f"The full ranker {says} {which}{name}: {interval(row, sign=True)} NDCG@10"
                     f"{noise}.")  # fmt: skip
    return tuple(found)


def text_words(report: Report) -> tuple[str, ...]:
    """Say whether text helps the ranker, and what fine-tuning did to the encoder alone."""
    found = []
    if "ranker_without_text" in report["differences"]:
        row = report["differences"]["ranker_without_text"]["test"]["ndcg_at_10"]
        says = judged(row, "Text helps", "Text hurts", "Text may help or not")
        noise = judged(row, "", "", "; may be noise")
        found.append(f"{says}: {interval(row, sign=True)} NDCG@10 against the same ranker without "
                     f"any text{noise}.")  # fmt: skip
    models, bounds = report["models"], report["intervals"]
    if {"frozen_encoder", "tuned_encoder"} <= models.keys():
        tuned, frozen = (
            interval([models[name]["test"]["ndcg_at_10"], *bounds[name]["test"]["ndcg_at_10"]])
            for name in ("tuned_encoder", "frozen_encoder")
        )
        found.append(f"The encoder alone, text and nothing else: {tuned} fine-tuned, {frozen} "
                     "frozen.")  # fmt: skip
    return tuple(found)


def data_words(report: Report) -> tuple[str, ...]:
    """Say what the data is and how it was split."""
    data = report["data"]
    by = "windows of time" if data["protocol"] == "time" else "each user's last events, held out"
    again = "may be listed again" if data["seen"] == "list" else "is never listed again"
    notes = [
        f"Protocol {data['protocol']} ({by}). What a user took before {again}: "
        f"{data['repeat_share']:.1%} of what was taken had been taken before.",
        f"The text of an item: {', '.join(data['text_columns']) or 'its title'}.",
    ]
    dropped = [f"{n:,} rows ({why})" for why, n in data["dropped"] if n]
    if dropped:
        notes.append(f"Dropped: {'; '.join(dropped)}.")
    notes.append(
        f"Data {data['fingerprint'][:16]}; 'recsys validate --html FILE' shows more of it."
    )
    return tuple(notes)


def funnel_words(report: Report) -> tuple[str, ...]:
    """Say where most is lost between catalogue and list."""
    steps = report["funnel"]["steps"]["test"]
    recall = {one["step"]: one["recall"] for one in steps}
    union, ten = recall["candidates"], recall["first 10 of the list"]
    notes = [
        f"Of 100 things that users took, {100 * union:.1f} are among the candidates and "
        f"{100 * ten:.1f} among the first ten of the list: {100 * (1 - union):.1f} could be won by "
        f"better candidates at most, {100 * (union - ten):.1f} by better ranking."
    ]
    sources = tested(report["candidates"])
    del sources["union"]
    if sources:
        best = max(sources, key=lambda name: sources[name])
        notes.append(f"The best source alone is {best}: {100 * sources[best]:.1f} of 100.")
    return tuple(notes)


def slice_words(report: Report) -> tuple[str, ...]:
    """Say how users and items without a past fare."""
    cuts, found = tested(report["slices"]), []
    for name, who in WITHOUT_A_PAST.items():
        if name in cuts:
            value = cuts[name]["full"]["ndcg_at_10"]
            found.append(f"{cuts[name]['requests']:,} requests are of {who}: NDCG@10 "
                         f"{number(value)}.")  # fmt: skip
        else:
            found.append(f"No request is of {who}.")
    least = min((cut["requests"] for cut in cuts.values()), default=0)
    found.append(f"Differences between models in slices are not tested here, and the smallest has "
                 f"{least:,} requests: they may be noise. 'recsys compare' tests two runs, slice "
                 "by slice.")  # fmt: skip
    row = cuts.get("unseen_catalogue", {}).get("differences", {}).get("ranker_without_text")
    if row:
        gain = row["ndcg_at_10"]
        noise = judged(gain, "", "", "; may be noise")
        found.append("Tested: where only items without an event may be listed, text gives "
                     f"{interval(gain, sign=True)} NDCG@10{noise}.")  # fmt: skip
    return tuple(found)


def fairness_words(report: Report) -> tuple[str, ...]:
    """Say which group of users is served worst."""
    found = []
    for grouping, one in tested(report.get("fairness", {})).items():
        says = judged(one["gap"], "", "", " (may be noise)")
        worst, best = (BY_HISTORY.get(one[end], f"'{one[end]}'") for end in ("worst", "best"))
        found.append(
            f"Users grouped by {GROUPINGS[grouping]}: {worst} are served worst, {best} best, "
            f"{interval(one['gap'])} NDCG@10 apart{says}."
        )
    return tuple(found)


def learning_words(report: Report) -> tuple[str, ...]:
    """Say what fine-tuning and early stopping chose."""
    encoder, ranker = report["encoder"], report["ranker"]
    curve = encoder["curve"]
    if curve:
        first, kept = curve[0], max([*curve, encoder["layers_score"] or 0])
        notes = [f"Fine-tuning took the encoder from {number(first)} to {number(kept)} NDCG@10 on "
                 f"its stopping window; kept: {encoder['kept']}."]  # fmt: skip
    else:
        notes = ["There was nothing to fine-tune the encoder on."]
    again = ", then fitted again on both windows" if ranker["refit"] else ""
    notes.append(f"The ranker has {ranker['trees']:,} trees{again}.")
    return tuple(notes)


def feature_words(report: Report) -> tuple[str, ...]:
    """Name the strongest features by either measure."""
    gain, parts = report["ranker"]["importance"], report["ranker"]["contributions"]
    first = ", ".join(list(gain)[:3])
    notes = [f"By gain, most is split on {first}."]
    if parts:
        most = ", ".join(list(parts)[:3])
        notes.append(f"By contribution to scores, most comes from {most}. Gain is of training rows "
                     "and likes features with many values; contributions are of candidates as they "
                     "come.")  # fmt: skip
    else:
        notes.append("Contributions cannot be told: LightGBM does not take linear trees apart.")
    return tuple(notes)


def probability_words(report: Report) -> tuple[str, ...]:
    """Say how well the lowest level's probabilities hold."""
    name, windows = next(iter(report["calibration"].items()))
    one = windows["test"]
    return (
        f"That a candidate is taken with a grade of {name.replace('_', ' ')}: {one['mean']:.5f} "
        f"said on average, {one['share']:.5f} happened ({one['taken']:,} of {one['rows']:,}); a "
        f"bin is off by {one['ece']:.5f} on average, which is mostly candidates that nobody takes.",
        *high_words(one["bins"]),
    )


def high_words(bins: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """Say how well the highest probabilities hold, which are those that lists are made of.

    They are the last fifth of the bins. Noise is what so many independent draws with the
    probabilities said would often give (1.96 standard deviations).
    """
    high = bins[-max(1, len(bins) // 5) :]
    rows = sum(one["rows"] for one in high)
    if not rows:
        return ()
    said, share = (sum(one[key] * one["rows"] for one in high) / rows for key in ("mean", "share"))
    far = abs(share - said) > 1.96 * sqrt(said * (1 - said) / rows)
    ratio = said / share if share else float("inf")
    if 1 / AS_SAID <= ratio <= AS_SAID:
        verdict = "as said"
    elif not share:
        verdict = "too high" if far else "too high, or noise"
    else:
        way = f"{ratio:.1f} times too high" if ratio > 1 else f"{1 / ratio:.1f} times too low"
        verdict = way if far else f"{way}, or noise"
    return (f"Of the highest probabilities ({rows:,} candidates, the top {len(high)} of "
            f"{len(bins)} bins; lists begin with these) {said:.3f} was said, {share:.3f} happened "
            f"({share * rows:,.0f}): {verdict}.",)  # fmt: skip


def requests_words(report: Report) -> str:
    """Say how many requests of the test window were measured, and of how many."""
    measured = report["requests"]["requests"]["test"]
    there = report["requests"].get("in_window", {}).get("test", measured)
    drawn = f" of {there:,}" if there > measured else ""
    return f"{measured:,}{drawn} requests" + (", drawn by seed" if drawn else "")


def never_words(report: Report) -> str:
    """Say where items without a past are among the tenths, and what is listed of them."""
    found = report["exposure"].get("never", {}).get("test")
    where = "Items that had no event before the window are in the last tenths"
    why = ("Lists follow the events as the window goes on, so they can show what became popular in "
           "it.")  # fmt: skip
    if not found:
        return f"{where}. {why}"
    shares = ", ".join(f"{value:.0%} of {name}" for name, value in found.items()
                       if name not in ("catalogue", "taken"))  # fmt: skip
    return (f"{where}: {found['catalogue']:.0%} of the catalogue, {found['taken']:.0%} of what was "
            f"taken; of the places in lists, {shares}. {why}")  # fmt: skip


def catalogue_words(report: Report) -> tuple[str, ...]:
    """Say how much of the catalogue is shown, how evenly, and how popular it is."""
    full = report["models"]["full"]["test"]
    lift, gini = full["popularity_lift_at_10"], full["gini_at_10"]
    notes = [
        f"Lists show {full['coverage_at_10']:.1%} of the catalogue in their first ten places; "
        f"Gini index {number(gini)} (0 = all items alike, 1 = one item has all places)."
    ]
    if lift is not None:
        more = f"{lift:.0%} more" if lift >= 0 else f"{-lift:.0%} less"
        notes.append(f"Listed items are {more} popular than what the same users had taken before.")
    return tuple(notes)
