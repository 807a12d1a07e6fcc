"""The rows by which settings of the ranker are chosen: made once, the valid window cut by user.

One half of its users says when to stop adding trees, as all of them do in training; the other half,
held, measures as evaluation does: all candidates ranked, NDCG over all that was taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np

from features.catalogue import active_features
from pipelines.evaluate import look_up
from pipelines.recommender import Method, best_rows, table_of
from pipelines.rows import ranker_rows, samplers
from pipelines.run import Run, check_ranker
from pipelines.textmodel import Learned, learn_texts, refit
from pipelines.train import window_rows
from pipelines.windows import Fitted, Step, walk
from recsys.dataset import concat
from recsys.errors import ConfigError
from recsys.metrics import request_metrics
from recsys.rows import Rows
from recsys.split import Requests


@dataclass(frozen=True)
class Held:
    """Requests that rankers are measured on: all their candidates, and what was taken."""

    table: np.ndarray  # (n_rows, n_features) float32
    request: np.ndarray  # (n_rows,) int64 ascending
    item: np.ndarray  # (n_rows,) int64
    user: np.ndarray  # (n_requests,) int64
    taken: np.ndarray  # (n_taken,) int64 request of each taken item, ascending
    grade: np.ndarray  # (n_taken,) int64
    row: np.ndarray  # (n_taken,) int64 its row among the candidates, -1 where no source found it

    def ndcg(self, score: np.ndarray) -> np.ndarray:
        """(n_requests,) float64 NDCG@10 of the rows ranked by score; what is no row is missed."""
        order, place = best_rows(self.request, self.item, score, 10)
        rank = np.full(len(self.request) + 1, np.inf)  # the last one is for row -1
        rank[order] = place
        metrics = request_metrics(self.taken, self.grade, rank[self.row], len(self.user), (10,))
        return metrics["ndcg_at_10"]


@dataclass(frozen=True)
class Halves:
    """What every trial learns from, stops by and is measured on."""

    features: tuple[str, ...]
    train: Rows  # of the ranker window
    stop: Rows
    held: Held

    def fingerprint(self) -> str:
        """Equal rows, equal fingerprint."""
        digest = hashlib.sha256(" ".join(self.features).encode())
        for part in (self.train, self.stop, self.held):
            for array in vars(part).values():
                if array is not None:
                    digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def texts_of(run: Run) -> tuple[Learned, Learned]:
    """Learn the text side as training does: as it is before the ranker window and before valid."""
    config, windows, method = run.config, run.prepared.windows, run.method
    log = concat(run.prepared.logs())
    first = learn_texts(method.items, log, windows, config, method.exclude_seen, run.show)
    if config.evaluation.refit_encoder == "never":
        return first, first
    return first, refit(first, log.before(windows.valid), windows.unit, config, run.show)


def rows_in_halves(run: Run, texts: tuple[Learned, Learned]) -> Halves:
    """Make the rows of the ranker with all features.

    Args:
        run: whose windows.
        texts: of `texts_of`.

    Raises:
        ConfigError: the valid window has too few users, or none of the held half took a candidate.
    """
    config, windows, method = run.config, run.prepared.windows, run.method
    span, (first, second) = windows.span("valid"), texts
    names = {"full": active_features(
        windows.dated, config.features.off, config.features.text, config.candidates.switched_on,
        run.prepared.manifest.has_sessions, config.features.on,
    )}  # fmt: skip
    check_ranker(names["full"], run.prepared.manifest.columns_used["events"], config.ranker)
    train = window_rows(run, "ranker", first, names)["full"]
    fitted = run.fitted(second, windows.valid)
    stopping, held = (
        cut_by_user(run.requests("valid", config.evaluation.max_requests, 12, shown),
                    np.random.default_rng([config.seed, 14]))[half]
        for half, shown in enumerate((config.ranker.impressions > 0, False))
    )  # fmt: skip
    stop = ranker_rows(
        run.prepared, method, fitted, stopping, span, config.state, names,
        samplers(names, config.ranker, (config.seed, 24)),
        run.progress("rows, half of the valid window", stopping),
    )["full"]  # fmt: skip
    return Halves(names["full"], train, stop, held_requests(run, fitted, held, names["full"]))


def cut_by_user(
    requests: Sequence[Requests], rng: np.random.Generator
) -> tuple[list[Requests], list[Requests]]:
    """Cut requests in two, each with half of the users and all requests of theirs.

    Raises:
        ConfigError: fewer than two users.
    """
    users = np.unique(np.concatenate([part.user for part in requests]))
    if len(users) < 2:
        raise ConfigError(
            f"events: {len(users)} users took something in the valid window, which is cut in two "
            "halves of users; bring a longer log"
        )
    one = rng.permutation(users)[: len(users) // 2]
    first, second = (
        [part.take(np.flatnonzero(np.isin(part.user, one, invert=other))) for part in requests]
        for other in (False, True)
    )
    return first, second


def held_requests(
    run: Run, fitted: Fitted, requests: list[Requests], features: tuple[str, ...]
) -> Held:
    """Describe every candidate of requests of the valid window.

    Raises:
        ConfigError: no candidate was taken.
    """
    span = run.prepared.windows.span("valid")
    advance = run.progress("candidates, the other half", requests)
    parts: list[Held] = []
    for part in walk(run.prepared, run.method, fitted, requests, span, run.config.state,
                     partial(_held, method=run.method, features=features)):  # fmt: skip
        parts.append(part)
        advance(len(part.user))
    held = _join(parts)
    if (held.row < 0).all():
        raise ConfigError(
            "events: in half of the valid window no candidate was ever taken, so settings cannot "
            "be measured; bring a longer log, or raise the quotas under [candidates]"
        )
    return held


def _held(step: Step, method: Method, features: tuple[str, ...]) -> Held:
    """Describe one block; requests and rows are counted from its own first."""
    some, rows = step.requests, step.block.candidates
    taken, at = np.repeat(np.arange(len(some)), np.diff(some.indptr)), np.arange(len(rows.item))
    row = look_up(rows, at, at.astype(float), taken, some.item.astype(np.int64), len(method.items))
    table = table_of(method, step.snapshot, step.block, features)
    return Held(table, rows.request, rows.item, some.user, taken, some.grade.astype(np.int64),
                np.where(np.isfinite(row), row, -1).astype(np.int64))  # fmt: skip


def _join(parts: list[Held]) -> Held:
    """Put blocks behind each other."""
    first = np.cumsum([0, *(len(part.user) for part in parts)])[:-1]  # request of each block
    row = np.cumsum([0, *(len(part.item) for part in parts)])[:-1]
    moved = [
        replace(part, request=part.request + request, taken=part.taken + request,
                row=np.where(part.row < 0, -1, part.row + rows))
        for part, request, rows in zip(parts, first, row, strict=True)
    ]  # fmt: skip
    return Held(*(np.concatenate([getattr(part, field.name) for part in moved])
                  for field in fields(Held)))  # fmt: skip
