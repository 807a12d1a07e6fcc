"""The recommender's lists made with pandas: neighbour tables joined to histories, groups summed.

What `benchmarks.joins` compares us with. Everything is a long table with one row a fact: an event;
an item and a neighbour; a user, an item and a score. Sources are a join and a sum, features are
groups and left joins, the best of a source is a sort and the head of each group. Vectors are no
tables: cosines of texts are NumPy products, their best an argpartition. Only what is the model is
the same code on both sides: the pooling of user vectors and LightGBM. Sources that are off by
default are not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.pair import LAST_ITEMS
from features.table import RANKED
from pipelines.recommender import LOOK_BACK, Method, Snapshot
from recsys.candidates import OPTIONAL
from recsys.dataset import DAY, Log
from recsys.neighbours import Neighbours
from recsys.ranker import Ranker
from recsys.sources import NEGLIGIBLE

PAIR = ["user", "item"]
PLAIN = ("covisitation", "item_cosine", "ease", "popularity", "repeat")  # sources not reading text


@dataclass(frozen=True)
class Tables:
    """What is known at a moment, as tables; made once."""

    method: Method
    snapshot: Snapshot
    moment: int
    events: pd.DataFrame  # of all users before the moment: user, item, moment, grade, price
    items: pd.DataFrame  # by item: features, category, brand, text, popularity from 1 down to 0
    neighbours: dict[str, pd.DataFrame]  # item (or text), other, strength


@dataclass(frozen=True)
class Looked:
    """Some users at the moment."""

    users: np.ndarray  # (n_users,) int64
    events: pd.DataFrame  # looked back on
    totals: pd.DataFrame  # by user: of all events
    taken: pd.DataFrame  # of these the taken ones, with back and weight
    scores: dict[str, pd.DataFrame]  # source -> user, item, score; where there is one
    text: dict[str, np.ndarray]  # source -> (n_users, n_items) cosines
    recent: np.ndarray  # (n_users, n) items taken last, most recent first, -1 = none


def tables_of(method: Method, snapshot: Snapshot, log: Log, moment: int) -> Tables:
    """Lay out as tables what `look` and `table_of` get as arrays."""
    past = log.before(moment)
    events = pd.DataFrame({"user": past.users[past.row], "item": past.item.astype(np.int64),
                           "moment": past.moment, "grade": past.grade,
                           "price": past.price.astype(float)})  # fmt: skip
    catalogue, state, related = method.items, snapshot.state, snapshot.related
    popularity = np.empty(len(catalogue), np.float32)
    popularity[state.by_popularity] = np.linspace(1, 0, len(catalogue))
    items = pd.DataFrame(snapshot.of_items | {
        "category": catalogue.category, "brand": catalogue.brand,
        "text": snapshot.texts.text_of_item, "popularity": popularity,
        "offered": (catalogue.available_from <= moment) & (moment < catalogue.available_until),
    }).rename_axis("item").reset_index()  # fmt: skip
    matrices = {"lexical": snapshot.texts.lexical, "covisitation": state.follows,
                "precedes": state.precedes, "item_cosine": related.cosine,
                "ease": related.ease}  # fmt: skip
    neighbours = {name: long(matrix) for name, matrix in matrices.items()}
    return Tables(method, snapshot, moment, events, items, neighbours)


def long(matrix: Neighbours) -> pd.DataFrame:
    """Return the entries of a sparse matrix as rows."""
    entries = matrix.tocoo()
    item, other = entries.row.astype(np.int64), entries.col.astype(np.int64)
    return pd.DataFrame({"item": item, "other": other, "strength": entries.data})


def lists(tables: Tables, users: np.ndarray, ranker: Ranker, k: int) -> pd.DataFrame:
    """Return user, item, score and rank of the k best of each user."""
    looked = look_at(tables, users)
    found = candidates(tables, looked)
    table = described(tables, looked, found)[list(ranker.features)]
    found["score"] = ranker.booster.predict(table.to_numpy(np.float32))  # on all cores
    best = found.sort_values(["user", "score", "item"], ascending=[True, False, True])
    best = best.groupby("user").head(k)
    return best.assign(rank=best.groupby("user").cumcount() + 1)


def look_at(tables: Tables, users: np.ndarray) -> Looked:
    """Look back from the moment and score items by every source."""
    method, decay = tables.method, tables.method.candidates.history_decay
    events = tables.events[tables.events["user"].isin(users)]
    totals = events.groupby("user").agg(user_events=("item", "size"), first=("moment", "min"))
    events = events.groupby("user").tail(LOOK_BACK)
    taken = events[events["grade"] > 0]
    taken = taken.assign(day=taken["moment"] // method.unit)
    taken["back"] = taken.groupby("user")["day"].rank("dense", ascending=False) - 1
    taken["weight"] = decay ** taken["back"]
    repeat = taken.groupby(PAIR, as_index=False)["weight"].sum()
    heard = repeat[repeat["weight"] >= NEGLIGIBLE]
    last = taken[taken["back"] == 0].groupby(PAIR, as_index=False).agg(weight=("item", "size"))
    scores = {name: joined(heard, tables.neighbours[name])
              for name in ("covisitation", "precedes", "item_cosine", "ease")}  # fmt: skip
    scores |= {f"last_{name}": joined(last, tables.neighbours[name])
               for name in ("covisitation", "ease")}  # fmt: skip
    scores |= {"lexical": by_words(tables, heard), "last_lexical": by_words(tables, last)}
    scores["repeat"] = repeat.rename(columns={"weight": "score"})
    recent = np.full((len(users), max(LAST_ITEMS, tables.snapshot.texts.pooling.history)), -1)
    place = taken.groupby("user").cumcount(ascending=False)
    some = taken[place < recent.shape[1]]
    recent[np.searchsorted(users, some["user"]), place[some.index]] = some["item"]
    return Looked(users, events, totals, taken, scores, by_text(tables, recent), recent)


def joined(history: pd.DataFrame, neighbours: pd.DataFrame) -> pd.DataFrame:
    """Sum the strengths of all past items, weighted."""
    pairs = history.merge(neighbours, on="item")
    pairs["score"] = pairs["weight"] * pairs["strength"]
    summed = pairs.groupby(["user", "other"], as_index=False)["score"].sum()
    return summed.rename(columns={"other": "item"})


def by_words(tables: Tables, history: pd.DataFrame) -> pd.DataFrame:
    """Do the same by way of the items' texts."""
    text = tables.items[["item", "text"]]
    of_texts = history.merge(text, on="item").drop(columns="item").rename(columns={"text": "item"})
    scores = joined(of_texts, tables.neighbours["lexical"]).rename(columns={"item": "text"})
    return scores.merge(text, on="text").drop(columns="text").sort_values(PAIR)


def by_text(tables: Tables, recent: np.ndarray) -> dict[str, np.ndarray]:
    """Return the interest scores of all items."""
    texts = tables.snapshot.texts
    frozen, tuned = texts.users(recent[:, : texts.pooling.history])
    return {"interest": (tuned @ texts.tuned.T)[:, texts.text_of_item],
            "frozen_interest": (frozen @ texts.frozen.T)[:, texts.text_of_item]}  # fmt: skip


def candidates(tables: Tables, looked: Looked) -> pd.DataFrame:
    """Return user, item and how many sources not reading text found it, by user and item."""
    method, quotas = tables.method, tables.method.candidates
    items = tables.items[tables.items["offered"]]
    seen = tables.events[tables.events["user"].isin(looked.users) & (tables.events["grade"] > 0)]
    seen = seen[PAIR].drop_duplicates() if method.exclude_seen else seen.iloc[:0][PAIR]
    texts = tables.snapshot.texts
    tie = 1e-4 if len(texts.frozen) < len(texts.text_of_item) else 0.0  # items of one text
    between = tie * tables.items["popularity"].to_numpy()
    found = []
    for name in ("lexical", "covisitation", "item_cosine", "ease", "repeat"):
        scores = looked.scores[name]
        scores = scores[(scores["score"] > 0) & scores["item"].isin(items["item"])]
        scores = scores.merge(seen, on=PAIR, how="left_anti")
        by = scores["score"] + (between[scores["item"]] if name == "lexical" else 0.0)
        found.append(best(scores.assign(by=by), getattr(quotas, name)).assign(source=name))
    most = quotas.popularity + int(seen.groupby("user").size().max() if len(seen) else 0)
    popular = items.sort_values("popularity", ascending=False)[["item", "popularity"]].head(most)
    everybody = pd.DataFrame({"user": looked.users}).merge(popular, how="cross")
    everybody = everybody.merge(seen, on=PAIR, how="left_anti").rename(columns={"popularity": "by"})
    found.append(best(everybody, quotas.popularity).assign(source="popularity"))
    row, hidden = np.searchsorted(looked.users, seen["user"]), ~tables.items["offered"].to_numpy()
    for name, cosines in looked.text.items():
        order = cosines + between
        order[row, seen["item"]] = -np.inf
        order[:, hidden] = -np.inf
        k = min(getattr(quotas, name), order.shape[1])
        some = np.argpartition(-order, k - 1, axis=1)[:, :k]
        flat = {"user": np.repeat(looked.users, k), "item": some.ravel()}
        listed = np.take_along_axis(order, some, 1).ravel() > -np.inf
        found.append(pd.DataFrame(flat)[listed].assign(source=name))
    union = pd.concat(found)
    union["sources"] = union["source"].isin(PLAIN)
    return union.groupby(PAIR, as_index=False)["sources"].sum()


def best(scores: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return user and item of the `k` rows of each user with the largest `by`."""
    return scores.sort_values("by", ascending=False, kind="stable").groupby("user").head(k)[PAIR]


def described(tables: Tables, looked: Looked, found: pd.DataFrame) -> pd.DataFrame:
    """Describe candidates by every feature of the catalogue; rows stay as they are."""
    table = found.merge(of_users(tables, looked), on="user", how="left")
    table = table.merge(tables.items, on="item", how="left")
    for name, scores in looked.scores.items():
        table = table.merge(scores.rename(columns={"score": name}), on=PAIR, how="left")
    table = table.fillna(dict.fromkeys(looked.scores, 0.0))
    row = np.searchsorted(looked.users, table["user"])
    for name, cosines in looked.text.items():
        table[name] = cosines[row, table["item"]]
    ranked = [name for name in RANKED if name not in OPTIONAL]
    ranks = table.groupby("user")[ranked].rank("min", ascending=False)
    table = table.join(ranks.add_suffix("_rank"))
    table = of_pairs(tables, looked, table)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(table["item_price"] / table["user_price"])
    table["pair_price_ratio"] = ratio.where(np.isfinite(ratio))
    texts = tables.snapshot.texts
    text = texts.text_of_item[table["item"]]
    recent = np.where(looked.recent >= 0, texts.text_of_item[looked.recent], -1)[row, :LAST_ITEMS]
    tuned = similarities(texts.tuned, text, recent)
    table["pair_last_similarity"], table["pair_best_similarity"] = tuned[:, 0], tuned.max(1)
    table["pair_best_frozen_similarity"] = similarities(texts.frozen, text, recent).max(1)
    return table


def similarities(vectors: np.ndarray, text: np.ndarray, recent: np.ndarray) -> np.ndarray:
    """Return (n_rows, n) cosines of each row's text with the user's last ones; -inf where none."""
    theirs = vectors[text]
    cosines = [np.einsum("nd,nd->n", theirs, vectors[last]) for last in recent.T]
    return np.where(recent >= 0, np.stack(cosines, 1), -np.inf)


def of_users(tables: Tables, looked: Looked) -> pd.DataFrame:
    """Describe the users."""
    events, taken, table = looked.events, looked.taken, looked.totals
    groups = taken.groupby("user")
    size, distinct = groups.size(), groups["item"].nunique()
    table = table.assign(user_recent_items=distinct, user_repeat_share=(size - distinct) / size,
                         user_price=groups["price"].mean())  # fmt: skip
    if tables.method.dated:
        lately = events[events["moment"] >= tables.moment - 28 * DAY]
        times = events.groupby("user")["moment"].agg(["min", "max"])
        active = (events["moment"] // DAY).groupby(events["user"]).nunique()
        gap = (times["max"] - times["min"]) / DAY / (active - 1)
        table = table.assign(
            user_events_28d=lately.groupby("user").size(), user_gap_days=gap.where(active > 1),
            user_idle_days=(tables.moment - times["max"]) / DAY,
            user_age_days=(tables.moment - table["first"]) / DAY,
        ).fillna({"user_events_28d": 0})  # fmt: skip
    return table.fillna({"user_recent_items": 0}).reset_index()


def of_pairs(tables: Tables, looked: Looked, table: pd.DataFrame) -> pd.DataFrame:
    """Add what the user's own past says of each row's item, category and brand."""
    taken, events = looked.taken, looked.events
    own = taken.groupby(PAIR, as_index=False).agg(
        pair_events=("item", "size"), pair_back=("back", "min"), newest=("moment", "max"),
        oldest=("moment", "min"),
    )  # fmt: skip
    shown = events[events["grade"] == 0].groupby(PAIR, as_index=False).size()
    table = table.merge(own, on=PAIR, how="left")
    table = table.merge(shown.rename(columns={"size": "pair_negative"}), on=PAIR, how="left")
    if tables.method.dated:
        gap = (table["newest"] - table["oldest"]) / DAY / (table["pair_events"] - 1)
        gap = gap.where(table["pair_events"] > 1)
        table["pair_idle_days"] = (tables.moment - table["newest"]) / DAY
        table["pair_due"] = table["pair_idle_days"] / gap.clip(lower=1)
    table = table.fillna({"pair_events": 0, "pair_negative": 0})
    total = taken.groupby("user", as_index=False).agg(total=("weight", "sum"))
    table = table.merge(total, on="user", how="left")
    kinds = taken.merge(tables.items[["item", "category", "brand"]], on="item")
    for kind in ("category", "brand"):
        share, back = f"pair_{kind}_share", f"pair_{kind}_back"
        of_kind = kinds.groupby(["user", kind], as_index=False).agg(
            **{share: ("weight", "sum"), back: ("back", "min")}
        )
        table = table.merge(of_kind, on=["user", kind], how="left")
        table[share] = table[share].fillna(0) / table["total"]
        table.loc[table[kind] < 0, [share, back]] = np.nan
    return table
