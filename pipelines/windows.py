"""Walk a window: state rolled forward, requests seen in blocks, one bucket of users at a time.

Blocks are looked at in threads, so what is done with one must draw nothing from what they share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from pipelines.prepared import Prepared
from pipelines.recommender import Block, Method, Snapshot, chunks, look, snapshot_of
from recsys.dataset import DAY, Log
from recsys.interest import TextModel
from recsys.related import Related
from recsys.split import Requests, requests_in
from recsys.state import ItemState, StateConfig, state_at
from recsys.threads import in_threads

Result = TypeVar("Result")


@dataclass(frozen=True)
class Fitted:
    """Parts fitted once, on events strictly before `before`."""

    before: int
    texts: TextModel
    related: Related
    states: dict[int, ItemState] = field(default_factory=dict)  # last counted, to walk again


KEPT_STATES = 8  # a state of 100 k items is some 100 MB


@dataclass(frozen=True)
class Step:
    """Some requests of a walk, looked at."""

    number: int  # from 0
    snapshot: Snapshot
    requests: Requests
    block: Block


def snapshot_spans(span: tuple[int, int], dated: bool, every_days: int) -> list[tuple[int, int]]:
    """Cut a window into spans that share one counted state, taken at their start.

    With an order only, `every_days` counts events.
    """
    step = every_days * DAY if dated else every_days
    return [(start, min(start + step, span[1])) for start in range(*span, step)]


def window_requests(prepared: Prepared, window: str, shown: bool = False) -> list[Requests]:
    """Find the requests of a window, one entry a bucket of users; see `requests_in`."""
    span = prepared.windows.span(window)
    logs = (prepared.bucket(i, details=True) for i in range(prepared.n_buckets))
    return [requests_in(log, prepared.windows, *span, shown) for log in logs]


def sample_requests(
    requests: list[Requests], most: int, rng: np.random.Generator
) -> list[Requests]:
    """Keep `most` requests, drawn over all buckets; each stays in order."""
    sizes = np.array([len(part) for part in requests])
    if sizes.sum() <= most:
        return requests
    kept = np.sort(rng.choice(sizes.sum(), most, replace=False))
    ends = np.cumsum(sizes)
    return [
        part.take(kept[(kept >= end - size) & (kept < end)] - (end - size))
        for part, size, end in zip(requests, sizes, ends, strict=True)
    ]


def walk(
    prepared: Prepared,
    method: Method,
    fitted: Fitted,
    requests: list[Requests],
    span: tuple[int, int],
    config: StateConfig,
    use: Callable[[Step], Result],
    only: np.ndarray | None = None,
    size: int | None = None,
) -> Iterator[Result]:
    """Look at the requests of a window in blocks, with the state of each block's time.

    Args:
        prepared: the data.
        method: settings and catalogue.
        fitted: parts fitted before the window.
        requests: what to look at, one entry a bucket.
        span: (start, end) of the window.
        config: how the state is counted, and how often.
        use: what becomes of a block; called in a thread, several at once.
        only: (n_items,) bool, items that may be listed.
        size: requests of a block; None = as many as the method looks at together.

    Yields:
        What `use` makes of each block, in order.
    """

    def looked_at(task: tuple[int, Snapshot, Log, Requests]) -> Result:
        number, snapshot, log, some = task
        block = look(method, snapshot, log, some.user, some.moment, only)
        return use(Step(number, snapshot, some, block))

    size = size or method.block_size
    blocks = _blocks(prepared, method, fitted, requests, span, config, size)
    yield from in_threads(looked_at, blocks)


def _blocks(
    prepared: Prepared, method: Method, fitted: Fitted, requests: list[Requests],
    span: tuple[int, int], config: StateConfig, size: int,
) -> Iterator[tuple[int, Snapshot, Log, Requests]]:  # fmt: skip
    """Cut a walk into blocks: number, the state before it, the log of its bucket, its requests."""
    number = 0
    for start, end in snapshot_spans(span, method.dated, config.every_days):
        inside = [part.take(np.flatnonzero((part.moment >= start) & (part.moment < end)))
                  for part in requests]  # fmt: skip
        if not any(len(part) for part in inside):
            continue
        state = _state(prepared, method, fitted, start, config)
        snapshot = snapshot_of(method, state, fitted.related, fitted.texts)
        for bucket, part in enumerate(inside):
            if not len(part):
                continue
            log = prepared.bucket(bucket)
            for rows in chunks(len(part), size):
                yield number, snapshot, log, part.take(rows)
                number += 1


def _state(
    prepared: Prepared, method: Method, fitted: Fitted, as_of: int, config: StateConfig
) -> ItemState:
    """Count the state, or take it from the last walks over the same window."""
    if as_of not in fitted.states:
        while len(fitted.states) >= KEPT_STATES:
            del fitted.states[next(iter(fitted.states))]
        fitted.states[as_of] = state_at(
            prepared.buckets(), as_of, len(method.items), method.dated, config
        )
    return fitted.states[as_of]
