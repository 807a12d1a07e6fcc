"""RecTools' side of `benchmarks.metrics`; runs in an environment of its own, without our code.

    python -m venv rectools && rectools/bin/pip install 'rectools==0.19.*'
    rectools/bin/python benchmarks/rectools_metrics.py record tests/rectools_0_19.json
    rectools/bin/python benchmarks/rectools_metrics.py time LISTS.npz OUT.json

`record` writes RecTools' values of a few random lists, with the lists: tests/test_metrics_agree.py
compares ours with them. `time` is called by `benchmarks.metrics`, with its lists.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import rectools
from rectools import metrics as theirs

KS = (5, 10, 20, 50)
FEW = (1, 3, 10)


class Cosine(theirs.PairwiseDistanceCalculator):
    """1 - cosine of unit vectors."""

    def __init__(self, vectors: np.ndarray):
        self.vectors = vectors

    def _get_distances_for_item_pairs(self, items_0, items_1):
        pairs = (self.vectors[np.asarray(items_0)], self.vectors[np.asarray(items_1)])
        return 1 - np.einsum("nd,nd->n", *pairs)


def metrics_at(ks) -> dict[str, object]:
    """Return the metrics that both sides have, under our names."""
    kinds = {
        "ndcg": lambda k: theirs.NDCG(k, divide_by_achievable=True), "recall": theirs.Recall,
        "hr": theirs.HitRate, "mrr": theirs.MRR, "map": theirs.MAP,
        "novelty": theirs.MeanInvUserFreq, "popularity": theirs.AvgRecPopularity,
        "serendipity": theirs.Serendipity,
    }  # fmt: skip
    return {f"{name}_at_{k}": make(k) for name, make in kinds.items() for k in ks}


def tables_of(lists, request, item) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return recommendations and interactions as RecTools takes them; a request is a user."""
    row, place = np.nonzero(lists >= 0)
    reco = pd.DataFrame({"user_id": row, "item_id": lists[row, place], "rank": place + 1})
    return reco, pd.DataFrame({"user_id": request, "item_id": item})


def timed(lists_file: str, out: str) -> None:
    """Let RecTools evaluate the lists; write its values and what it took."""
    given = np.load(lists_file)
    reco, taken = tables_of(given["lists"], given["request"], given["item"])
    past = pd.DataFrame({"user_id": given["past_user"], "item_id": given["past_item"]})
    before = peak()
    start = time.perf_counter()
    values = theirs.calc_metrics(
        metrics_at(KS), reco, taken, past, catalog=np.arange(int(given["n_items"]))
    )
    seconds = time.perf_counter() - start
    found = {"seconds": seconds, "peak_bytes": peak(), "peak_before": before,
             "version": rectools.__version__, "values": values}  # fmt: skip
    Path(out).write_text(json.dumps(found))


def record(out: str) -> None:
    """Write RecTools' values of 40 short lists, some empty, some with nothing relevant."""
    rng, n_items = np.random.default_rng(7), 25
    lists = np.full((40, 10), -1)
    for row in range(40):
        n = int(rng.integers(0, 11)) if row % 3 else 10
        lists[row, :n] = rng.permutation(n_items)[:n]
    relevant = [(row, int(one)) for row in range(40) if row % 7
                for one in rng.permutation(n_items)[: rng.integers(1, 6)]]  # fmt: skip
    drawn = np.unique(rng.integers(0, [30, n_items - 2], (200, 2)), axis=0)  # two of no past
    vectors = rng.normal(size=(n_items, 4))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).round(6)
    given = {"lists": lists.tolist(), "relevant": relevant, "n_items": n_items,
             "past": drawn.tolist(), "vectors": vectors.tolist()}  # fmt: skip
    reco, taken = tables_of(lists, *np.array(relevant).T)
    past = pd.DataFrame(drawn, columns=["user_id", "item_id"])
    catalogue, values = np.arange(n_items), {}
    chosen = metrics_at(FEW)
    chosen |= {f"precision_at_{k}": theirs.Precision(k) for k in FEW}
    for name, metric in chosen.items():
        if name.startswith(("novelty", "popularity")):
            found = metric.calc_per_user(reco, past)
        elif name.startswith("serendipity"):
            found = metric.calc_per_user(reco, taken, past, catalogue)
        else:
            found = metric.calc_per_user(reco, taken)
        values[name] = {str(user): float(value) for user, value in found.items()}
    for k in FEW:
        spread = theirs.IntraListDiversity(k, Cosine(vectors)).calc_per_user(reco)
        values[f"intra_list_distance_at_{k}"] = {str(u): float(v) for u, v in spread.items()}
        covered = theirs.CatalogCoverage(k, normalize=True).calc(reco, catalogue)
        values[f"coverage_at_{k}"] = float(covered)
    content = {"version": rectools.__version__, "ks": FEW, "given": given, "values": values}
    Path(out).write_text(json.dumps(content) + "\n")


def peak() -> int:
    """Most resident bytes of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    {"record": record, "time": timed}[sys.argv[1]](*sys.argv[2:])
