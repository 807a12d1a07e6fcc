"""Fine-tuning: the text encoder learns that a user's past should point at what the user takes next.

Loss: for each event, softmax over texts of scale * cos(user vector before the day, text vector),
against the event's own text, weighted by the event's weight. All distinct texts that anybody took
are in the denominator while there are few; of many, a uniform sample stands for the rest, its
logits raised by log(rest / sample) so that the sum stays right in expectation (sampled softmax;
Jean et al. 2015). A text that nobody took yet is no negative: it would be pushed away from
everybody before it had a chance. Items that share a text are one target, so none is another's false
negative.

Three stages, cheapest first. `recsys.alignment` solves for a head over the frozen vectors.
`train_head` moves a residual head on top of that one, and the user pooling: no text is encoded, a
pass over the data takes seconds. `recsys.finetuning` then unfreezes transformer layers under both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch.nn.functional import cross_entropy, embedding

from recsys.asof import new_days
from recsys.dataset import Log
from recsys.encoder import apply_head, moved_vectors, stacked
from recsys.interest import UserPooling

LOG_SCALE = 2.0  # of the softmax at first: near the best one for aligned vectors; a sharper one
# (3.0) undid the alignment before it was learned: docs/log.md


class TrainingConfig(BaseModel):
    """How the encoder is fine-tuned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    history: int = Field(20, ge=1)  # past items in a user vector
    align: bool = True  # solve for a head first: whiten texts, turn them to what goes together
    ridge: float = Field(1.0, gt=0)  # of the alignment: how much it shrinks towards whitening
    max_epochs: int = Field(20, ge=0)  # of the head; 0 = no gradient step
    patience: int = Field(4, ge=1)  # epochs without a better valid NDCG before it stops
    batch_events: int = Field(512, ge=1)
    epoch_events: int = Field(20_000, ge=1)  # a pass over more events than this looks at a sample
    refit_epochs: int = Field(2, ge=0)  # passes over all events before each later window
    replay: float = Field(1.0, ge=0)  # of train --from: old events taken along for each new one
    warm_up_steps: int = Field(50, ge=0)
    negative_texts: int = Field(4096, ge=1)  # sampled a step where over twice as many were taken
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(10.0, ge=0)  # of head and pooling, back to the aligned texts
    dropout: float = Field(0.1, ge=0, lt=1)  # of whole past items
    titles: float = Field(0.0, ge=0, le=1)  # share of past items met by their title alone
    layers: int = Field(0, ge=0)  # last transformer layers to unfreeze after the head
    peft: dict[str, Any] = {}  # instead: a peft configuration, such as { peft_type = "LORA" }
    layer_passes: int = Field(2, ge=0)  # over the texts that anybody took
    layer_batch_events: int = Field(4096, ge=1)  # events that a step looks at
    layer_learning_rate: float = Field(3e-5, gt=0)

    @property
    def tunes_layers(self) -> bool:
        """Whether the transformer itself is trained."""
        return bool((self.layers or self.peft) and self.layer_passes)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.layers and self.peft:
            raise ValueError("layers and peft both say what is trained; set one of them")
        return self


@dataclass(frozen=True)
class Examples:
    """Next-event examples; row = one event to predict."""

    past: np.ndarray  # (n, history) int64 text codes, most recent first, -1 = none
    target: np.ndarray  # (n,) int64 text code
    weight: np.ndarray  # (n,) float32
    known: np.ndarray  # (n_known,) int64 ascending text codes that anybody took


@dataclass(frozen=True)
class Tower:
    """What is learned over the encoder: item side, user side, and the softmax scale (log)."""

    aligned: torch.Tensor  # (dim, dim) head in closed form; no gradient step moves it
    head: torch.nn.Parameter  # (dim, dim) on top of it
    pooling: UserPooling
    log_scale: torch.nn.Parameter

    def parameters(self) -> list[torch.nn.Parameter]:
        """All that gradient steps move."""
        return [self.head, *self.pooling.parameters(), self.log_scale]

    def groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return the same for an optimiser; decay pulls what starts at zero back, and only that."""
        pooling = self.pooling
        pulled = [self.head, pooling.residual, pooling.query]
        free = [pooling.recency, self.log_scale]
        return [{"params": pulled, "lr": learning_rate, "weight_decay": weight_decay},
                {"params": free, "lr": learning_rate, "weight_decay": 0.0}]  # fmt: skip

    def whole_head(self) -> torch.Tensor:
        """Return the one head (dim, dim) that does what both do."""
        return stacked(self.aligned, self.head.detach())


def new_tower(dim: int, history: int, aligned: torch.Tensor | None = None) -> Tower:
    """Return a tower no gradient step has moved: recency-weighted mean, frozen or aligned texts."""
    head = torch.nn.Parameter(torch.zeros(dim, dim))
    scale = torch.nn.Parameter(torch.tensor(LOG_SCALE))
    aligned = torch.zeros(dim, dim) if aligned is None else aligned
    return Tower(aligned, head, UserPooling(dim, history), scale)


def examples_in(log: Log, unit: int, text_of_item: np.ndarray, history: int) -> Examples:
    """Make one example of each event that has a past before its own day (`unit` long).

    What a user takes on one day never predicts the rest of that day: a nightly job would not have
    seen it either.
    """
    log = log.keep(log.grade > 0)
    row, day = log.row, log.moment // unit
    new_day = new_days(row, day)
    begins = np.flatnonzero(new_day)[np.cumsum(new_day) - 1]  # where each event's day begins
    use = np.flatnonzero((begins > log.indptr[row]) & (log.weight > 0))
    at = begins[use, None] - 1 - np.arange(history)
    found = at >= log.indptr[row[use], None]
    past = np.where(found, text_of_item[log.item[np.where(found, at, 0)]], -1)
    known = np.unique(text_of_item[log.item]).astype(np.int64)
    return Examples(past, text_of_item[log.item[use]].astype(np.int64), log.weight[use], known)


def with_titles(
    vectors: np.ndarray, titles: np.ndarray, examples: Examples, share: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Examples]:  # fmt: skip
    """Let examples meet a share of their past items by the title alone; what was taken is whole.

    Args:
        vectors: (n_texts, dim) of whole texts.
        titles: (n_texts, dim) of their titles alone.
        examples: not changed.
        share: how many of the past items.
        rng: which.

    Returns:
        The vectors, titles below, and examples whose codes of the past may be of either.
    """
    by_title = (examples.past >= 0) & (rng.random(examples.past.shape) < share)
    past = np.where(by_title, examples.past + len(vectors), examples.past)
    return np.concatenate([vectors, titles]), replace(examples, past=past)


def train_head(
    pooled: np.ndarray,
    examples: Examples,
    config: TrainingConfig,
    rng: np.random.Generator,
    valid_score: Callable[[Tower], float] | None = None,
    epochs: int | None = None,
    start: Tower | None = None,
    on_step: Callable[[int, int, int, float], None] = lambda step, steps, pairs, loss: None,
) -> tuple[Tower, list[float]]:
    """Train head and user pooling over frozen text vectors.

    Args:
        pooled: (n_texts, dim) float32 text vectors that the head comes on top of.
        examples: what to learn from.
        config: how.
        rng: order, dropout and negatives.
        valid_score: higher is better; called before training and after each epoch. The best tower
            is returned, so the result is never worse than the start by this measure.
        epochs: how many, without early stopping; then `valid_score` is not called.
        start: tower to go on from (not changed); None = an untrained one over frozen vectors.
        on_step: called with (step, steps at most, events looked at in it, loss).

    Returns:
        The tower, and the valid scores (the first before training), empty with `epochs`.
    """
    tower = new_tower(pooled.shape[1], config.history) if start is None else copy_tower(start)
    vectors = apply_head(torch.from_numpy(pooled), tower.aligned)
    optimiser = torch.optim.AdamW(tower.groups(config.learning_rate, config.weight_decay))
    scores = [] if epochs is not None or valid_score is None else [valid_score(tower)]
    best = copy_tower(tower)
    n = min(len(examples.target), config.epoch_events)
    steps = -(-n // config.batch_events)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / (config.warm_up_steps + 1))
    )
    planned = config.max_epochs if epochs is None else epochs
    for epoch in range(planned):
        order = rng.permutation(len(examples.target))[:n]
        for step in range(steps):
            rows = order[step * config.batch_events : (step + 1) * config.batch_events]
            loss = batch_loss(tower, vectors, examples, rows, config, rng)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            done = epoch * steps + step + 1
            on_step(done, planned * steps, len(rows), float(loss.detach()))
        if scores and valid_score is not None:
            scores.append(valid_score(tower))
            if scores[-1] == max(scores):
                best = copy_tower(tower)
            if len(scores) - 1 - int(np.argmax(scores)) >= config.patience:
                break
    return (best if scores else tower), scores


def tuned_vectors(tower: Tower, frozen: np.ndarray) -> np.ndarray:
    """Return the (n_texts, dim) unit vectors under the tower's heads."""
    return moved_vectors(frozen, tower.whole_head())


def batch_loss(
    tower: Tower,
    vectors: torch.Tensor,
    examples: Examples,
    rows: np.ndarray,
    config: TrainingConfig,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Weighted softmax loss of the examples at `rows`, over the known texts or a sample of them.

    `vectors` (n_texts, dim) are aligned already; only the tower's trained head moves them here.

    Rows are gathered by `embedding`, whose gradient is summed in one order; that of plain indexing
    is summed by whichever thread comes first.
    """
    past = examples.past[rows]
    past = np.where(rng.random(past.shape) < config.dropout, -1, past)
    texts, logit_shift = _denominator(examples.target[rows], examples.known, config, rng)
    live = np.unique(np.concatenate([texts, past[past >= 0]]))
    moved = apply_head(vectors[torch.from_numpy(live)], tower.head)
    at = torch.from_numpy(np.searchsorted(live, np.maximum(past, live[0])))
    users = tower.pooling(embedding(at, moved), torch.from_numpy(past >= 0))
    items = embedding(torch.from_numpy(np.searchsorted(live, texts)), moved)
    logits = tower.log_scale.exp() * users @ items.T + torch.from_numpy(logit_shift)
    target = torch.from_numpy(np.searchsorted(texts, examples.target[rows]))
    weight = torch.from_numpy(examples.weight[rows])
    loss = cross_entropy(logits, target, reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=1e-12)


def _denominator(
    targets: np.ndarray, known: np.ndarray, config: TrainingConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the texts of one step's softmax, ascending, and what to add to their logits."""
    if len(known) <= 2 * config.negative_texts:
        return known, np.zeros(len(known), np.float32)
    sampled = rng.choice(known, config.negative_texts, replace=False)
    texts = np.union1d(targets, sampled)
    drawn = ~np.isin(texts, targets)
    rest = len(known) - (len(texts) - drawn.sum())
    shift = np.log(rest / max(drawn.sum(), 1)) if rest else 0.0
    return texts, np.where(drawn, shift, 0.0).astype(np.float32)


def copy_tower(tower: Tower) -> Tower:
    """Copy the parameters, away from the optimiser."""
    new = new_tower(tower.head.shape[0], tower.pooling.history, tower.aligned)
    with torch.no_grad():
        for mine, theirs in zip(new.parameters(), tower.parameters(), strict=True):
            mine.copy_(theirs)
    return new
