"""The embedding cache: a text is encoded once by an encoder, ever.

A folder for each encoder (named by the fingerprint of its weights and settings) holds Parquet parts
of (text hash, vector). Each part is written whole, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.encoder import OnBatch, TextEncoder
from recsys.writing import write_whole

PART_TEXTS = 2048  # texts between two writes: what a kill can lose


def encode_cached(
    encoder: TextEncoder,
    texts: Sequence[str],
    folder: Path,
    on_batch: OnBatch = lambda texts, tokens, padding: None,
) -> np.ndarray:
    """Encode texts, reading from and adding to the cache.

    Args:
        encoder: gives the vectors of texts the cache lacks.
        texts: (n,) distinct strings.
        folder: of the cache.
        on_batch: called with (texts, tokens, padding): first of what was found, with no tokens,
            then of each batch.

    Returns:
        (n, dim) float32 unit vectors.
    """
    if not texts:
        return np.zeros((0, encoder.dim), np.float32)
    place = folder / encoder.fingerprint()
    hashes = _hashes(texts)
    vectors = np.empty((len(texts), encoder.dim), np.float32)
    missing = np.ones(len(texts), bool)
    order = np.argsort(hashes, kind="stable")
    for part in sorted(place.glob("part-*.parquet")):
        table = pq.read_table(part)
        stored = np.array(table["text"].to_pylist(), dtype="S16")
        column: Any = table["vector"].combine_chunks()
        values = column.values.to_numpy().reshape(len(table), -1)
        at = np.minimum(np.searchsorted(hashes, stored, sorter=order), len(order) - 1)
        rows = order[at]
        hit = hashes[rows] == stored
        vectors[rows[hit]] = values[hit]
        missing[rows[hit]] = False
    on_batch(int((~missing).sum()), 0, 0)
    todo = np.flatnonzero(missing)
    todo = todo[np.argsort([len(texts[row]) for row in todo.tolist()], kind="stable")]
    for start in range(0, len(todo), PART_TEXTS):
        rows = todo[start : start + PART_TEXTS]
        vectors[rows] = encoder.encode([texts[row] for row in rows.tolist()], on_batch)
        _write_part(place, hashes[rows], vectors[rows])
    return vectors


def keep_vectors(
    folder: Path, encoder: TextEncoder, texts: Sequence[str], vectors: np.ndarray
) -> None:
    """Write vectors (n, dim) of texts (n,) into a cache, as `encode_cached` would have."""
    hashes = _hashes(texts)
    for start in range(0, len(texts), PART_TEXTS):
        some = slice(start, start + PART_TEXTS)
        _write_part(folder / encoder.fingerprint(), hashes[some], vectors[some])


def _hashes(texts: Sequence[str]) -> np.ndarray:
    """(n,) S16: what texts are stored under."""
    return np.array([hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts],
                    dtype="S16")  # fmt: skip


def _write_part(place: Path, hashes: np.ndarray, vectors: np.ndarray) -> None:
    """Add one part under a name that tells its content."""
    name = hashlib.blake2b(hashes.tobytes(), digest_size=8).hexdigest()
    flat = pa.array(vectors.ravel(), pa.float32())
    table = pa.table({
        "text": pa.array([bytes(value).ljust(16, b"\0") for value in hashes], pa.binary(16)),
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    })  # fmt: skip
    write_whole(place / f"part-{name}.parquet", lambda temp: pq.write_table(table, temp))
