"""How far a long task is: a live display on a terminal, a few lines of a log anywhere else.

Whoever does the work calls `show(task, done, total, note)` as often as it likes. `total` is 0 while
it is unknown; a task ends when `done` reaches `total`, and may then begin again. Tasks come one
after another, so one that never reaches its total (it stopped early) is over when the next begins.
A task that begins above 0 goes on with earlier work, which counts neither for its rate nor for its
time left. A note that begins with "careful: " is never left out and stays to be read. Both displays
are on stderr: stdout is for results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Show = Callable[[str, int, int, str], None]
Clock = Callable[[], float]
SILENCE_S = 10.0  # between two lines of a task; its first and its last are always said
CAREFUL = "careful: "  # how a warning begins


@dataclass(frozen=True)
class Step:
    """One call of `show`, and what is known of its task by then."""

    task: str
    done: int
    total: int  # 0 = unknown
    note: str
    elapsed_s: float
    rate: float  # done per second since the task began; 0 = nothing done yet
    is_first: bool
    is_last: bool

    @property
    def is_warning(self) -> bool:
        """Whether the note is one that nobody should miss."""
        return self.note.startswith(CAREFUL)


@contextmanager
def showing(file: TextIO | None = None, clock: Clock = time.monotonic) -> Iterator[Show]:
    """Show tasks while the block runs.

    Args:
        file: where to; None is stderr.
        clock: seconds since any moment, never going back.
    """
    out = sys.stderr if file is None else file
    console = Console(file=out)
    if not console.is_terminal:
        yield _followed(_lines(out), clock)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as display:
        yield _followed(_bars(display), clock)


def _followed(tell: Callable[[Step], None], clock: Clock) -> Show:
    """Keep in mind when each task began, and at how many."""
    began: dict[str, tuple[float, int]] = {}
    latest: dict[str, int] = {}
    ended: dict[str, str] = {}  # task -> its last note

    def show(task: str, done: int, total: int, note: str) -> None:
        is_last = 0 < total <= done
        if is_last and ended.get(task) == note:
            return  # said once more
        now = clock()
        begins_again = task in began and done <= began[task][1] < latest[task]  # it stopped early
        is_first = task not in began or (task in ended and not is_last) or begins_again
        latest[task] = done
        if is_first:
            began[task] = (now, done)
            ended.pop(task, None)
        if is_last:
            ended[task] = note
        since, first = began[task]
        rate = (done - first) / (now - since) if now > since and done > first else 0.0
        tell(Step(task, done, total, note, now - since, rate, is_first, is_last))

    return show


def _bars(display: Progress) -> Callable[[Step], None]:
    """One line for each task, redrawn in place."""
    bars: dict[str, TaskID] = {}
    running: list[Step] = []

    def tell(step: Step) -> None:
        if running and running[-1].task != step.task:
            left = running.pop()
            display.update(bars[left.task], total=left.done or 1, completed=left.done or 1)
            display.stop_task(bars[left.task])
        if step.task not in bars:
            bars[step.task] = display.add_task(step.task, total=None, amount="", note="")
        elif step.is_first:
            display.reset(bars[step.task])
        if step.is_warning:
            display.console.print(f"{step.task}: {step.note}", markup=False, highlight=False)
        running[:] = [] if step.is_last else [step]
        amount = ", ".join([*_count(step), *_rate(step)])
        display.update(bars[step.task], total=step.total or None, completed=step.done,
                       amount=amount, note=step.note)  # fmt: skip

    return tell


def _lines(file: TextIO) -> Callable[[Step], None]:
    """A line when a task begins, a line when it ends, and one now and then in between."""
    said_s: dict[str, float] = {}  # when the task had run for how long

    def tell(step: Step) -> None:
        is_due = step.elapsed_s - said_s.get(step.task, 0.0) >= SILENCE_S
        if not (step.is_first or step.is_last or step.is_warning or is_due):
            return
        said_s[step.task] = step.elapsed_s
        words = [*_count(step), *_rate(step)]
        if step.is_last:
            took = "" if step.is_first else f" in {_span(step.elapsed_s)}"  # said once, at its end
            words = [f"done{took}", *words]
        elif not step.is_first and not step.is_warning:
            words += [_span(step.elapsed_s), *_left(step)]
        words += [step.note] if step.note else []
        file.write(f"{step.task}: {', '.join(words) or 'begins'}\n")
        file.flush()

    return tell


def _count(step: Step) -> list[str]:
    """Say how many; a task without parts (0 of unknown, 1 of 1) is not counted."""
    if step.total <= 1:
        return [f"{step.done:,}"] if step.done > step.total else []
    return [f"{step.done:,}/{step.total:,}"]


def _rate(step: Step) -> list[str]:
    digits = ",.0f" if step.rate >= 10 else ".2g"
    return [f"{step.rate:{digits}}/s"] if step.rate and _count(step) else []


def _left(step: Step) -> list[str]:
    return (
        [f"{_span((step.total - step.done) / step.rate)} left"] if step.rate and step.total else []
    )


def _span(seconds: float) -> str:
    """Write a span of time like a clock: 7 s, 3:07, 2:03:07."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"
