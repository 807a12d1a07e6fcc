"""The gate: whether a challenger may become champion.

The champion is scored again, on the requests that the challenger was tested on, by the code that
evaluates. A challenger passes if it is clearly better (paired interval over users), or, as a
re-training on newer data, not worse by more than a margin; if no slice of requests is clearly worse
by more than its margin; and if the lists that it would serve are whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipelines.measure import outcome_of
from pipelines.measured import measured
from pipelines.model import Recommender, at_moment, load_model
from pipelines.prepared import Prepared
from pipelines.pyfunc import PyfuncRecommender
from pipelines.recommender import Lists, Snapshot, lists_of
from pipelines.report import model_metrics
from pipelines.run import Run, prepare_data
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textmodel import Show
from pipelines.windows import Fitted
from recsys.dataset import Items
from recsys.errors import ConfigError
from recsys.evaluation import history_slices, mean_over_requests, paired_interval
from recsys.schema import Table

MOST_CATEGORIES = 20  # slices by category: the largest
MOST_TIMES = 10  # as many resamples for many questions as for one


@dataclass(frozen=True)
class Line:
    """One thing that was looked at."""

    what: str
    passed: bool
    said: str

    def __str__(self) -> str:
        return f"{'ok' if self.passed else 'NO':3}{self.what}: {self.said}"


@dataclass(frozen=True)
class Scored:
    """What a model did on the test window's requests, in the order of their moments and users."""

    about: Table  # (n_requests,) columns of `pipelines.measured`
    user: np.ndarray  # (n_requests,) int64
    value: np.ndarray  # (n_requests,) float64 of the gate's metric


@dataclass(frozen=True)
class Sample:
    """The lists of some users, a row for each listed item."""

    user: np.ndarray  # (n,) int64
    item: np.ndarray  # (n,) int64
    score: np.ndarray  # (n,) float64
    probability: np.ndarray  # (n,) float64
    why_not: np.ndarray  # (n,) object: why the item must not be listed, "" if it may

    def shorter_than(self, k: int) -> int:
        """Count the lists with fewer than k items."""
        return int((np.unique(self.user, return_counts=True)[1] < k).sum())


def judge(
    config: RunConfig, challenger: tuple[str, Path], champion: tuple[str, Path], retrained: bool,
    show: Show,
) -> list[Line]:  # fmt: skip
    """Look at everything that decides; see `PromotionConfig` for the margins.

    Args:
        config: of the data that the challenger was trained on.
        challenger: what messages call it, and its folder.
        champion: the same of the model that lists are made by now.
        retrained: not to be worse by more than a margin is enough.
        show: progress.

    Raises:
        ConfigError: the data is not the challenger's, or a model does not fit it.
    """
    prepared = prepare_data(config, show)
    models = {name: load_model(folder) for name, folder in (challenger, champion)}
    new, old = models.values()
    here = prepared.manifest.fingerprint[:16]
    if new.card.data_fingerprint != here:
        raise ConfigError(
            f"{challenger[0]}: it was tested on the data {new.card.data_fingerprint}, the config "
            f"names the data {here}; promote it with its own config (config.toml in its report)"
        )
    start = prepared.windows.test
    lines = [Line("features", True, f"all {len(new.card.features)} are computed here")]
    if old.card.fitted_before > start:
        said = f"careful: {champion[0]} was fitted on events of these requests, and looks better"
        lines.append(Line("test window", True, said))
    scored, lists = list[Scored](), list[Sample]()
    for name, one in models.items():
        show("promote", len(scored), len(models), f"scores {name}")
        run, snapshot = _state(config, prepared, one, show)
        scored.append(_scored(run, one, snapshot))
        lists.append(_some_lists(run, one, snapshot))
    requests, users = len(scored[0].user), len(np.unique(scored[0].user))
    lines.append(Line("requests", True, f"{requests:,} of {users:,} users in the test window"))
    lines.append(compared(scored[0], scored[1], config, retrained))
    lines += sliced(scored[0], scored[1], config)
    lines += whole(lists[0], lists[1], config.serving.k)
    return [*lines, _answers(challenger[1], prepared)]


def compared(new: Scored, old: Scored, config: RunConfig, retrained: bool) -> Line:
    """Say whether the gate's metric is better, or not worse by more than the margin."""
    promotion, everyone = config.promotion, np.ones(len(new.user), bool)
    by, low, high = _difference(new, old, everyone, config)
    was, now = (float(mean_over_requests(one.value)) for one in (old, new))
    said = f"{now:.4f}, the champion {was:.4f}: {by:+.4f} [{low:+.4f}, {high:+.4f}]"
    if retrained:
        margin = promotion.margin * was
        return Line(promotion.metric, low > -margin,
                    f"{said}; a re-training may be {margin:.4f} worse at most")  # fmt: skip
    return Line(promotion.metric, low > 0, f"{said}; the interval must be above 0")


def sliced(new: Scored, old: Scored, config: RunConfig) -> Iterator[Line]:
    """Say of each slice with enough users whether it is clearly worse by more than the margin.

    With each slice that is looked at, chance has one more go: the intervals are so wide that one
    of twenty promotions, not of twenty slices, meets one that chance alone has put below 0.
    """
    asked = {name: rows for name, rows in slices(new.about).items()
             if len(np.unique(new.user[rows])) >= config.promotion.slice_users}  # fmt: skip
    for name, rows in asked.items():
        by, low, high = _difference(new, old, rows, config, len(asked))
        margin = config.promotion.slice_margin * float(mean_over_requests(old.value[rows]))
        is_worse, users = by < -margin and high < 0, len(np.unique(new.user[rows]))
        yield Line(f"slice {name}", not is_worse,
                   f"{by:+.4f} [{low:+.4f}, {high:+.4f}], {users:,} users; {margin:.4f} worse is "
                   "allowed")  # fmt: skip


def _difference(
    new: Scored, old: Scored, rows: np.ndarray, config: RunConfig, questions: int = 1
) -> tuple[float, float, float]:
    """Return how much better the new one is on some requests (n,) bool, with its interval.

    All intervals of so many questions hold with 95 % (Bonferroni); their ends are further out, so
    more resamples find them.
    """
    rng = np.random.default_rng(config.evaluation.seed)
    resamples = config.evaluation.resamples * min(questions, MOST_TIMES)
    values = paired_interval(new.value[rows], old.value[rows], new.user[rows], rng, resamples,
                             1 - 0.05 / questions)  # fmt: skip
    by, low, high = map(float, values)
    return by, low, high


def slices(about: Table) -> dict[str, np.ndarray]:
    """Cut requests by the user's history, what was taken, and the category: name -> (n,) bool."""
    columns = {name: np.asarray(about[name].to_numpy(zero_copy_only=False))
               for name in about.column_names}  # fmt: skip
    found = history_slices(columns["history_events"])
    for column in ("user_kind", "popularity", "category"):
        names, counts = np.unique(columns[column].astype(str), return_counts=True)
        largest = names[np.argsort(-counts, kind="stable")][:MOST_CATEGORIES]
        found |= {f"{column} {name}": columns[column].astype(str) == name for name in largest}
    return found | {"unseen items": columns["unseen_share"] > 0}


def whole(new: Sample, old: Sample, k: int) -> Iterator[Line]:
    """Say whether the lists of some users are full, on offer and of sound numbers."""
    short, before = new.shorter_than(k), old.shorter_than(k)
    users, n = len(np.unique(new.user)), len(new.item)
    said = f"{short:,} of {users:,} hold fewer than {k} items, {before:,} of the champion's"
    yield Line("full lists", short <= before, said)
    wrong = sorted(set(new.why_not[new.why_not != ""]))
    yield Line("items", not wrong,
               f"some of {n:,} listed items: {', '.join(wrong)}" if wrong else
               f"all {n:,} listed items are on offer, each once in a list")  # fmt: skip
    sound = bool((np.isfinite(new.score) & (new.probability >= 0) & (new.probability <= 1)).all())
    yield Line("numbers", sound,
               "all scores are finite, all probabilities within 0 and 1" if sound else
               "some scores are not finite, or probabilities not within 0 and 1")  # fmt: skip


def _state(
    config: RunConfig, prepared: Prepared, model: Recommender, show: Show
) -> tuple[Run, Snapshot]:
    """Roll a model's state to the start of the test window."""
    config = config.model_copy(update={"state": model.card.state})
    start, vectors = prepared.windows.test, config.run_dir / "embeddings"
    method, snapshot = at_moment(model, prepared, start, vectors, show)
    return Run(config, prepared, method, Stages(), show), snapshot


def _scored(run: Run, model: Recommender, snapshot: Snapshot) -> Scored:
    """Score a model on the test window's requests."""
    prepared = run.prepared
    fitted = Fitted(prepared.windows.test, snapshot.texts, snapshot.related)
    outcome = outcome_of(run, "test", fitted, {"full": model.scorer}, with_als=False)
    items = pq.read_table(prepared.folder / "items.parquet", columns=["item_id", "category"])
    past = prepared.taken_before(prepared.windows.test)
    part = measured("test", outcome, prepared, items, past, {})
    value = model_metrics(outcome, "full")[run.config.promotion.metric]
    return Scored(part.about, outcome.user[part.order], value[part.order])


def _some_lists(run: Run, model: Recommender, snapshot: Snapshot) -> Sample:
    """Make the lists of some users at the start of the test window."""
    moment, method, begun = run.prepared.windows.test, run.method, 0
    parts: list[tuple[np.ndarray, Lists]] = []
    for log in run.prepared.buckets():
        taken = (log.moment < moment) & (log.grade > 0)
        users = log.users[np.bincount(log.row[taken], minlength=len(log.users)) > 0]
        users = users[: run.config.promotion.list_users - begun]
        begun += len(users)
        for some, lists in lists_of(method, snapshot, log, users, moment, model.scorer,
                                    model.heads, run.config.serving.k):  # fmt: skip
            parts.append((some[lists.request], lists))
    user = np.concatenate([one for one, _ in parts])
    item, score, probability = (
        np.concatenate([getattr(lists, name) for _, lists in parts])
        for name in ("item", "score", "probability")
    )
    why_not = _why_not(method.items, user, item, moment)
    return Sample(user, item, score, probability, why_not)


def _why_not(items: Items, user: np.ndarray, item: np.ndarray, moment: int) -> np.ndarray:
    """(n,) object: why a listed item must not be in a list, "" if it may."""
    why = np.full(len(item), "", object)
    late = (items.available_from[item] > moment) | (items.available_until[item] <= moment)
    why[late] = "not on offer"
    _, first = np.unique(user * len(items) + item, return_index=True)
    twice = np.ones(len(item), bool)
    twice[first] = False
    why[twice] = "listed twice"
    return why


def _answers(folder: Path, prepared: Prepared) -> Line:
    """Ask the model as MLflow would."""
    some = prepared.user_ids()[:3]
    answer = PyfuncRecommender(folder).predict({"user_id": some}, {"k": 3})
    asked = set(some.tolist())
    return Line("pyfunc", set(answer["user_id"]) == asked, f"loads, and answers for {len(asked)} "
                "users")  # fmt: skip
