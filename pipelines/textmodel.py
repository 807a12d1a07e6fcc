"""Learn what text says about taste: encode the catalogue, tune, and refit before each window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pipelines.embeddings import encode_cached
from pipelines.settings import RunConfig
from pipelines.stopping import interest_ndcg, some_requests, stopping_moment
from pipelines.throughput import Throughput
from recsys.alignment import aligned_head
from recsys.dataset import Items, Log
from recsys.encoder import TextEncoder, load_encoder
from recsys.finetuning import check_trainable, tune_layers
from recsys.interest import TextModel
from recsys.lexical import lexical_neighbours
from recsys.neighbours import Neighbours
from recsys.split import Windows
from recsys.training import (
    Examples,
    Tower,
    TrainingConfig,
    examples_in,
    new_tower,
    train_head,
    tuned_vectors,
    with_titles,
)

Show = Callable[[str, int, int, str], None]  # (task, done, total, note)


@dataclass(frozen=True)
class Learned:
    """The text side after fine-tuning on the encoder window."""

    frozen_encoder: TextEncoder
    tuned_encoder: TextEncoder  # with tuned layers, if any; the tower's head comes on top
    text_of_item: np.ndarray  # (n_items,) int64
    titles: list[str]  # (n_texts,) the title in each distinct text
    lexical: Neighbours  # (n_texts, n_texts) cosines of words
    frozen: np.ndarray  # (n_texts, dim) unit vectors of the pre-trained encoder
    pooled: np.ndarray  # (n_texts, dim) unit vectors of the tuned encoder, under the tower's head
    tower: Tower
    curve: list[float]  # NDCG@10 on the stopping window
    steps: list[str]  # what each of them is of: frozen, start (of train --from), aligned, head
    layers_score: float  # the same after tuning layers; NaN if not tried
    layers_kept: bool
    throughput: Throughput = field(default_factory=Throughput)

    @property
    def kept(self) -> str:
        """What the stopping window liked best: frozen, start, aligned, head or layers."""
        if self.layers_kept:
            return "layers"
        return self.steps[int(np.argmax(self.curve))] if self.curve else "frozen"

    def text_model(self) -> TextModel:
        """Return the vectors of items and the pooling of users, before and after tuning."""
        tuned = tuned_vectors(self.tower, self.pooled)
        return TextModel(self.text_of_item, self.frozen, tuned, self.tower.pooling, self.lexical)


def distinct_texts(texts: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return the distinct texts and, for each item, which of them is its own."""
    distinct, text_of_item = np.unique(texts.astype(str), return_inverse=True)
    return distinct.tolist(), text_of_item.astype(np.int64)


def words_in_common(items: Items, keep: int) -> Neighbours:
    """Return the cosines of words between the distinct texts of a catalogue."""
    texts, _ = distinct_texts(items.text)
    return lexical_neighbours(texts, titles_of(items), keep)


def titles_of(items: Items) -> list[str]:
    """Return the title of each distinct text: of the first item that has it."""
    texts, text_of_item = distinct_texts(items.text)
    titles = np.empty(len(texts), dtype=object)
    titles[text_of_item[::-1]] = items.title[::-1]
    return [str(title) for title in titles]


def learn_texts(
    items: Items, log: Log, windows: Windows, config: RunConfig, exclude_seen: bool, show: Show
) -> Learned:  # fmt: skip
    """Fine-tune on the encoder window: align, train the head, then layers, as far as each helps.

    The last tenth of the window decides how far to go and when to stop, so the result is never
    worse than the frozen encoder there.

    Args:
        items: the catalogue.
        log: all events; those of the later windows are not looked at.
        windows: where the encoder window ends.
        config: encoder, training and where vectors are cached.
        exclude_seen: whether what a user took before is left out of their list.
        show: progress.
    """
    rng = np.random.default_rng([config.seed, 1])
    texts, text_of_item = distinct_texts(items.text)
    frozen_encoder = load_encoder(config.encoder)
    check_trainable(frozen_encoder.model, config.training)  # refused before any text is encoded
    speed = Throughput()
    frozen = encode(frozen_encoder, texts, config, show, "encode texts", speed)
    stop, training = stopping_moment(log, windows), config.training
    examples = examples_in(log.before(stop), windows.unit, text_of_item, training.history)
    requests = some_requests(log, windows, (stop, windows.ranker), rng)

    def score(tower: Tower, pooled: np.ndarray) -> float:
        vectors = tuned_vectors(tower, pooled)
        return interest_ndcg(log, requests, windows.unit, tower, vectors, text_of_item,
                             exclude_seen)  # fmt: skip

    tower, curve, titles = (
        new_tower(frozen.shape[1], training.history),
        list[float](),
        titles_of(items),
    )
    if len(examples.target) and len(requests):
        taught = by_titles(frozen_encoder, frozen, titles, examples, config, rng, show, speed)
        tower, curve = with_head(tower, *taught, training, lambda now: score(now, frozen), rng,
                                  show, speed)  # fmt: skip
    steps = name_steps(["frozen", "aligned"] if training.align else ["frozen"], curve)
    lexical = words_in_common(items, config.state.neighbours)
    learned = Learned(frozen_encoder, frozen_encoder, text_of_item, titles, lexical, frozen, frozen,
                      tower, curve, steps, float("nan"), False, speed)  # fmt: skip
    if curve and training.tunes_layers:
        learned = with_layers(learned, texts, examples, config, score, rng, show)
    say_kept(learned, show)
    return refit(learned, log.before(windows.ranker), windows.unit, config, show)


def with_head(
    plain: Tower, frozen: np.ndarray, examples: Examples, training: TrainingConfig,
    score: Callable[[Tower], float], rng: np.random.Generator, show: Show, speed: Throughput,
) -> tuple[Tower, list[float]]:  # fmt: skip
    """Align, then train, and keep what the stopping window likes best; also return its scores."""
    start, curve = plain, list[float]()
    if training.align:
        curve.append(score(plain))
        start = replace(plain, aligned=aligned_head(frozen, examples, training.ridge, rng))
    tower, after = train_head(
        frozen, examples, training, rng, speed.paused(score), start=start,
        on_step=told(show, "train head", speed),
    )  # fmt: skip
    curve += after
    note = "NDCG@10 over texts " + " ".join(f"{value:.4f}" for value in curve)
    show("train head", 1, 1, note)
    return (plain if max(curve) == curve[0] else tower), curve


def say_kept(learned: Learned, show: Show) -> None:
    """Show what each step reached at best and which one stays; and when text says little."""
    best: dict[str, float] = {}
    for step, value in zip(learned.steps, learned.curve, strict=True):
        best[step] = max(value, best.get(step, 0.0))
    if np.isfinite(learned.layers_score):
        best["layers"] = learned.layers_score
    if best:
        reached = ", ".join(f"{step} {value:.4f}" for step, value in best.items())
        show("fine-tuning", 1, 1, f"NDCG@10 over texts: {reached}; kept: {learned.kept}")
    n_items, n_texts = len(learned.text_of_item), len(learned.frozen)
    if 2 * n_texts < n_items:
        said = (
            f"careful: {n_items:,} items share {n_texts:,} texts; the scores above are over texts"
        )
        show("fine-tuning", 1, 1, f"{said}, and text cannot tell items of one text apart")


def name_steps(first: list[str], curve: Sequence[float]) -> list[str]:
    """Say what each value of the curve is of: `first`, then epochs of the head."""
    return [*first, *["head"] * (len(curve) - len(first))] if curve else []


def with_layers(
    learned: Learned, texts: Sequence[str], examples: Examples, config: RunConfig,
    score: Callable[[Tower, np.ndarray], float], rng: np.random.Generator, show: Show,
) -> Learned:  # fmt: skip
    """Tune transformer layers and keep them if the stopping window says so."""
    encoder, tower = tune_layers(
        learned.tuned_encoder, learned.tower, texts, learned.pooled, examples, config.training,
        rng, lambda done, total, loss: show("train layers", done, total, f"texts, loss {loss:.3f}"),
    )  # fmt: skip
    pooled = encode(encoder, texts, config, show, "encode texts, tuned", learned.throughput)
    after = score(tower, pooled)
    if after <= max(learned.curve):
        return replace(learned, layers_score=after)
    return replace(learned, tuned_encoder=encoder, pooled=pooled, tower=tower, layers_score=after,
                   layers_kept=True)  # fmt: skip


def refit(learned: Learned, log: Log, unit: int, config: RunConfig, show: Show) -> Learned:
    """Align anew and go on training, for `refit_epochs`, on all events of `log`; layers stay.

    What the stopping window did not want is not done here either.
    """
    training, rng = config.training, np.random.default_rng([config.seed, 2])
    examples = examples_in(log, unit, learned.text_of_item, training.history)
    if learned.kept in ("frozen", "start") or not training.refit_epochs or not len(examples.target):
        return learned
    tower = learned.tower
    taught = by_titles(learned.tuned_encoder, learned.pooled, learned.titles, examples, config, rng,
                       show, learned.throughput)  # fmt: skip
    if training.align:
        tower = replace(tower, aligned=aligned_head(*taught, training.ridge, rng))
    if learned.kept != "aligned":
        tower, _ = train_head(
            *taught, training, rng, epochs=training.refit_epochs, start=tower,
            on_step=told(show, "refit head", learned.throughput),
        )  # fmt: skip
    return replace(learned, tower=tower)


def by_titles(
    encoder: TextEncoder, pooled: np.ndarray, titles: Sequence[str], examples: Examples,
    config: RunConfig, rng: np.random.Generator, show: Show, speed: Throughput,
) -> tuple[np.ndarray, Examples]:  # fmt: skip
    """Return what to train on: as given, or with some past items met by their title alone."""
    if not config.training.titles:
        return pooled, examples
    short = encode(encoder, titles, config, show, "encode titles", speed)
    return with_titles(pooled, short, examples, config.training.titles, rng)


def encode(
    encoder: TextEncoder, texts: Sequence[str], config: RunConfig, show: Show, task: str,
    speed: Throughput,
) -> np.ndarray:  # fmt: skip
    """Encode through the cache of the run folder, with progress."""
    done = 0

    def advance(count: int, tokens: int, padding: int) -> None:
        nonlocal done
        done += count
        note = speed.encoded(count, tokens, padding) if tokens else speed.begin("texts")
        show(task, done, len(texts), note)

    return encode_cached(encoder, texts, config.run_dir / "embeddings", advance)


def told(show: Show, task: str, speed: Throughput) -> Callable[[int, int, int, float], None]:
    """Return an `on_step` of the head that counts and shows."""
    speed.begin()
    return lambda step, steps, pairs, loss: show(task, step, steps, speed.learned(pairs, loss))
