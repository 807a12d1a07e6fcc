"""Index the texts of a catalogue too large to compare with each, and say what the index finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines.prepared import Prepared
from pipelines.recommender import LOOK_BACK
from pipelines.textmodel import Show, distinct_texts
from recsys.asof import last_items, past_of
from recsys.candidates import CandidateConfig
from recsys.dataset import DAY, Items
from recsys.index import TextIndex, build_index, check_index, recall_words
from recsys.interest import TextModel

SAMPLE_USERS, SAMPLE_SEED = 200, 0  # that recall is measured on


def check_texts(items: Items, candidates: CandidateConfig) -> None:
    """Refuse early where an index will be needed and cannot be built.

    Raises:
        ConfigError: faiss is not installed.
    """
    if len(items) > candidates.dense_items < len(distinct_texts(items.text)[0]):
        check_index()


def indexed(
    texts: TextModel, candidates: CandidateConfig, prepared: Prepared, before: int, show: Show
) -> TextModel:
    """Index a text model, where it has more texts than are compared with one by one.

    Args:
        texts: the text model; an index that it has already stays.
        candidates: from how many on, and which sources ask.
        prepared: whose users the recall is measured on.
        before: the moment; later events are not looked at.
        show: progress.
    """
    if len(texts.text_of_item) <= candidates.dense_items or (
        len(texts.frozen) <= candidates.dense_items
    ):
        return texts
    users = texts.users(_recent(prepared, before, texts.pooling.history))
    frozen, tuned = texts.frozen_index, texts.tuned_index
    if candidates.frozen_interest and frozen is None:
        frozen = _shown("frozen_interest", texts.frozen, users[0], show)
    if candidates.interest and tuned is None:
        tuned = _shown("interest", texts.tuned, users[1], show)
    return replace(texts, frozen_index=frozen, tuned_index=tuned)


def _shown(source: str, vectors: np.ndarray, users: np.ndarray, show: Show) -> TextIndex:
    """Build one index and say how much of the nearest it finds."""
    show(f"index of {source}", 0, 1, "")
    users = users[users.any(1)]
    index = build_index(vectors, users)
    show(f"index of {source}", 1, 1, recall_words(index, len(vectors), len(users)))
    return index


def _recent(prepared: Prepared, before: int, history: int) -> np.ndarray:
    """(n, history) items that some users took last, -1 = none; a bucket's users are a sample."""
    log, rng = prepared.bucket(0), np.random.default_rng(SAMPLE_SEED)
    some = np.sort(rng.permutation(len(log.users))[:SAMPLE_USERS])
    unit = DAY if prepared.windows.dated else 1
    past = past_of(log, log.users[some], np.full(len(some), before), unit, LOOK_BACK)
    return last_items(past.keep(past.grade > 0), history)
