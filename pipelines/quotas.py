"""How many candidates each source should bring: chosen on the valid window from what each finds.

A source's quota buys its best items; what several sources find counts once. The best buy, in recall
for each place, is taken again and again. That is no proof of the best choice: what a source finds
only deep down, behind places that find nothing, may be missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from rich.table import Table

from pipelines.figures import draw_quotas
from pipelines.run import Run, method_of, prepare_data
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textmodel import Show, learn_texts, refit
from pipelines.windows import Step, walk
from recsys.candidates import SOURCES, CandidateConfig
from recsys.dataset import concat
from recsys.errors import ConfigError

DEEPEST = 250  # the last rank of a source that is looked at; ranks fit a byte
BUYS = (5, 10, 20, 40, 80)  # candidates added to one source at once
REQUESTS = 2_000  # of the valid window


@dataclass(frozen=True)
class Reach:
    """What each source finds for some requests, to `DEEPEST`; row = (request, candidate)."""

    rank: dict[str, np.ndarray]  # source -> (n_rows,) uint8 rank from 1, 0 = not found
    share: np.ndarray  # (n_rows,) float64 of all that is to be found; 0 where it was not taken
    requests: int

    def found(self, quotas: Mapping[str, int]) -> np.ndarray:
        """(n_rows,) bool: candidates under these quotas."""
        found = [self.within(name, 0, most) for name, most in quotas.items()]
        return np.asarray(np.any(found, axis=0))

    def recall(self, quotas: Mapping[str, int]) -> float:
        """Return the mean over requests of the share of what was taken that is a candidate."""
        return float(self.share[self.found(quotas)].sum())

    def candidates(self, quotas: Mapping[str, int]) -> float:
        """Return how many candidates a request has, on average."""
        return float(self.found(quotas).sum() / max(self.requests, 1))

    def taken(self) -> Reach:
        """Return the rows that were taken; enough for recall."""
        some = self.share > 0
        rank = {name: values[some] for name, values in self.rank.items()}
        return Reach(rank, self.share[some], self.requests)

    def within(self, name: str, above: int, most: int) -> np.ndarray:
        """(n_rows,) bool: what the source ranks after `above`, up to `most`."""
        return (self.rank[name] > above) & (self.rank[name] <= most)


def reach_of(run: Run) -> Reach:
    """Learn the text side as a training run does, and look at the valid window's requests.

    Raises:
        ConfigError: the valid window has no request.
    """
    log, windows = concat(run.prepared.logs()), run.prepared.windows
    items, method = run.method.items, run.method
    learned = learn_texts(items, log, windows, run.config, method.exclude_seen, run.show)
    learned = refit(learned, log.before(windows.valid), windows.unit, run.config, run.show)
    span = windows.span("valid")
    deep = dict.fromkeys(SOURCES, DEEPEST)  # also those that are off
    method = replace(method, candidates=method.candidates.model_copy(update=deep))
    run = replace(run, method=method)
    requests = run.requests("valid", REQUESTS, 13)
    count = sum(len(part) for part in requests)
    if not count:
        raise ConfigError("events: nobody took anything in the valid window; bring a longer log")
    advance = run.progress("look at the valid window", requests)
    ranks: dict[str, list[np.ndarray]] = {name: [] for name in SOURCES}
    shares = []
    fitted = run.fitted(learned, span[0])
    for part in walk(run.prepared, method, fitted, requests, span, run.config.state,
                     partial(_reached, n_items=len(items))):  # fmt: skip
        shares.append(part.share)
        for name in SOURCES:
            ranks[name].append(part.rank[name])
        advance(part.requests)
    found = {name: np.concatenate(part) for name, part in ranks.items()}
    return Reach(found, np.concatenate(shares) / count, count)


def _reached(step: Step, n_items: int) -> Reach:
    """Return the reach for one block; shares are of its own requests."""
    rows, sizes = step.block.candidates, np.diff(step.requests.indptr)
    taken = np.repeat(np.arange(len(sizes)), sizes) * n_items + step.requests.item
    share = np.isin(rows.request * n_items + rows.item, taken) / np.maximum(sizes, 1)[rows.request]
    rank = {name: np.nan_to_num(values).astype(np.uint8) for name, values in rows.rank.items()}
    return Reach(rank, share, len(sizes))


def choose_quotas(reach: Reach, budget: int) -> list[dict[str, int]]:
    """Buy candidates, the best buy first, until the quotas add up to `budget` or nothing is found.

    A buy is some more places of one source; its worth is the recall it adds for each place. Equal
    buys go to the source named first.

    Returns:
        The quotas after each buy, the last one last; all zero at first.
    """
    reach = reach.taken()
    quotas = dict.fromkeys(reach.rank, 0)
    path, open_ = [dict(quotas)], np.ones(len(reach.share), bool)
    while sum(quotas.values()) < budget:
        best, choice = 0.0, None
        for name, own in quotas.items():
            for places in BUYS:
                if own + places > DEEPEST or sum(quotas.values()) + places > budget:
                    continue
                new = open_ & reach.within(name, own, own + places)
                if (worth := reach.share[new].sum() / places) > best:
                    best, choice = worth, (name, places)
        if choice is None:
            break
        quotas[choice[0]] += choice[1]
        open_ &= ~reach.within(choice[0], 0, quotas[choice[0]])
        path.append(dict(quotas))
    return path


def tune_candidates(
    config: RunConfig, budget: int, show: Show
) -> tuple[Reach, list[dict[str, int]]]:
    """Return what each source finds on the valid window, and the path to the chosen quotas.

    Raises:
        ConfigError: no data is configured, or nothing that was taken is found by any source.
    """
    prepared = prepare_data(config, show)
    reach = reach_of(Run(config, prepared, method_of(config, prepared), Stages(), show))
    path = choose_quotas(reach, budget)
    if not any(path[-1].values()):
        raise ConfigError(
            "events: in the valid window no source finds anything that was taken, so there is "
            "nothing to choose quotas by; bring a longer log"
        )
    return reach, path


def quotas_said(config: RunConfig, reach: Reach, path: list[dict[str, int]]) -> list[Any]:
    """Draw the path in run_dir; return what the command prints."""
    now = config.candidates.quotas
    points = [(reach.candidates(some), reach.recall(some)) for some in (*path, now)]
    picture = config.run_dir / "candidates.png"
    draw_quotas(points[:-1], points[-1], picture)
    table = quotas_table(reach, now, path[-1])
    section = quotas_toml(path[-1], config.candidates)
    return [table, f"the curve: {picture}", "", section]


def quotas_table(reach: Reach, now: Mapping[str, int], chosen: Mapping[str, int]) -> Table:
    """Make a table of quotas now and chosen, and of what each source finds."""
    title = " ".join(
        f"{name}: recall {reach.recall(quotas):.4f} with {reach.candidates(quotas):.0f} candidates "
        f"a request;" for name, quotas in (("now", now), ("chosen", chosen))
    ).rstrip(";")  # fmt: skip
    table = Table("source", "now", "chosen", f"finds alone in {DEEPEST}", "only it finds, chosen",
                  title=f"{reach.requests:,} requests of the valid window, by which it was chosen; "
                        f"the first {DEEPEST} of a source\n{title}")  # fmt: skip
    whole = reach.recall(chosen)
    for name in reach.rank:
        alone = reach.recall({name: DEEPEST})
        only = whole - reach.recall(dict(chosen) | {name: 0})
        table.add_row(name, str(now[name]), str(chosen[name]), f"{alone:.4f}", f"{only:.4f}")
    return table


def quotas_toml(quotas: Mapping[str, int], config: CandidateConfig) -> str:
    """Write quotas as the section of a config file, with what it holds besides."""
    values = config.model_dump() | dict(quotas)
    return "\n".join(["[candidates]", *(f"{name} = {value}" for name, value in values.items())])
