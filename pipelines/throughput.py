"""How fast the text side goes: texts, tokens and pairs a second, and how much of it is padding."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Throughput:
    """Sums over a run; what a cache held is not in them, and says so by being 0."""

    texts: int = 0  # encoded
    tokens: int = 0  # in them
    padding: int = 0  # encoded beside them, to fill up batches
    encoding_s: float = 0.0
    pairs: int = 0  # (user, next text) that the head learned from, each pass counted
    learning_s: float = 0.0
    losses: list[float] = field(default_factory=list)  # of each step of the head
    speeds: list[float] = field(default_factory=list)  # texts a second so far, after each batch
    _since_s: float = field(default_factory=lambda: time.perf_counter(), repr=False)

    def begin(self, note: str = "") -> str:
        """Start the clock of what is counted next; return the note."""
        self._since_s = time.perf_counter()
        return note

    def paused(self, score: Callable[[T], float]) -> Callable[[T], float]:
        """Return `score` with the clock standing still while it works."""

        def scored(what: T) -> float:
            since_s = time.perf_counter() - self._since_s
            value = score(what)
            self._since_s = time.perf_counter() - since_s
            return value

        return scored

    def encoded(self, texts: int, tokens: int, padding: int) -> str:
        """Count a batch; return the progress line's note."""
        self.texts += texts
        self.tokens += tokens
        self.padding += padding
        self.encoding_s += self._lap_s()
        self.speeds.append(self.texts / self.encoding_s)
        rate = f"{self.tokens / self.encoding_s:,.0f} tokens/s"
        return f"texts, {rate}, {self.padding_share:.0%} padding"

    def learned(self, pairs: int, loss: float) -> str:
        """Count a step of the head; return the progress line's note."""
        self.pairs += pairs
        self.learning_s += self._lap_s()
        self.losses.append(loss)
        return f"loss {loss:.3f}, {self.pairs / self.learning_s:,.0f} pairs/s"

    @property
    def padding_share(self) -> float:
        """Of all that was encoded, the share that is padding."""
        return self.padding / max(self.tokens + self.padding, 1)

    def described(self) -> dict[str, float | None]:
        """Return what a report says of it; None where nothing was done."""
        encoded, learned = self.encoding_s if self.texts else 0.0, self.learning_s
        return {
            "texts": self.texts,
            "padding_share": self.padding_share if self.texts else None,
            "texts_per_second": self.texts / encoded if encoded else None,
            "tokens_per_second": self.tokens / encoded if encoded else None,
            "pairs_per_second": self.pairs / learned if learned else None,
        }

    def _lap_s(self) -> float:
        now = time.perf_counter()
        lap, self._since_s = now - self._since_s, now
        return lap
