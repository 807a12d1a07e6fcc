"""What benchmarks.race writes down: points on a clock, who was first, and the picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from transformers import TrainerCallback

from recsys.progress import Show

OURS, THEIRS = "ours", "sentence-transformers"
WARM_UP = 0.1  # share of their time
Point = dict[str, Any]  # after, seconds, ndcg_at_10


class Curve:
    """The points of one side, on a clock that starts now and stands still while it is measured."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._began = time.perf_counter()

    def seconds(self) -> float:
        """Return what was spent on learning so far."""
        return time.perf_counter() - self._began

    def add(self, after: str, measure: Callable[[], float]) -> None:
        """Measure NDCG@10."""
        spent = self.seconds()
        self.points.append({"after": after, "seconds": spent, "ndcg_at_10": measure()})
        self._began = time.perf_counter() - spent


class Referee(TrainerCallback):
    """Measures their side on time, ends it on time, and says how far it is."""

    def __init__(
        self, curve: Curve, measure: Callable[[], float], limit_s: float, every_s: float, show: Show
    ):
        self.curve, self.measure, self.show = curve, measure, show
        self.limit_s, self.every_s, self.due_s = limit_s, every_s, every_s

    def rate(self) -> float:
        """Return the learning rate of this moment as a share of the highest: up, then down."""
        share = self.curve.seconds() / self.limit_s
        return max(0.0, min(share / WARM_UP, (1 - share) / (1 - WARM_UP)))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure where it is time, and at the end, which is here too."""
        spent = self.curve.seconds()
        control.should_training_stop = spent >= self.limit_s
        if spent >= min(self.due_s, self.limit_s):
            self.curve.add(f"step {state.global_step:,}", self.measure)
            self.due_s = (spent // self.every_s + 1) * self.every_s

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Say which step it is, its loss, and how much time is spent."""
        if "loss" in logs:
            note = f"loss {logs['loss']:.3f}, {self.curve.seconds():.0f} of {self.limit_s:.0f} s"
            self.show("train, theirs", state.global_step, 0, note)


def result(mine: list[Point], other: list[Point]) -> dict[str, Any]:
    """Find their best point after training began, and the first of ours that is better."""
    value = "ndcg_at_10"
    best = max(other[1:], key=lambda point: point[value])
    passed = next((point for point in mine if point[value] > best[value]), None)
    ratio = passed["seconds"] / best["seconds"] if passed else None
    words = [f"frozen: {mine[0][value]:.4f}",
             f"best of {THEIRS}: {best[value]:.4f} after {best['seconds']:,.1f} s"]  # fmt: skip
    if best[value] <= other[0][value]:
        words.append(f"{THEIRS} never beat the frozen encoder; its best trained point counts")
    words.append("ours never was better")
    if passed:
        words[-1] = f"ours was better after {passed['seconds']:,.1f} s ({passed['after']})"
        words.append(f"ratio of the two times: {ratio:.4f}")
    return {OURS: mine, THEIRS: other, "frozen": mine[0][value], "best_of_theirs": best,
            "ours_passed": passed, "ratio": ratio, "words": words}  # fmt: skip


def draw(report: dict[str, Any], title: str, path: Path) -> None:
    """Draw both curves over seconds of training."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for side, colour in ((OURS, "tab:green"), (THEIRS, "tab:orange")):
        _, seconds, ndcg = zip(*(point.values() for point in report[side]), strict=True)
        axes.plot(seconds, ndcg, marker="o", color=colour, label=side)
    axes.axhline(report["frozen"], linestyle=":", color="tab:gray", label="frozen encoder")
    axes.set(xscale="log", xlabel="seconds of training", title=f"{title}: one encoder, fine-tuned",
             ylabel="NDCG@10 over distinct texts, valid window")  # fmt: skip
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
