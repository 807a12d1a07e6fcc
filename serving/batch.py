"""The batch job: a registered model and today's events become one sealed release.

Users go through by bucket, in blocks; each bucket's lists are one Parquet part, written whole. A
job that was killed goes on with the same release: finished parts stay, the rest is made. The
manifest comes last, so a release is either complete or no release.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipelines import tracking
from pipelines.config import fingerprint
from pipelines.model import at_moment, load_model
from pipelines.moments import read_moment
from pipelines.recommender import Lists, Method, Snapshot, lists_of, most_popular
from pipelines.run import git_commit, prepare_data
from pipelines.settings import RunConfig
from pipelines.textmodel import Show
from recsys.calibration import Heads
from recsys.dataset import Log
from recsys.ranker import Scorer
from serving.coverage import catalogue_of, reach_of
from serving.manifest import Model
from serving.release import (
    is_sealed,
    new_release_id,
    part_path,
    seal,
    write_fallback,
    write_part,
    write_whole,
)

PLAN = "plan.json"


class Plan(BaseModel):
    """What a release is made from: the same plan goes on with the same release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    created_at: str
    as_of: str
    model_uri: str
    data_fingerprint: str
    config_fingerprint: str
    code_commit: str
    k: int


def recommend(config: RunConfig, model_uri: str, as_of: str | None, show: Show) -> Path:
    """Make lists for all users with a history before `as_of`, plus the fallback list.

    Args:
        config: data, cache and release folders.
        model_uri: models:/NAME@ALIAS or models:/NAME/VERSION.
        as_of: ISO moment (UTC if it names no zone); None = just after the last day with events.
        show: progress.

    Returns:
        The sealed release folder.

    Raises:
        ConfigError: no such model, a moment that cannot be read, or data that does not fit.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    registered, model_folder = tracking.find_model(config, model_uri)
    prepared = prepare_data(config, show)
    moment, as_of_text = read_moment(as_of, prepared, now)
    recommender = load_model(model_folder)
    plan = Plan(
        created_at=now, as_of=as_of_text,
        model_uri=registered.uri, data_fingerprint=prepared.manifest.fingerprint,
        config_fingerprint=fingerprint(config.portable()), code_commit=git_commit(),
        k=config.serving.k,
    )  # fmt: skip
    folder, plan = open_folder(config.serving.releases, plan)
    method, snapshot = at_moment(recommender, prepared, moment, config.run_dir / "embeddings",
                                  show)  # fmt: skip
    write_fallback(folder, fallback_table(method, snapshot, moment, plan.k))
    user_ids, done = prepared.user_ids(), 0
    for bucket in range(prepared.n_buckets):
        log = prepared.bucket(bucket)
        if not part_path(folder, bucket).exists():
            table = bucket_table(
                method, snapshot, recommender.scorer, recommender.heads, log, moment, plan.k,
                user_ids, _showing(show, done, len(user_ids)),
            )  # fmt: skip
            write_part(folder, bucket, table)
        done += len(log.users)
        show("make lists", done, len(user_ids), "users")
    model = Model(name=registered.name, version=registered.version, uri=registered.uri,
                  run_id=registered.run_id)  # fmt: skip
    seal(
        folder, created_at=plan.created_at, as_of=plan.as_of, model=model,
        data_fingerprint=plan.data_fingerprint, config_fingerprint=plan.config_fingerprint,
        code_commit=plan.code_commit, k=plan.k, metrics=recommender.card.metrics,
        catalogue=catalogue_of(prepared, moment), reach=reach_of(prepared, folder, moment),
    )  # fmt: skip
    return folder


def open_folder(releases: Path, plan: Plan) -> tuple[Path, Plan]:
    """Return the folder to write into: an unfinished one with the same plan, or a new one."""
    same = {"created_at", "as_of"} if plan.as_of == plan.created_at else {"created_at"}
    for found in sorted(releases.glob(f"*/{PLAN}"), reverse=True):
        earlier = Plan.model_validate_json(found.read_text())
        if is_sealed(found.parent):
            continue
        if earlier.model_dump(exclude=same) == plan.model_dump(exclude=same):
            return found.parent, earlier
    folder = releases / new_release_id(plan.as_of, plan.created_at)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plan.model_dump(), indent=2) + "\n"
    write_whole(folder / PLAN, lambda path: path.write_text(text))
    return folder, plan


def bucket_table(
    method: Method, snapshot: Snapshot, ranker: Scorer, heads: Heads, log: Log, moment: int,
    k: int, user_ids: np.ndarray, on_block: Callable[[int], None] = lambda done: None,
) -> pa.Table:  # fmt: skip
    """Make the lists of one bucket's users, in blocks."""
    past = (log.moment < moment) & (log.grade > 0)
    some = np.bincount(log.row[past], minlength=len(log.users)) > 0
    users, parts, done = log.users[some], [], 0
    for asked, lists in lists_of(method, snapshot, log, users, moment, ranker, heads, k):
        parts.append(lists_table(lists, user_ids[asked], method))
        done += len(asked)
        on_block(done)
    if not parts:
        return lists_table(_no_lists(), user_ids[:0], method)
    return pa.concat_tables(parts)


def lists_table(lists: Lists, user_ids: np.ndarray, method: Method) -> pa.Table:
    """Return lists as the release's table, `serving.lists.LIST_COLUMNS`."""
    return pa.table({
        "user_id": _ids(user_ids[lists.request]),
        "rank": pa.array(lists.rank, pa.int16()),
        "item_id": _ids(method.items.ids[lists.item]),
        "score": pa.array(lists.score, pa.float32()),
        "probability": pa.array(lists.probability, pa.float32()),
        "source": pa.array(lists.source, pa.string()),
        "reason": pa.array(lists.reason, pa.string()),
        "drivers": pa.array(lists.drivers, pa.string()),
    })  # fmt: skip


def fallback_table(method: Method, snapshot: Snapshot, moment: int, k: int) -> pa.Table:
    """Return the list for everybody unknown: what is popular now and on offer."""
    items, best = method.items, most_popular(method, snapshot, moment, k)
    return pa.table({
        "rank": pa.array(np.arange(1, len(best) + 1), pa.int16()),
        "item_id": _ids(items.ids[best]),
        "score": pa.array(snapshot.state.popularity[best], pa.float32()),
        "probability": pa.nulls(len(best), pa.float32()),
        "source": pa.array(["popularity"] * len(best), pa.string()),
        "reason": pa.array(["popular now"] * len(best), pa.string()),
        "drivers": pa.array([""] * len(best), pa.string()),
    })  # fmt: skip


def _showing(show: Show, done: int, total: int) -> Callable[[int], None]:
    """Show progress from `done` users on."""
    return lambda count: show("make lists", done + count, total, "users")


def _ids(values: np.ndarray) -> pa.Array[Any]:
    """Keep ids as they are: integers or strings."""
    return pa.array(values, pa.string() if values.dtype == object else pa.int64())


def _no_lists() -> Lists:
    """Lists of nobody."""
    none, numbers, text = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, object)
    return Lists(none, none, none, numbers, numbers, text, text, text)
