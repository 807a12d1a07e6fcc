"""Boosted trees laid out for blocks of rows: LightGBM's scores, bit for bit, in less of the time.

LightGBM walks each row down each tree, and every step waits for the one before. Here a tree is a
list of its splits, and each split strikes out the leaves that a row cannot reach: all rows of a
block are asked the same question at once (recsys/kernels.py), and the first leaf left is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

SUMS = ("", "lambdarank", "rank_xendcg", "regression")  # objectives whose score is the leaves' sum
LOG_ODDS = "binary sigmoid:1"  # whose score is the probability that has this log odds
MAGIC = {  # bits of a mask -> (multiplier, shift) that give each power of two a place of its own
    32: (0x077CB531, 27),
    64: (0x03F79D71B4CB0A89, 58),
}


@dataclass(frozen=True)
class Forest:
    """Trees of one model; those of up to 32 leaves have masks of 32 bits, others of 64.

    Source: Lucchese et al., "QuickScorer: a fast algorithm to rank documents with additive
    ensembles of regression trees" (SIGIR 2015); rows in blocks as in their V-QuickScorer (SIGIR
    2016). Deviation: splits stay in their tree, in its order, so that no row needs its own list.
    """

    starts: np.ndarray  # (n_trees + 1,) int64 of each tree's splits
    feature: np.ndarray  # (n_splits,) int64 column that is asked for
    threshold: np.ndarray  # (n_splits,) float32; up to it is left, above it right
    none_is_right: np.ndarray  # (n_splits,) bool, where NaN goes
    right: (
        np.ndarray
    )  # (n_splits,) unsigned: a bit for each leaf that may be a row's if it is right
    value: np.ndarray  # (n_trees, n_bits) float64 of each leaf, at its bit's place (MAGIC)
    leaf: np.ndarray  # (n_trees, n_bits) int64 LightGBM's number of the leaf there, -1 = none
    log_odds: bool  # whether the sums are

    def scores(self, table: np.ndarray) -> np.ndarray:
        """Score rows (n_rows, n_features) float32 as LightGBM does: (n_rows,) float64."""
        raw: np.ndarray = self.sums(table)[:, 0]
        return 1.0 / (1.0 + np.exp(-raw)) if self.log_odds else raw

    def sums(self, table: np.ndarray, worth: np.ndarray | None = None) -> np.ndarray:
        """Sum over the trees what each row's leaves are worth.

        Args:
            table: (n_rows, n_features) float32.
            worth: (n_trees, n_bits, n_columns) float64, laid out as `value`, which it stands for.

        Returns:
            (n_rows, n_columns) float64, trees added in their order.
        """
        from recsys.kernels import sum_leaves

        worth = self.value[:, :, None] if worth is None else worth
        found = np.zeros((len(table), worth.shape[2]))
        multiplier, shift = MAGIC[8 * self.right.itemsize]
        sum_leaves(np.ascontiguousarray(table), self.starts, self.feature, self.threshold,
                   self.none_is_right, self.right, np.ascontiguousarray(worth),
                   np.uint64(multiplier), np.uint64(shift), found)  # fmt: skip
        return found


Split: TypeAlias = tuple[int, float, bool, int]  # of `Forest`: feature, threshold, none, right


def forest_of(model: Mapping[str, Any]) -> Forest | None:
    """Lay out a model as `Booster.dump_model` gives it; None if it has no such form.

    That is one with a tree of more than 64 leaves, with sets of categories, with 0 for what is
    missing, or with a line in its leaves; and one whose score is no sum, nor the log odds, of them.
    """
    trees, objective = model["tree_info"], model.get("objective", "")
    if model["average_output"] or objective not in (*SUMS, LOG_ODDS):
        return None
    most = max((tree["num_leaves"] for tree in trees), default=1)
    roots = [tree["tree_structure"] for tree in trees]
    if most > 64 or not all(_is_plain(node) for root in roots for node in _nodes(root)):
        return None
    bits = 32 if most <= 32 else 64
    value, leaf = np.zeros((len(trees), bits)), np.full((len(trees), bits), -1)
    of_trees = [_laid_out(root, 0, value[at], leaf[at])[0] for at, root in enumerate(roots)]
    starts = np.cumsum([0, *map(len, of_trees)])
    splits = [split for of_tree in of_trees for split in of_tree]
    feature, threshold, none_is_right, right = ([split[at] for split in splits] for at in range(4))
    return Forest(starts, np.array(feature, np.int64), _at_most(threshold),
                  np.array(none_is_right, bool), np.array(right, f"u{bits // 8}"), value,
                  leaf, objective == LOG_ODDS)  # fmt: skip


def _nodes(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a node and all below it."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [node[side] for side in ("left_child", "right_child") if side in node]


def _is_plain(node: dict[str, Any]) -> bool:
    """Whether a split asks for more than a number, or a leaf says a number only."""
    if "leaf_value" in node:
        return "leaf_const" not in node
    return bool(node["decision_type"] == "<=" and node["missing_type"] in ("NaN", "None"))


def _laid_out(
    node: dict[str, Any], first: int, value: np.ndarray, leaf: np.ndarray
) -> tuple[list[Split], int]:
    """Return the splits of a node and below, and the number after its last leaf.

    Leaves are numbered from left to right, the node's from `first` on; what they say is filled in.
    """
    bits = len(value)
    if "leaf_value" in node:
        multiplier, shift = MAGIC[bits]
        place = ((multiplier << first) % 2**bits) >> shift
        value[place], leaf[place] = node["leaf_value"], node.get("leaf_index", 0)
        return [], first + 1
    left, middle = _laid_out(node["left_child"], first, value, leaf)
    right, end = _laid_out(node["right_child"], middle, value, leaf)
    on_the_left = 2**middle - 2**first
    # without missing values while learning, LightGBM reads one as 0
    none_is_right = (
        not node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] < 0
    )
    own = node["split_feature"], node["threshold"], none_is_right, 2**bits - 1 - on_the_left
    return [own, *left, *right], end


def _at_most(thresholds: list[float]) -> np.ndarray:
    """Return the largest float32 up to each float64: a float32 is above both, or above none."""
    exact = np.array(thresholds, np.float64)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
    return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
