"""A comparison of runs in words: for the terminal, and as a page for who was not there."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.compare import Comparison, Versus
from pipelines.compareverdict import (
    METRICS,
    about_run,
    band,
    beside,
    bounds,
    cells,
    date,
    differs_in,
    few_lines,
    interval,
    marked,
    metric_name,
    p_said,
    sentence,
    short,
    slice_name,
    slice_that_matters,
    user_title,
    verdicts,
)
from pipelines.page import Grid, Page, Picture, Section, in_terminal, write_page
from recsys.comparison import FEWEST_USERS, LEVEL, PERMUTATIONS
from recsys.dataset import DAY

COSTS = {"training_s": "training, minutes", "requests_per_s": "requests measured a second",
         "peak_memory_bytes": "peak memory, GiB", "model_bytes": "model, MB"}  # fmt: skip
PER = {"training_s": 60.0, "requests_per_s": 1.0, "peak_memory_bytes": 2.0**30, "model_bytes": 1e6}
MOST_DETAILED = 3  # other runs that a page looks at closely, the best first


def said(found: Comparison) -> list[Any]:
    """Return what the terminal shows: lines and tables."""
    sections = [_verdicts(found), _what(found), *_details(found, found.best, about_run(found)),
                _users(found, found.best, in_page=False), _costs(found)]  # fmt: skip
    return in_terminal([section for section in sections if section is not None])


def write_comparison(found: Comparison, file: Path, made: datetime) -> None:
    """Write the comparison as one page of HTML with figures."""
    from pipelines import comparefigures as figures

    overview = _verdicts(found)
    if len(found.others) > 1:
        lines = [figures.Line(one.other.run.name, *bounds(one.total), one.verdict != "noise")
                 for one in found.others]  # fmt: skip
        spread = max((one.seed_spread for one in found.others), default=float("nan"))
        caption = (f"{metric_name(found)} of each run minus that of {found.base.run.name}, with "
                   "95 % intervals over users; grey: may be chance" + band(spread))  # fmt: skip
        svg = figures.draw_forest(lines, "runs", f"difference in {metric_name(found)}", spread)
        overview = replace(overview, pictures=(Picture(svg, caption, narrow=True),))
    sections = [overview, _what(found)]
    ordered = sorted(found.others, key=lambda one: -one.total.difference)[:MOST_DETAILED]
    for at, one in enumerate(ordered):
        sections += _drawn(found, one, _details(found, one, about_run(found, one)), str(at))
        sections += [part] if (part := _users(found, one, in_page=True)) else []
    sections += [_costs(found), _method(found)]
    first, best = found.others[0].total, found.best
    facts = (
        (f"{metric_name(found)}, {short(found.base)}", f"{first.base:.4f}"),
        (f"{metric_name(found)}, {short(best.other)}", f"{best.total.other:.4f}"),
        ("difference", f"{best.total.difference:+.4f}"),
        ("p, corrected", p_said(best.total.corrected)),
        ("requests", f"{first.requests:,}"), ("users", f"{first.users:,}"),
    )  # fmt: skip
    several = f" and {len(found.others) - 1} more" if len(found.others) > 1 else ""
    title = f"{best.other.run.name} against {found.base.run.name}{several}"
    foot = f"recsys compare, {made:%Y-%m-%d %H:%M} UTC. All times are UTC."
    write_page(Page(title, sentence(found, best), facts, tuple(sections), foot), file)


def _verdicts(found: Comparison) -> Section:
    """Say who wins, and what that means."""
    notes = verdicts(found)
    hits = [one for some in found.others for one in some.differences
            if one.metric == "hr_at_10" and not one.value]  # fmt: skip
    best = found.others.index(found.best)
    if hits and found.others[best].verdict in ("better", "worse"):
        many = 1000 * hits[best].difference
        more = "more" if many > 0 else "fewer"
        notes.append(
            f"In words: of 1,000 requests, {abs(many):.0f} {more} have something that the "
            f"user then took among the first ten of {found.best.other.run.name}."
        )
    if np.isnan(found.best.seed_spread):
        notes.append(
            "No run with another seed is in the store, so how far a seed alone moves "
            "the numbers is unknown: train the same config with --set seed=1, 2, ..."
        )
    head = ("run", metric_name(found), f"minus {short(found.base)}", "95 % interval",
            "p, corrected", "seed spread", "verdict")  # fmt: skip
    start = f"{found.others[0].total.base:.4f}"
    rows = [(found.base.run.name, start, "", "", "", "", "base line")]
    rows += [(one.other.run.name, f"{one.total.other:.4f}", f"{one.total.difference:+.4f}",
              f"{one.total.low:+.4f} to {one.total.high:+.4f}", p_said(one.total.corrected),
              "unknown" if np.isnan(one.seed_spread) else
              f"{one.seed_spread:.4f} over {one.seed_runs} runs", one.verdict)
             for one in found.others]  # fmt: skip
    return Section("Verdict", tuple(notes), tuple(found.left_out), grids=(Grid(head, tuple(rows)),))


def _what(found: Comparison) -> Section:
    """Say what was compared, on what."""
    about = found.base.results.manifest
    window = about.windows[found.window]
    ends = f"positions {window.start} to {window.end}"
    if about.protocol == "time":
        ends = " to ".join(str(np.datetime64(at // DAY, "D")) for at in (window.start, window.end))
    notes = (
        f"Model '{found.model}' of each run, on the same {window.requests:,} requests of "
        f"{window.users:,} users in the {found.window} window ({ends}); {window.relevant:,} items "
        "were taken in them. The whole catalogue is ranked, nobody is left out.",
        f"Protocol {about.protocol}; data {about.data_fingerprint[:12]}, requests "
        f"{window.fingerprint[:12]}.",
    )
    head = ("run", "in MLflow", "started", "seed", "code", "differs from the base line in")
    sides = [(found.base, "base line"), *((one.other, differs_in(one)) for one in found.others)]
    rows = tuple((side.run.name, side.run.title, date(side.run.started_ms),
                  side.run.params.get("seed", ""), side.run.tags.get("git_commit", "")[:8], words)
                 for side, words in sides)  # fmt: skip
    grids = [Grid(head, rows, "runs")]
    if len(found.others) == 1 and found.others[0].settings:
        settings = tuple(found.others[0].settings)
        names = ("setting", short(found.base), short(found.others[0].other))
        grids.append(Grid(names, settings, "settings that differ"))
    return Section("What was compared", notes, grids=tuple(grids))


def _details(found: Comparison, one: Versus, about: str) -> list[Section]:
    """Say for whom it is better or worse, by which metric, and how lists differ."""
    return [_slices(found, one, about), _metrics(one, about), *_lists(found, one, about)]


def _slices(found: Comparison, one: Versus, about: str) -> Section:
    slices = [some for some in one.differences if some.value]
    told = sorted((some for some in slices if some.is_told), key=lambda some: -some.difference)
    wins, losses = ([some for some in told if (some.difference > 0) == up] for up in (True, False))
    notes = []
    most = slice_that_matters(one)
    if most is not None:
        sure = "" if most.is_told else " (chance alone may make it)"
        notes.append(f"It matters most for {slice_name(most)}: {interval(most)} in "
                     f"{most.requests:,} requests{sure}.")  # fmt: skip
    for verb, some in (("better", wins), ("worse", losses[::-1])):
        where = "; ".join(f"{slice_name(each)} ({each.difference:+.4f})" for each in some)
        notes.append(f"{verb.capitalize()} beyond chance for: {where}." if some else
                     f"{verb.capitalize()} beyond chance: nowhere.")  # fmt: skip
    small = f"; {found.too_small} smaller ones were left out" if found.too_small else ""
    notes.append(f"A slice has at least {FEWEST_USERS} users{small}.")
    head = ("slice", "requests", "users", short(found.base), "here", "difference",
            "95 % interval", "p, corrected")  # fmt: skip
    rows = tuple((slice_name(some), f"{some.requests:,}", f"{some.users:,}", *cells(some))
                 for some in slices)  # fmt: skip
    return Section(f"For whom{about}", tuple(notes), grids=(Grid(head, rows),) if rows else ())


def _metrics(one: Versus, about: str) -> Section:
    head = ("metric, all requests", "base line", "here", "difference", "95 % interval",
            "p, corrected")  # fmt: skip
    rows = tuple((METRICS.get(some.metric, some.metric), *cells(some))
                 for some in one.differences if not some.value)  # fmt: skip
    return Section(f"Every metric{about}", grids=(Grid(head, rows),))


def _lists(found: Comparison, one: Versus, about: str) -> list[Section]:
    how = one.change
    if how is None:
        return []
    shift = how.popularity_other - how.popularity_base
    direction = "more popular" if shift > 0 else "less popular"
    notes = (
        f"{100 * how.churn:.1f} % of a list's items are replaced; {100 * how.same_first:.1f} % of "
        f"the lists begin with the same item, {100 * how.same_list:.1f} % are the same altogether.",
        f"Rank-biased overlap {how.rank_biased_overlap:.3f} (1 = the same lists, 0 = nothing in "
        "common; the top counts most).",
        f"All lists together name {how.distinct_other:,} different items, those of the base line "
        f"{how.distinct_base:,}. What is listed is {direction} than before: had "
        f"{2 ** abs(shift):.2f} times as many past events, in the geometric mean."
        if abs(shift) > 0.005 else
        f"All lists together name {how.distinct_other:,} different items, those of the base line "
        f"{how.distinct_base:,}; what is listed is as popular as before.",
    )  # fmt: skip
    return [Section(f"How the lists differ{about}", notes)]


def _users(found: Comparison, one: Versus, in_page: bool) -> Section | None:
    """Show the users whose lists changed most."""
    if not one.users:
        return None
    about = about_run(found, one if in_page else None)
    notes = ("One request of each user; * = the user then took it.",)
    title = f"Users whose lists changed most{about}"
    if in_page:
        grids = tuple(Grid(("rank", short(found.base), short(one.other)), beside(user, 10),
                           user_title(found, user)) for user in one.users)  # fmt: skip
        return Section(title, notes, grids=grids)
    rows = tuple((f"{user.user_id}\n{user.history_events:,} events before", few_lines(user.taken),
                  few_lines(marked(user.base)), few_lines(marked(user.other)))
                 for user in one.users)  # fmt: skip
    head = ("user", "took", short(found.base), short(one.other))
    return Section(title, notes, grids=(Grid(head, rows),))


def _costs(found: Comparison) -> Section:
    """Say what the runs cost, side by side."""
    sides = [found.base, *(one.other for one in found.others)]
    known = [name for name in COSTS if any(name in side.cost for side in sides)]
    rows = tuple(
        (side.run.name, *(f"{side.cost[name] / PER[name]:,.2f}" if name in side.cost else ""
                          for name in known))
        for side in sides
    )  # fmt: skip
    note = "As each run was made: other load on the machine, or another machine, shows here."
    return Section("What it costs", (note,),
                   grids=(Grid(("run", *(COSTS[name] for name in known)), rows),))  # fmt: skip


def _method(found: Comparison) -> Section:
    notes = (
        f"p: a permutation test. If it made no difference which run served a user, swapping the "
        f"two for any user would change nothing; the difference found is set among those of "
        f"{PERMUTATIONS:,} random swaps of whole users.",
        f"Corrected: {found.questions} differences were asked about at once (metrics, slices, "
        f"runs), so some would look large by chance. Holm's correction keeps the chance of any "
        f"false alarm among them at {100 * LEVEL:.0f} %, however they depend on each other.",
        "Interval: 95 %, paired bootstrap over users, not corrected.",
        "Seed spread: 95 of 100 pairs of runs that differ in the seed alone lie closer together "
        "than this (Student's t times the pooled standard deviation of such runs in the store). A "
        "difference inside it is called noise, whatever its p.",
    )
    return Section("How it was tested", notes)


def _drawn(found: Comparison, one: Versus, sections: list[Section], key: str) -> list[Section]:
    """Add figures to the sections of one run."""
    from pipelines import comparefigures as figures

    slices = [some for some in one.differences if some.value]
    lines = [figures.Line("all requests", *bounds(one.total), one.total.is_told)]
    lines += [figures.Line(slice_name(some), *bounds(some), some.is_told) for some in slices]
    caption = (f"{metric_name(found)} of {one.other.run.name} minus {found.base.run.name}, with "
               "95 % intervals over users. Green: better, red: worse, grey: may be chance"
               + band(one.seed_spread))  # fmt: skip
    svg = figures.draw_forest(lines, f"slices{key}", f"difference in {metric_name(found)}",
                             one.seed_spread)  # fmt: skip
    gains = one.per_user
    better, worse, same = ((gains > 0).sum(), (gains < 0).sum(), (gains == 0).sum())
    users = figures.draw_differences(
        gains, f"users{key}", f"mean difference in {metric_name(found)}"
    )
    told = (f"{better:,} users are served better, {worse:,} worse; the {same:,} for whom nothing "
            "changes are not drawn.")  # fmt: skip
    first, second, *rest = sections
    return [replace(first, pictures=(Picture(svg, caption, narrow=True),)),
            replace(second, pictures=(Picture(users, told, narrow=True),)), *rest]  # fmt: skip
