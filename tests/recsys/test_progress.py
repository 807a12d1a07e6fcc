"""Whoever watches sees every task begin and end, and is not flooded in between."""

import io
import re

import pytest

from recsys.progress import showing


class Watched:
    """What was said of a long task, with a clock that the test turns."""

    def __init__(self, file):
        self.file, self.now = file, 0.0

    def follow(self, *steps):
        """Call show with (seconds, task, done, total, note) each; return the lines said."""
        with showing(self.file, lambda: self.now) as show:
            for self.now, task, done, total, note in steps:
                show(task, done, total, note)
        return self.file.getvalue().splitlines()


@pytest.fixture
def log():
    return Watched(io.StringIO())


def test_a_task_is_said_when_it_begins_and_when_it_ends(log):
    assert log.follow((0, "encode", 0, 300, "texts"), (2, "encode", 300, 300, "texts")) == [
        "encode: 0/300, texts",
        f"encode: done in 2 s, 300/300, {300 // 2}/s, texts",
    ]


def test_between_two_lines_of_a_task_are_at_least_10_seconds(log):
    lines = log.follow(*((second, "encode", second, 100, "") for second in range(100)))
    assert len(lines) == 1 + 99 // 10
    assert lines[1] == "encode: 10/100, 1/s, 10 s, 1:30 left"  # (100 - 10) / (10 / 10) = 90 s


def test_a_warning_is_never_left_out(log):
    said = ["checked 9 events", "careful: no time zone", "careful: 2 copies", "of 3 users"]
    lines = log.follow(*((0, "prepare", 0, 0, note) for note in said))
    assert [line.removeprefix("prepare: ") for line in lines] == said[:3]


def test_what_an_earlier_run_did_counts_neither_for_the_rate_nor_for_the_time_left(log):
    steps = (0, "make lists", 500, 1000, ""), (10, "make lists", 600, 1000, "")
    assert (
        log.follow(*steps)[1] == f"make lists: 600/1,000, {100 // 10}/s, 10 s, {400 // 10} s left"
    )


def test_long_times_are_written_like_a_clock(log):
    steps = (0, "encode", 0, 10, ""), (187, "encode", 5, 10, ""), (7387, "encode", 10, 10, "")
    lines = log.follow(*steps)
    assert lines[1].endswith("3:07, 3:07 left")  # 187 = 3 * 60 + 7
    assert "done in 2:03:07" in lines[2]  # 7387 = 2 * 3600 + 187


def test_an_end_is_said_once_unless_there_is_something_new_to_say(log):
    ends = [(1, "train", 5, 5, "loss 3"), (1, "train", 5, 5, "loss 3"), (2, "train", 1, 1, "best")]
    lines = log.follow((0, "train", 0, 5, ""), *ends)
    assert lines[1:] == ["train: done in 1 s, 5/5, 5/s, loss 3", "train: done in 2 s, best"]


def test_a_task_that_ended_may_begin_again_with_a_clock_of_its_own(log):
    first = (0, "refit", 0, 8, ""), (4, "refit", 8, 8, "")
    again = (100, "refit", 0, 8, ""), (102, "refit", 8, 8, "")
    assert log.follow(*first, *again)[2:] == ["refit: 0/8", "refit: done in 2 s, 8/8, 4/s"]


def test_a_task_that_is_only_said_at_its_end_claims_no_time(log):
    assert log.follow((9, "train head", 5, 5, "kept")) == ["train head: done, 5/5, kept"]


def test_a_task_that_stopped_early_begins_again_with_a_clock_of_its_own(log):
    steps = (0, "fit", 1, 300, ""), (50, "fit", 40, 300, ""), (100, "fit", 1, 300, "")
    assert log.follow(*steps, (120, "fit", 21, 300, ""))[2:] == [
        "fit: 1/300",
        f"fit: 21/300, {20 // 20}/s, 20 s, 4:39 left",  # 279 = 4 * 60 + 39
    ]


def test_a_task_of_unknown_length_says_its_note(log):
    assert log.follow((0, "prepare", 0, 0, "checking"), (11, "prepare", 7, 0, "buckets")) == [
        "prepare: checking",
        "prepare: 7, 0.64/s, 11 s, buckets",  # 7 / 11
    ]


def test_progress_is_no_result(capsys):
    with showing() as show:
        show("encode", 0, 3, "")
    said = capsys.readouterr()
    assert said.out == "" and said.err == "encode: 0/3\n"


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    file = io.StringIO()
    file.isatty = lambda: True
    return file


def test_a_warning_stays_on_a_terminal(terminal):
    notes = ["careful: [no] zone", "careful: 2 copies", "of 3 users"]
    Watched(terminal).follow(*((0, "prepare", 0, 0, note) for note in notes))
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    lines = [line.strip() for line in screen.splitlines()]
    assert lines.count("prepare: careful: [no] zone") == 1
    assert lines.count("prepare: careful: 2 copies") == 1


def test_a_terminal_shows_every_task_once_with_its_last_note(terminal):
    Watched(terminal).follow(
        (0, "prepare", 0, 0, "bucket [1]"),  # brackets are no markup
        (1, "fit", 0, 600, ""),
        (2, "fit", 250, 600, "NDCG 0.4"),  # stopped early: never 600
        (3, "evaluate", 5, 5, "requests"),
    )
    last = terminal.getvalue().rpartition("\x1b[2K")[2].splitlines()
    assert [line.split()[0] for line in last[:3]] == ["prepare", "fit", "evaluate"]
    assert "bucket [1]" in last[0] and "250/600" in last[1] and "NDCG 0.4" in last[1]
    assert "5/5" in last[2]
