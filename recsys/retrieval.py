"""Candidates out of a catalogue too large to score: no table of requests times items is ever made.

Each form of scores (recsys/scores.py) has its own way to its best: entries are sorted, what is
alike for all is sorted once, products ask for the nearest texts, by an index where they are many,
and what has no texts is compared with in parts. Then the candidates of the union are looked up in
every source, one pair at a time. What comes out is what scoring everything would give, but for what
an index does not find.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recsys.candidates import TEXT_SOURCES, Candidates, ScoresAt, top_items, union
from recsys.index import exact_nearest
from recsys.neighbours import keep_strongest
from recsys.offer import Offer
from recsys.scores import Alike, InParts, Listed, Products, Scores

REQUESTS = 256  # looked at together, whatever the catalogue
CELLS = 1 << 22  # of scores held at once
DEEPEST = 4096  # texts asked of the index for one request; who needs more is compared with all
BETWEEN = 1e-4  # what the whole range of popularity adds to a text score, where texts are shared


@dataclass(frozen=True)
class Shelves:
    """The items of each text, the most popular first."""

    indptr: np.ndarray  # (n_texts + 1,) int64
    item: np.ndarray  # (n_items,) int64
    shared: bool  # some items share a text

    def keep(self, mask: np.ndarray) -> Shelves:
        """Return them with only the items where `mask` (n_items,) holds."""
        if mask.all():
            return self
        kept = mask[self.item]
        ends = np.concatenate([[0], np.cumsum(kept)])
        return Shelves(ends[self.indptr], self.item[kept], self.shared)

    def of(self, text: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (rows of `text`, items): up to `most` items of each text, back to back."""
        counts = np.minimum(self.indptr[text + 1] - self.indptr[text], most)
        row = np.repeat(np.arange(len(text)), counts)
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return row, self.item[self.indptr[text][row] + place]


@dataclass(frozen=True)
class Found:
    """What a source found: some requests' items, with what they were chosen by."""

    request: np.ndarray  # (n,) int64
    item: np.ndarray  # (n,) int64
    value: np.ndarray  # (n,) float32

    def best(self, k: int) -> tuple[Found, np.ndarray]:
        """Return the k best of each request, equal ones by item; and their places, from 1."""
        order = np.lexsort((self.item, -self.value, self.request))
        counts = np.bincount(self.request)
        starts = np.cumsum(counts) - counts
        place = np.arange(1, len(order) + 1) - starts[self.request[order]]
        return self.rows(order[place <= k]), place[place <= k]

    def rows(self, which: np.ndarray) -> Found:
        """Return some rows, by number or flag."""
        return Found(self.request[which], self.item[which], self.value[which])


@dataclass(frozen=True)
class Ask:
    """What is asked of each source, and what there is to answer from."""

    offer: Offer
    shelves: Shelves  # of the items that may be listed
    popularity: np.ndarray | None  # (n_items,) float32 in 0..1; None = it decides nothing
    rows: np.ndarray  # requests that are asked for, ascending
    k: int
    least: float  # only a score above it is found

    @property
    def deep(self) -> int:
        """How many of a request's best have k among them that it may get."""
        return self.k + self.offer.spare

    @property
    def margin(self) -> float:
        """What popularity adds to a score, at most."""
        return 0.0 if self.popularity is None else BETWEEN

    def weigh(self, found: Found) -> Found:
        """Leave out what must not be listed and what says nothing; let popularity decide."""
        some = found.value > self.least
        some[some] = self.offer.allows(found.request[some], found.item[some])
        found = found.rows(some)
        if self.popularity is None:
            return found
        value = found.value + BETWEEN * self.popularity[found.item]
        return Found(found.request, found.item, value)


def shelve(text_of_item: np.ndarray, n_texts: int, by_popularity: np.ndarray) -> Shelves:
    """Put items on the shelves of their texts.

    Args:
        text_of_item: (n_items,) int64.
        n_texts: how many texts there are.
        by_popularity: (n_items,) item codes, the most popular first.
    """
    order = np.argsort(text_of_item[by_popularity], kind="stable")
    counts = np.bincount(text_of_item, minlength=n_texts)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return Shelves(indptr, by_popularity[order].astype(np.int64), bool((counts > 1).any()))


def retrieve(
    sources: Mapping[str, Scores], quotas: Mapping[str, int], least: Mapping[str, float],
    offer: Offer, shelves: Shelves, popularity: np.ndarray, cold: np.ndarray, scores_at: ScoresAt,
) -> Candidates:  # fmt: skip
    """Take the best of each source and merge them, as `merge_candidates` does of a small catalogue.

    Args:
        sources: what each says.
        quotas: source -> how many of its best to take.
        least: source -> a score must be above this to count as found; -inf where absent.
        offer: what each request may get.
        shelves: the items of each text.
        popularity: (n_items,) float32 in 0..1; decides between items that share a text.
        cold: (n_requests,) bool, who took nothing: text finds nothing for them.
        scores_at: looks pairs up in every source.
    """
    n_items, shelves = len(offer.items), shelves.keep(offer.possible)
    everybody, found = np.arange(len(cold)), {}
    for name in (name for name in sources if quotas[name]):
        of_text = name in TEXT_SOURCES
        between = popularity if of_text and shelves.shared else None
        rows = np.flatnonzero(~cold) if of_text else everybody
        ask = Ask(offer, shelves, between, rows, quotas[name], least.get(name, -np.inf))
        best, place = best_of(sources[name], ask).best(ask.k)
        found[name] = (best.request * n_items + best.item, place)
    return union(found, n_items, scores_at)


def best_of(scores: Scores, ask: Ask) -> Found:
    """Return at least the k best of each request asked for."""
    if isinstance(scores, Listed):
        return _of_entries(scores, ask)
    if isinstance(scores, Alike):
        return _of_all_alike(scores, ask)
    if isinstance(scores, Products) and scores.text_of_item is not None:
        return _by_text(scores, ask)
    assert isinstance(scores, InParts)
    return _in_parts(scores, ask)


def _of_entries(scores: Listed, ask: Ask) -> Found:
    """Sort the entries above 0 that are not too weak; those of a text stand for its items."""
    entries = scores.entries
    if scores.text_of_item is None:
        some = ask.offer.possible[entries.indices]
    else:
        some = np.diff(ask.shelves.indptr)[entries.indices] > 0
    asked = np.isin(np.arange(entries.shape[0]), ask.rows)
    some &= np.repeat(asked, np.diff(entries.indptr)) & (entries.data > 0)
    possible = _kept(entries, some)
    if scores.text_of_item is None:
        possible = keep_strongest(possible, ask.deep)
    else:  # equal texts are to go by item, not by text
        possible = _not_too_weak(possible, ask.deep, ask.margin)
    request = np.repeat(np.arange(possible.shape[0]), np.diff(possible.indptr))
    item, value = possible.indices.astype(np.int64), possible.data.astype(np.float32)
    if scores.text_of_item is not None:
        row, item = ask.shelves.of(item, ask.deep)
        request, value = request[row], value[row]
    return ask.weigh(Found(request, item, value))


def _not_too_weak(entries: sparse.csr_matrix, deep: int, margin: float) -> sparse.csr_matrix:
    """Return the entries that may be among the `deep` best when up to `margin` is added to each."""
    best = keep_strongest(entries, deep)
    counts, least = np.diff(best.indptr), np.full(best.shape[0], np.inf)
    np.minimum.at(least, np.repeat(np.arange(len(counts)), counts), best.data)
    least[counts < deep] = 0.0
    return _kept(entries, entries.data >= np.repeat(least - margin, np.diff(entries.indptr)))


def _kept(entries: sparse.csr_matrix, some: np.ndarray) -> sparse.csr_matrix:
    """Return the entries where `some` (n_entries,) holds, as a matrix of its own."""
    indptr = np.concatenate([[0], np.cumsum(some)])[entries.indptr]
    return sparse.csr_matrix((entries.data[some], entries.indices[some], indptr), entries.shape)


def _of_all_alike(scores: Alike, ask: Ask) -> Found:
    """Sort the items once and let each request skip what it may not get."""
    values = np.where(ask.offer.possible, scores.values, np.float32(-np.inf))
    items, best = (some[0] for some in top_items(values[None], ask.deep))
    items, parts = items[best > ask.least], []
    for at in range(0, len(ask.rows), max(1, CELLS // max(1, len(items)))):
        rows = ask.rows[at : at + max(1, CELLS // max(1, len(items)))]
        allowed = ask.offer.allows(rows[:, None], items[None])
        row, place = np.nonzero(allowed & (np.cumsum(allowed, 1) <= ask.k))
        parts.append(Found(rows[row], items[place], scores.values[items[place]]))
    return _join(parts)


def _by_text(scores: Products, ask: Ask) -> Found:
    """Ask for more and more of the nearest texts, until the next cannot be among the k best."""
    parts, rows, depth = [], ask.rows, ask.deep + 1
    while len(rows) and depth <= min(DEEPEST, len(scores.vectors)):
        if scores.index is None:
            texts = exact_nearest(scores.users[rows], scores.vectors, depth)
        else:
            texts = scores.index.search(scores.users[rows], depth)
        at, place = np.nonzero(texts >= 0)
        text = texts[at, place]
        cosine = scores.of_vectors(rows[at], text)
        furthest = np.full(len(rows), np.inf, np.float32)
        np.minimum.at(furthest, at, cosine)
        row, item = ask.shelves.of(text, ask.deep)
        found, rank = ask.weigh(Found(rows[at[row]], item, cosine[row])).best(ask.k)
        last = np.full(len(scores.users), -np.inf, np.float32)
        last[found.request[rank == ask.k]] = found.value[rank == ask.k]
        enough = last[rows] > furthest + ask.margin
        done = np.zeros(len(scores.users), bool)
        done[rows[enough]] = True
        parts.append(found.rows(done[found.request]))
        rows, depth = rows[~enough], 4 * depth
    left = Ask(ask.offer, ask.shelves, ask.popularity, rows, ask.k, ask.least)
    return _join([*parts, _in_parts(scores, left)])


def _in_parts(scores: InParts, ask: Ask) -> Found:
    """Compare with all items that may be listed, some at a time, and keep the best so far."""
    items, best = np.flatnonzero(ask.offer.possible & _scored(scores)), _join([])
    width = max(2 * ask.k, CELLS // max(1, len(ask.rows)))
    for at in range(0, len(items) if len(ask.rows) else 0, width):
        some = items[at : at + width]
        values = scores.part(ask.rows, some)
        values[values <= ask.least] = -np.inf
        if ask.popularity is not None:
            values += BETWEEN * ask.popularity[some]
        place, value = top_items(ask.offer.mask(values, ask.rows, some), ask.k)
        row, column = np.nonzero(value > -np.inf)
        found = Found(ask.rows[row], some[place[row, column]], value[row, column])
        best, _ = _join([best, found]).best(ask.k)
    return best


def _scored(scores: InParts) -> np.ndarray | bool:
    """(n_items,) bool: which items have a score at all; True = all."""
    return getattr(scores, "new", True)


def _join(parts: list[Found]) -> Found:
    """Put what was found behind each other."""
    none = np.zeros(0, np.int64)
    parts = [Found(none, none, np.zeros(0, np.float32)), *parts]
    return Found(*(np.concatenate([getattr(part, name) for part in parts])
                   for name in ("request", "item", "value")))  # fmt: skip
