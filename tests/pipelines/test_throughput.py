import time

import pytest

from pipelines.throughput import Throughput


def test_what_was_not_done_has_no_rate():
    assert Throughput().described() == {
        "texts": 0, "padding_share": None, "texts_per_second": None, "tokens_per_second": None,
        "pairs_per_second": None,
    }  # fmt: skip


def test_counts_and_seconds_add_up():
    speed = Throughput()
    assert "25% padding" in speed.encoded(3, 60, 20)
    assert "40% padding" in speed.encoded(1, 0, 20)
    said = speed.described()
    assert said["texts"] == 4
    assert said["texts_per_second"] * speed.encoding_s == pytest.approx(4)
    assert said["tokens_per_second"] * speed.encoding_s == pytest.approx(60)
    speed.learned(512, 1.0)
    assert speed.learned(88, 2.5).startswith("loss 2.500, ")
    assert speed.described()["pairs_per_second"] * speed.learning_s == pytest.approx(600)


def test_the_clock_stands_still_while_it_is_measured_and_starts_anew(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    speed = Throughput()

    def score(value):
        now[0] += 100
        return value

    now[0] += 2
    assert speed.paused(score)(0.5) == 0.5
    now[0] += 1
    speed.learned(30, 1.0)
    assert speed.learning_s == 3
    now[0] += 50
    assert speed.begin("texts") == "texts"
    now[0] += 4
    speed.encoded(2, 8, 0)
    assert speed.encoding_s == 4
