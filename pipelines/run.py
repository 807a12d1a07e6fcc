"""What every step of a run shares: config, data, method, progress, and the parts fitted so far."""

from __future__ import annotations

import difflib
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipelines.fetching import fetched
from pipelines.prepare import prepare, remove_leftovers
from pipelines.prepared import Prepared
from pipelines.recommender import Method
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textindex import check_texts, indexed
from pipelines.textmodel import Learned, Show
from pipelines.windows import Fitted, sample_requests, window_requests
from recsys.candidates import TEXT_SOURCES
from recsys.cascade import FirstPass
from recsys.errors import ConfigError
from recsys.interest import TextModel
from recsys.ranker import Ranker, RankerConfig, foreign_ranker
from recsys.related import related_items
from recsys.split import Requests


@dataclass(frozen=True)
class Run:
    """What every step of a run shares."""

    config: RunConfig
    prepared: Prepared
    method: Method
    stages: Stages
    show: Show
    known: dict[int, Fitted] = field(default_factory=dict)
    indexed: dict[int, tuple[Learned, TextModel]] = field(default_factory=dict)  # the last two
    curves: dict[str, list[float]] = field(default_factory=dict)  # ranker -> valid NDCG@10 a tree

    def fitted(self, learned: Learned, before: int) -> Fitted:
        """Fit what is fitted once a window, on events strictly before it; reuse what is known."""
        if before not in self.known:
            logs, n_items = self.prepared.buckets(), len(self.method.items)
            with_als = "als" in self.method.candidates.switched_on
            related = related_items(logs, before, n_items, self.config.state, with_als)
            self.known.clear()  # windows come one after the other
            self.known[before] = Fitted(before, self.texts_of(learned, before), related)
        return replace(self.known[before], texts=self.texts_of(learned, before))

    def texts_of(self, learned: Learned, before: int) -> TextModel:
        """Return the text model, with its index where the catalogue needs one: built once."""
        if not self.method.is_wide:
            return learned.text_model()
        if id(learned) not in self.indexed:
            texts = learned.text_model()
            for _, other in self.indexed.values():
                if other.frozen is texts.frozen:
                    texts = replace(texts, frozen_index=other.frozen_index)
            while len(self.indexed) > 1:
                del self.indexed[next(iter(self.indexed))]
            candidates = self.method.candidates
            texts = indexed(texts, candidates, self.prepared, before, self.show)
            self.indexed[id(learned)] = learned, texts  # held, so that its id stays its own
        return self.indexed[id(learned)][1]

    def requests(self, window: str, most: int, stream: int, shown: bool = False) -> list[Requests]:
        """Draw requests of a window; a stream of its own for each use."""
        rng = np.random.default_rng([self.config.seed, stream])
        return sample_requests(window_requests(self.prepared, window, shown), most, rng)

    def measured_on(self, window: str) -> list[Requests]:
        """Draw the requests of a window that models are measured on: the same for any `seed`."""
        evaluation = self.config.evaluation
        rng = np.random.default_rng([evaluation.seed, 12])
        return sample_requests(window_requests(self.prepared, window), evaluation.max_requests, rng)

    def progress(self, task: str, requests: list[Requests]) -> Callable[[int], None]:
        """Return a callback that counts requests."""
        done, total = 0, sum(len(part) for part in requests)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.show(task, done, total, "requests")

        return advance


def prepare_data(config: RunConfig, show: Show) -> Prepared:
    """Prepare the configured data, or reuse what is prepared already; the run folder is held.

    Raises:
        ConfigError: no data is configured.
        RemoteError: the data lies elsewhere and cannot be fetched.
        SchemaError: the data has faults; all of them are named.
    """
    if config.data.events is None or config.data.items is None:
        raise ConfigError(
            "data.events and data.items must name your tables; put them into the config file or "
            "pass --set data.events=PATH --set data.items=PATH"
        )
    remove_leftovers(config.run_dir / "prepared")
    data = fetched(config.data, config.run_dir / "fetched", show)
    prepared = prepare(
        data.events, data.items, config.run_dir / "prepared", data,
        config.split.protocol, data.users, config.split.share,
        lambda note: show("prepare", 0, 0, note), now=time.time_ns() // 1000,
    )  # fmt: skip
    for warning in prepared.manifest.warnings:
        show("prepare", 0, 0, f"careful: {warning}")
    return prepared


def method_of(config: RunConfig, prepared: Prepared) -> Method:
    """Settle what the config leaves open: whether seen items are listed again.

    Raises:
        ConfigError: the catalogue needs an index that cannot be built.
    """
    seen = config.split.seen
    if seen == "auto":
        repeats = prepared.manifest.repeat_share >= config.split.repeat_share
        seen = "list" if repeats else "exclude"
    # the first trees of a model trained elsewhere may not be its best
    first_pass = FirstPass(trees=1) if config.ranker.model else config.first_pass
    items, dated, candidates = prepared.items(), prepared.windows.dated, config.candidates
    if not config.features.text:
        candidates = candidates.model_copy(update=dict.fromkeys(TEXT_SOURCES, 0))
    check_texts(items, candidates)
    return Method(items, candidates, dated, seen == "exclude", first_pass)


def check_ranker(features: Collection[str], columns: Collection[str], config: RankerConfig) -> None:
    """Refuse settings that name what is not there.

    Args:
        features: that the ranker sees.
        columns: that the events have.
        config: settings.

    Raises:
        ConfigError: `monotone` names another feature, or `weight_by` another column.
    """
    for name in config.monotone:
        if name not in features:
            near = difflib.get_close_matches(name, features, 1)
            hint = f"did you mean {near[0]!r}?" if near else "docs/features.md lists them all"
            raise ConfigError(
                f"ranker.monotone: no feature that the ranker sees is called {name!r} (those of "
                f"features.off are off, and without dates those that need days); {hint}"
            )
    if config.weight_by != "none" and config.weight_by not in columns:
        raise ConfigError(
            f"ranker.weight_by = {config.weight_by!r}, but the events have no such column; name "
            f"yours with data.columns.events.{config.weight_by} = '...', or weigh by 'none'"
        )


def ranker_from_elsewhere(
    config: RunConfig, features: tuple[str, ...], show: Show
) -> dict[str, Ranker]:
    """Return the ranker that was trained elsewhere as `full`; nothing where none is configured.

    Raises:
        ConfigError: the file is not there, or holds no model that can rank here.
    """
    if not (path := config.ranker.model):
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(
            f"ranker.model = {path}: cannot be read ({error.strerror}); check the path"
        ) from error
    ranker = foreign_ranker(text, features, f"ranker.model = {path}")
    said = "careful: whether it has seen the windows that it is measured on cannot be told"
    show("ranker.model", 1, 1, said)
    return {"full": ranker}


def git_commit() -> str:
    """Return the commit of the code, "unknown" outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
