"""What moved a score: each row's score split among groups of features, for the price of scoring it.

A tree says what it would answer at every node. On the way from the root to a row's leaf each split
changes that answer; the change is credited to the feature that was split on (Saabas, "Interpreting
random forests", 2014). All leaves are worked out once, so a row costs what its score does.
LightGBM's own contributions (TreeSHAP; Lundberg et al., 2020) share interactions out more fairly;
they take some two hundred times as long as the score, too long for every list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.ranker import Ranker


@dataclass(frozen=True)
class Contributions:
    """What each leaf of each tree credits to each group, in units of the score."""

    groups: tuple[str, ...]
    of_leaf: np.ndarray  # (n_trees, n_leaves, n_groups) float64, in the order of `Ranker.forest`
    expected: float  # the score before any split


def contributions_of(ranker: Ranker, group_of: Mapping[str, str]) -> Contributions:
    """Work out what every leaf credits to the groups of features.

    Args:
        ranker: fitted.
        group_of: feature -> its group; every feature of the ranker has one.
    """
    groups = tuple(sorted({group_of[name] for name in ranker.features}))
    column = [groups.index(group_of[name]) for name in ranker.features]
    trees = ranker.booster.dump_model()["tree_info"]
    most = max((tree["num_leaves"] for tree in trees), default=1)
    of_leaf = np.zeros((len(trees), most, len(groups)))
    expected = 0.0
    for tree, credit in zip(trees, of_leaf, strict=True):
        expected += _credit(tree["tree_structure"], column, credit)
    if (forest := ranker.forest) is not None:
        of_leaf = np.where(forest.leaf[:, :, None] < 0, 0.0,
                           of_leaf[np.arange(len(trees))[:, None], forest.leaf])  # fmt: skip
    return Contributions(groups, of_leaf, expected)


def contributions(known: Contributions, ranker: Ranker, table: np.ndarray) -> np.ndarray:
    """Split the scores of feature rows (n_rows, n_features): (n_rows, n_groups) float32.

    A row's contributions and `known.expected` add up to its score.
    """
    if not len(table) or not len(known.of_leaf):
        return np.zeros((len(table), len(known.groups)), np.float32)
    if ranker.forest is not None:
        return ranker.forest.sums(table.astype(np.float32), known.of_leaf).astype(np.float32)
    leaf = np.asarray(ranker.booster.predict(table, pred_leaf=True, num_threads=1))
    leaf = leaf.reshape(len(table), -1)
    return np.asarray(known.of_leaf[np.arange(leaf.shape[1]), leaf].sum(1), np.float32)


def fair_contributions(ranker: Ranker, table: np.ndarray) -> np.ndarray | None:
    """Share each row's score out among its features by LightGBM's TreeSHAP.

    On all cores, and slow all the same: a few hundred rows a second.

    Args:
        ranker: fitted.
        table: (n_rows, n_features) in the order of its features.

    Returns:
        (n_rows, n_features) float64, which add up to the score less its mean in training; None
        where trees have linear leaves, which LightGBM does not take apart.

    Source: Lundberg et al., "From local explanations to global understanding with explainable AI
    for trees" (Nature Machine Intelligence 2020).
    """
    if "\nis_linear=1" in ranker.to_text():
        return None
    if not len(table):
        return np.zeros((0, len(ranker.features)))
    return np.asarray(ranker.booster.predict(table, pred_contrib=True))[:, :-1]


def _credit(tree: dict[str, Any], column: Sequence[int], credit: np.ndarray) -> float:
    """Fill `credit` (n_leaves, n_groups) of one tree; return what it answers at its root."""
    root = _answer(tree)
    walk = [(tree, np.zeros(credit.shape[1]))]
    while walk:
        node, so_far = walk.pop()
        if "split_feature" not in node:
            credit[node.get("leaf_index", 0)] = so_far
            continue
        for child in (node["left_child"], node["right_child"]):
            moved = so_far.copy()
            moved[column[node["split_feature"]]] += _answer(child) - _answer(node)
            walk.append((child, moved))
    return root


def _answer(node: dict[str, Any]) -> float:
    """Return what a tree would answer if it ended here."""
    return float(node["internal_value"] if "internal_value" in node else node["leaf_value"])
