"""The ranker: LightGBM LambdaRank over the candidates of each request; and heads of single rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

import lightgbm
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from recsys.cascade import FirstPass, cascade_scores
from recsys.errors import ConfigError, NotFittedError
from recsys.forest import Forest, forest_of
from recsys.rows import Rows, position_kinds, value_weights


class RankerConfig(BaseModel):
    """LambdaRank settings and the sampling of its training rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_trees: int = Field(300, ge=1)
    early_stopping_trees: int = Field(50, ge=1)
    learning_rate: float = Field(0.06, gt=0)
    leaves: int = Field(31, ge=2)
    min_rows_in_leaf: int = Field(100, ge=1)
    feature_fraction: float = Field(0.7, gt=0, le=1)
    row_fraction: float = Field(0.8, gt=0, le=1)
    l2: float = Field(50.0, ge=0)
    truncation: int = Field(30, ge=1)  # ranks that matter to the loss
    label_gain: tuple[float, ...] = ()  # gain of grade 0, 1, 2...; empty = 2**grade - 1
    monotone: dict[str, Literal[-1, 1]] = {}  # feature -> 1: score only rises with it, -1: falls
    weight_by: Literal["none", "value"] = "none"  # a request: equal, or log1p of its events' value
    values: tuple[float, ...] = ()  # worth of grade 0, 1, 2...: lists by expected value; empty = no
    max_requests: int = Field(25_000, ge=1)  # of each window it learns from, sampled beyond
    negatives: int = Field(150, ge=1)  # candidates not taken, sampled for each of these requests
    impressions: int = Field(75, ge=0)  # of them, first: shown that day and not taken, at most
    position_bias: bool = True  # learn how position draws clicks, apart, where the log has lists
    position_regularization: float = Field(0.0, ge=0)  # L2 of that, a row
    refit: bool = True  # learn again on the ranker and valid windows together, as many trees
    model: str = ""  # file of a LightGBM model trained elsewhere, instead of fitting `full`


class HeadConfig(BaseModel):
    """The heads that probabilities come from, one for each grade, and what calibrates them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trees: int = Field(100, ge=1)
    learning_rate: float = Field(0.06, gt=0)
    leaves: int = Field(15, ge=2)
    min_rows_in_leaf: int = Field(100, ge=1)
    feature_fraction: float = Field(0.7, gt=0, le=1)
    row_fraction: float = Field(0.8, gt=0, le=1)
    max_requests: int = Field(3_000, ge=1)  # of valid to calibrate on, of test to measure, sampled


class Scorer(Protocol):
    """What orders rows: a ranker, or a blend of heads."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features it reads."""

    def scores(self, table: np.ndarray, request: np.ndarray, first: FirstPass) -> np.ndarray:
        """Score rows (n_rows, n_features) to rank within requests (n_rows,), ascending."""


class Ranker:
    """A fitted LightGBM model with the names of the features it reads."""

    def __init__(self, booster: lightgbm.Booster, features: Sequence[str]):
        self.booster = booster
        self.features = tuple(features)
        self.parts: dict[int, tuple[Ranker, Ranker]] = {}  # of `split`

    def scores(self, table: np.ndarray, request: np.ndarray, first: FirstPass) -> np.ndarray:
        """Score rows to rank within requests, those far below after a first pass only."""
        return cascade_scores(self, table, request, first)

    def split(self, at: int) -> tuple[Ranker, Ranker]:
        """Return the first `at` trees and the others, as models of their own.

        LightGBM notes in the model which of its trees to use, so threads that asked one model for
        different ones would get each other's.
        """
        if at not in self.parts:
            cut = self.booster.model_to_string
            texts = cut(num_iteration=at), cut(start_iteration=at, num_iteration=-1)
            first, rest = (ranker_from_text(text, self.features) for text in texts)
            self.parts[at] = first, rest
        return self.parts[at]

    def predict(self, table: np.ndarray) -> np.ndarray:
        """Score feature rows (n_rows, n_features) in the order of `features`; higher is better.

        On one thread: blocks of rows are scored at the same time (recsys/threads.py).
        """
        if table.shape[1] != len(self.features):
            raise NotFittedError(
                f"ranker: {table.shape[1]} features were given, it was trained on "
                f"{len(self.features)}; use the feature catalogue saved with the model"
            )
        if not len(table):
            return np.zeros(0)
        if self.forest is None or table.dtype != np.float32:
            return np.asarray(self.booster.predict(table, num_threads=1))
        return self.forest.scores(table)

    @cached_property
    def forest(self) -> Forest | None:
        """Its trees, laid out for blocks of rows; None where only LightGBM can read them."""
        return forest_of(self.booster.dump_model())

    def importance(self) -> dict[str, float]:
        """Return feature -> total gain of its splits, largest first."""
        gain = self.booster.feature_importance("gain")
        order = np.argsort(-gain, kind="stable")
        return {self.features[at]: float(gain[at]) for at in order}

    def to_text(self) -> str:
        """Return the model in LightGBM's own text format."""
        return str(self.booster.model_to_string())

    @property
    def trees(self) -> int:
        """How many trees it has."""
        return int(self.booster.num_trees())


def ranker_from_text(text: str, features: Sequence[str]) -> Ranker:
    """Load what `Ranker.to_text` gave."""
    return Ranker(lightgbm.Booster(model_str=text), features)


def foreign_ranker(text: str, known: Sequence[str], where: str) -> Ranker:
    """Take a LightGBM model that was trained elsewhere, in LightGBM's own text format.

    It must say the names of its features; they may be in any order, and it need not read them all.

    Args:
        text: the model.
        known: the features in use here.
        where: what messages call it.

    Raises:
        ConfigError: no whole model, one of several scores a row, or a feature not in use here.
    """
    if "\nend of trees\n" not in text:  # LightGBM ends the process over half a model
        raise ConfigError(
            f"{where}: no whole LightGBM model in text format; write it with Booster.save_model"
        )
    try:
        booster = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise ConfigError(f"{where}: LightGBM cannot read it ({error}); save it again") from error
    if (scores := booster.num_model_per_iteration()) != 1:
        raise ConfigError(
            f"{where}: the model gives {scores} scores a row, a ranker gives one; train it with "
            "lambdarank or another objective of one score"
        )
    features = booster.feature_name()
    if unknown := [name for name in features if name not in known]:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ConfigError(
            f"{where}: the model reads {', '.join(unknown[:5])}{more}, not among the {len(known)} "
            "features in use here; train it on columns named as in docs/features.md, without those "
            "of features.off and, where there are no dates, those that need them"
        )
    return Ranker(booster, features)


def fit_ranker(
    train: Rows,
    valid: Rows,
    features: Sequence[str],
    config: RankerConfig,
    seed: int,
    on_tree: Callable[[int, float], None] = lambda tree, ndcg: None,
) -> Ranker:
    """Fit LambdaRank with early stopping on the valid rows' NDCG@10.

    Args:
        train: rows of the ranker window.
        valid: rows of the valid window.
        features: their names.
        config: settings.
        seed: of LightGBM's sampling.
        on_tree: called with (tree, valid NDCG@10).

    Raises:
        ConfigError: `label_gain` has no gain for some grade.

    Source: Burges, "From RankNet to LambdaRank to LambdaMART" (MSR-TR-2010-82).
    """
    params = _params(features, config, seed, [train, valid])

    def report(env: lightgbm.callback.CallbackEnv) -> None:
        if env.evaluation_result_list:
            on_tree(env.iteration + 1, env.evaluation_result_list[0][2])

    data = _dataset([train], features, config, params)
    held = lightgbm.Dataset(valid.table, valid.grade, group=valid.group, reference=data)
    stop = lightgbm.early_stopping(config.early_stopping_trees, verbose=False)
    booster = lightgbm.train(params, data, config.max_trees, [held], callbacks=[stop, report])
    kept = booster.model_to_string(num_iteration=booster.best_iteration)
    return ranker_from_text(kept, features)


def refit_ranker(
    samples: Sequence[Rows], features: Sequence[str], config: RankerConfig, seed: int, trees: int
) -> Ranker:
    """Fit LambdaRank anew on several windows' rows together, `trees` trees, nothing held back."""
    params = _params(features, config, seed, samples)
    data = _dataset(samples, features, config, params)
    return Ranker(lightgbm.train(params, data, trees), features)


def fit_heads(
    rows: Rows, features: Sequence[str], config: HeadConfig, seed: int
) -> dict[int, Ranker]:
    """Fit one binary model for each grade that occurs: was the row taken with at least that grade?

    Args:
        rows: of the ranker window; which rows belong together plays no part.
        features: their names.
        config: settings.
        seed: of LightGBM's sampling.

    Returns:
        Grade, ascending -> model whose `predict` is the share taken among rows like these, which
        are a sample: too high for candidates as they come.
    """
    params = {
        "objective": "binary", "learning_rate": config.learning_rate, "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_rows_in_leaf, "feature_fraction": config.feature_fraction,
        "bagging_fraction": config.row_fraction, "bagging_freq": 1, "seed": seed, "verbosity": -1,
        "deterministic": True, "force_row_wise": True,
    }  # fmt: skip
    grade = rows.grade
    data = lightgbm.Dataset(rows.table, grade, feature_name=list(features), params=params)
    heads = {}
    for level in np.unique(grade[grade > 0]).tolist():
        data.set_label((grade >= level).astype(np.float32))  # the rows are binned once
        heads[level] = Ranker(lightgbm.train(params, data, config.trees), features)
    return heads


def _params(
    features: Sequence[str], config: RankerConfig, seed: int, samples: Sequence[Rows]
) -> dict[str, Any]:
    """Say the settings in LightGBM's words.

    Raises:
        ConfigError: `label_gain` has no gain for some grade.
    """
    top = int(max(rows.grade.max(initial=1) for rows in samples))
    gain = list(config.label_gain) or [2.0**grade - 1 for grade in range(top + 1)]
    if len(gain) <= top:
        raise ConfigError(
            f"ranker.label_gain: {len(gain)} gains were given, but grades go up to {top}; give one "
            f"for each grade from 0 to {top}, or none at all"
        )
    params = {
        "objective": "lambdarank", "metric": "ndcg", "eval_at": [10], "label_gain": gain,
        "learning_rate": config.learning_rate, "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_rows_in_leaf, "feature_fraction": config.feature_fraction,
        "bagging_fraction": config.row_fraction, "bagging_freq": 1, "lambda_l2": config.l2,
        "lambdarank_truncation_level": config.truncation, "seed": seed, "verbosity": -1,
        "deterministic": True, "force_row_wise": True,
    }  # fmt: skip
    if config.position_regularization:
        params["lambdarank_position_bias_regularization"] = config.position_regularization
    if config.monotone:
        params["monotone_constraints"] = [config.monotone.get(name, 0) for name in features]
    return params


def _dataset(
    samples: Sequence[Rows], features: Sequence[str], config: RankerConfig, params: dict[str, Any]
) -> lightgbm.Dataset:
    """Lay tables out one below the other, uncopied."""
    tables = [rows.table for rows in samples]
    grade, group = (
        np.concatenate([getattr(rows, name) for rows in samples]) for name in ("grade", "group")
    )
    weight = None
    if config.weight_by == "value":
        values = [np.full(len(rows.group), np.nan) if rows.value is None else rows.value
                  for rows in samples]  # fmt: skip
        weight = np.repeat(value_weights(np.concatenate(values)), group)
    position = position_kinds(samples) if config.position_bias else None
    return lightgbm.Dataset(tables, grade, group=group, weight=weight, position=position,
                            feature_name=list(features), params=params)  # fmt: skip
