"""Train on from a registered model: what it learned stays, new events are added, old ones replayed.

The aligned head is solved anew on all events, so for it everything is replayed. The trained head,
the user pooling and the softmax scale go on from the model's, on the events since its fitting ended
and on as many old ones by `training.replay`, so that what was learned from those is not lost. The
stopping window keeps the best of the frozen encoder, the model as it was and what came of it.

What the model was fitted on must end before the stopping window begins; otherwise the comparison
would be on events that the model has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from pipelines import tracking
from pipelines.model import load_model
from pipelines.settings import RunConfig
from pipelines.stopping import interest_ndcg, some_requests, stopping_moment
from pipelines.textmodel import (
    Learned,
    Show,
    by_titles,
    distinct_texts,
    encode,
    name_steps,
    refit,
    say_kept,
    titles_of,
    told,
    with_layers,
    words_in_common,
)
from pipelines.throughput import Throughput
from recsys.alignment import aligned_head
from recsys.dataset import Items, Log
from recsys.encoder import TextEncoder, load_encoder
from recsys.errors import ConfigError
from recsys.finetuning import check_trainable
from recsys.split import Requests, Windows
from recsys.training import (
    Examples,
    Tower,
    examples_in,
    new_tower,
    train_head,
    tuned_vectors,
)


@dataclass(frozen=True)
class Start:
    """The text side of a registered model, which training goes on from."""

    uri: str  # models:/NAME/VERSION
    encoder: TextEncoder
    frozen_encoder: TextEncoder
    tower: Tower  # its heads and pooling
    fitted_before: int  # moment: nothing of it has seen an event from then on
    dated: bool  # whether moments are microseconds


@dataclass(frozen=True)
class Continued:
    """What going on did to the interest score: NDCG@10 over texts, NaN without a request.

    Before is the start model, after the one that the stopping window chose, not yet refitted.
    """

    new_events: int  # since the start model's fitting ended, each with a past
    replayed_events: int
    new_before: float  # on the stopping window, which the start model has not seen
    new_after: float
    old_before: float  # on the last tenth of the events that the start model was fitted on
    old_after: float


def find_start(config: RunConfig, uri: str) -> Start:
    """Load the model to go on from.

    Raises:
        ConfigError: no such model, or its encoder or history is not the configured one.
    """
    registered, folder = tracking.find_model(config, uri)
    model, encoder = load_model(folder), config.encoder
    card = model.card
    start = Start(registered.uri, model.encoder, model.frozen_encoder, model.tower,
                  card.fitted_before, card.dated)  # fmt: skip
    if card.history != config.training.history:
        raise ConfigError(
            f"--from {start.uri}: it was trained with training.history = {card.history}, the "
            f"config says {config.training.history}; a user vector's weights are for one length, "
            "so set the same, or train without --from"
        )
    if load_encoder(encoder).fingerprint() != start.frozen_encoder.fingerprint():
        was, now = (f"{one.model!r} with max_tokens = {one.max_tokens}"
                    for one in (card.encoder, encoder))  # fmt: skip
        raise ConfigError(
            f"--from {start.uri}: it was trained over the encoder {was}, the config names another: "
            f"{now}; a head fits the vectors of one encoder, so set encoder.model and "
            "encoder.max_tokens as they were, or train without --from"
        )
    return start


def check_start(start: Start, windows: Windows, log: Log) -> None:
    """See that there is something new, and that the stopping window is new to the start model.

    Raises:
        ConfigError: an order only, a model that has seen too much, or no new event.
    """
    if not (windows.dated and start.dated):
        raise ConfigError(
            f"--from {start.uri}: events with an order only have no moment, so it cannot be told "
            "which are new; train without --from"
        )
    since, stop = start.fitted_before, stopping_moment(log, windows)
    fitted = f"--from {start.uri}: it was fitted on events before {_date(since)}"
    if since > stop:
        raise ConfigError(
            f"{fitted}, and this run's stopping window begins at {_date(stop)}, so the model has "
            "seen what it would be measured on; bring newer events, or begin the later windows "
            "later with a smaller split.share"
        )
    teaches = (log.grade > 0) & (log.weight > 0) & (log.moment < stop)
    if not (teaches & (log.moment >= since)).any():
        raise ConfigError(
            f"{fitted}, and no event is new between then and {_date(stop)}, where this run's "
            "stopping window begins; bring newer events"
        )


def learn_further(
    start: Start, items: Items, log: Log, windows: Windows, config: RunConfig,
    exclude_seen: bool, show: Show,
) -> tuple[Learned, Continued]:  # fmt: skip
    """Go on from a model as `textmodel.learn_texts` goes on from the frozen encoder.

    Args:
        start: the model; not changed.
        items: the catalogue.
        log: all events; those of the later windows are not looked at.
        windows: where the encoder window ends.
        config: encoder, training and where vectors are cached.
        exclude_seen: whether what a user took before is left out of their list.
        show: progress.
    """
    rng, history = np.random.default_rng([config.seed, 1]), start.tower.pooling.history
    texts, text_of_item = distinct_texts(items.text)
    check_trainable(start.encoder.model, config.training)  # refused before any text is encoded
    speed = Throughput()
    frozen = pooled = encode(start.frozen_encoder, texts, config, show, "encode texts", speed)
    if start.encoder is not start.frozen_encoder:
        pooled = encode(start.encoder, texts, config, show, "encode texts, tuned", speed)
    stop, since = stopping_moment(log, windows), start.fitted_before
    requests = some_requests(log, windows, (stop, windows.ranker), rng)
    old_requests = some_requests(log, windows, last_tenth(log, windows, since), rng)
    taken = log.before(stop)
    new, old = (examples_of(taken, which, windows.unit, text_of_item, history)
                for which in (taken.moment >= since, taken.moment < since))  # fmt: skip
    replayed = drawn(old, round(config.training.replay * len(new.target)), rng)

    def score(tower: Tower, vectors: np.ndarray, on: Requests = requests) -> float:
        tuned = tuned_vectors(tower, vectors)
        return interest_ndcg(log, on, windows.unit, tower, tuned, text_of_item, exclude_seen)

    lexical = words_in_common(items, config.state.neighbours)
    begun = Learned(start.frozen_encoder, start.encoder, text_of_item, titles_of(items), lexical,
                    frozen, pooled, start.tower, [], [], float("nan"), False, speed)  # fmt: skip
    examples = joined(new, replayed)
    learned = _with_head(begun, joined(old, new), examples, config, score, rng, show)
    if config.training.tunes_layers:
        learned = with_layers(learned, texts, examples, config, score, rng, show)
    say_kept(learned, show)
    after = learned.layers_score if learned.layers_kept else max(learned.curve)
    was, now = ((score(one.tower, one.pooled, old_requests) if len(old_requests) else float("nan"))
                for one in (begun, learned))  # fmt: skip
    continued = Continued(len(new.target), len(replayed.target), learned.curve[1], after, was, now)
    return refit(learned, log.before(windows.ranker), windows.unit, config, show), continued


def _with_head(
    begun: Learned, everything: Examples, examples: Examples, config: RunConfig,
    score: Callable[[Tower, np.ndarray], float], rng: np.random.Generator, show: Show,
) -> Learned:  # fmt: skip
    """Align to everything, train on; keep what the stopping window likes best, the oldest first."""
    training, tower = config.training, begun.tower
    plain = new_tower(begun.frozen.shape[1], training.history)
    everything_taught, taught = (
        by_titles(begun.tuned_encoder, begun.pooled, begun.titles, some, config, rng, show,
                  begun.throughput) for some in (everything, examples)
    )  # fmt: skip
    curve, steps = [score(plain, begun.frozen), score(tower, begun.pooled)], ["frozen", "start"]
    if training.align:
        aligned = aligned_head(*everything_taught, training.ridge, rng)
        tower, steps = replace(tower, aligned=aligned), [*steps, "aligned"]
    tower, after = train_head(
        *taught, training, rng,
        begun.throughput.paused(lambda now: score(now, begun.pooled)), start=tower,
        on_step=told(show, "train head", begun.throughput),
    )  # fmt: skip
    curve += after if training.align else after[1:]  # its first is the start again
    note = "NDCG@10 over texts " + " ".join(f"{value:.4f}" for value in curve)
    show("train head", 1, 1, note)
    learned = replace(begun, curve=curve, steps=name_steps(steps, curve))
    if learned.kept == "frozen":
        encoder = begun.frozen_encoder
        return replace(learned, tuned_encoder=encoder, pooled=begun.frozen, tower=plain)
    return learned if learned.kept == "start" else replace(learned, tower=tower)


def last_tenth(log: Log, windows: Windows, end: int) -> tuple[int, int]:
    """Return the span of the last tenth of what was taken before `end`; empty if nothing was."""
    if not ((log.moment < end) & (log.grade > 0)).any():
        return end, end
    return stopping_moment(log, replace(windows, ranker=end)), end


def examples_of(
    log: Log, which: np.ndarray, unit: int, text_of_item: np.ndarray, history: int
) -> Examples:
    """Make examples of the events at `which` (n_events,) bool; all others are past and known."""
    return examples_in(replace(log, weight=log.weight * which), unit, text_of_item, history)


def drawn(examples: Examples, most: int, rng: np.random.Generator) -> Examples:
    """Draw `most` of the examples, or take all where they are fewer."""
    rows = np.sort(rng.permutation(len(examples.target))[:most])
    past, target, weight = examples.past[rows], examples.target[rows], examples.weight[rows]
    return Examples(past, target, weight, examples.known)


def joined(one: Examples, other: Examples) -> Examples:
    """Put examples of one log together."""
    past, target, weight = (np.concatenate([getattr(one, name), getattr(other, name)])
                            for name in ("past", "target", "weight"))  # fmt: skip
    return Examples(past, target, weight, one.known)


def _date(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment / 1e6, UTC):%Y-%m-%d}"
