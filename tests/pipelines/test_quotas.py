"""Quotas are bought where they find most, and what two sources find counts once."""

import itertools
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from pipelines.quotas import DEEPEST, Reach, choose_quotas
from recsys.candidates import OPTIONAL, SOURCES, CandidateConfig


def drawn(seed, n_rows=4000, n_requests=40):
    """Draw ranks of three sources, good ones taken more often; one copies another, with gaps."""
    rng = np.random.default_rng(seed)
    one, two = (np.where(rng.random(n_rows) < 0.6, rng.integers(1, 60, n_rows), 0)
                for _ in range(2))  # fmt: skip
    copy = np.where(rng.random(n_rows) < 0.9, one, 0)
    good = sum(np.where(ranks > 0, 1 / (4 + ranks), 0) for ranks in (one, two))
    share = np.where(rng.random(n_rows) < 4 * good, 1.0, 0.0)
    rank = {name: ranks.astype(np.uint8)
            for name, ranks in (("one", one), ("copy", copy), ("two", two))}  # fmt: skip
    return Reach(rank, share / share.sum(), n_requests)


def by_sets(reach, quotas):
    """Recall and candidates a request, row by row."""
    rows = [at for at in range(len(reach.share))
            if any(0 < reach.rank[name][at] <= most for name, most in quotas.items())]  # fmt: skip
    return sum(reach.share[at] for at in rows), len(rows) / reach.requests


@pytest.mark.parametrize("seed", range(3))
def test_what_is_found_is_counted_once(seed):
    reach = drawn(seed)
    for quotas in ({"one": 30, "copy": 30, "two": 0}, {"one": 5, "copy": 0, "two": 40}):
        recall, candidates = by_sets(reach, quotas)
        assert reach.recall(quotas) == pytest.approx(recall)
        assert reach.candidates(quotas) == pytest.approx(candidates)
        assert reach.taken().recall(quotas) == pytest.approx(recall)


@pytest.mark.parametrize("budget", [0, 5, 35, 100, 1000])
def test_the_budget_is_kept_and_each_buy_finds_something(budget):
    reach = drawn(0)
    path = choose_quotas(reach, budget)
    assert not any(path[0].values())
    assert sum(path[-1].values()) <= budget and max(path[-1].values()) <= DEEPEST
    found = [reach.recall(quotas) for quotas in path]
    assert all(before < after for before, after in itertools.pairwise(found))
    for before, after in itertools.pairwise(path):
        assert sum(after[name] != before[name] for name in before) == 1


def test_a_copy_that_finds_less_is_not_bought():
    path = choose_quotas(drawn(1), 60)
    assert path[-1]["copy"] == 0 and path[-1]["one"] > 0 and path[-1]["two"] > 0


@pytest.mark.parametrize("seed", range(5))
def test_the_choice_is_close_to_the_best_of_all(seed):
    reach, budget = drawn(seed), 60
    grid = range(0, budget + 1, 5)
    best = max(reach.recall({"one": one, "copy": copy, "two": budget - one - copy})
               for one in grid for copy in grid if one + copy <= budget)  # fmt: skip
    assert reach.recall(choose_quotas(reach, budget)[-1]) >= 0.97 * best


def test_where_nothing_was_taken_nothing_is_bought():
    reach = Reach({"one": np.ones(3, np.uint8)}, np.zeros(3), 3)
    assert choose_quotas(reach, 50) == [{"one": 0}]


@pytest.mark.slow
def test_the_command_prints_a_section_for_the_config_file(small_world):
    config, folder = small_world.config, small_world.folder
    settings = [f'run_dir="{config.run_dir}"', f'data.events="{folder}/events.parquet"',
                f'data.items="{folder}/items.parquet"', "data.bucket_rows=800",
                "encoder.max_tokens=16", "training.max_epochs=1"]  # fmt: skip
    command = [sys.executable, "-m", "recsys.cli", "tune", "candidates", "--budget", "40"]
    command += [word for one in settings for word in ("--set", one)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said, _, section = done.stdout.partition("[candidates]")
    quotas = tomllib.loads(section)
    chosen = CandidateConfig(**quotas)
    assert quotas.keys() == set(CandidateConfig.model_fields)
    assert chosen.model_copy(update=config.candidates.quotas) == config.candidates
    assert 0 < sum(chosen.quotas.values()) <= 40
    assert "only it finds" in said and (config.run_dir / "candidates.png").stat().st_size > 5_000
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines()]
    alone = {row[0]: float(row[3]) for row in rows if row and row[0] in SOURCES}
    assert alone.keys() == set(SOURCES)
    off = set(OPTIONAL) - {"fresh"}  # nothing is new there
    assert min(alone[name] for name in off) > 0  # they are looked at too
