"""Rows of small logs, the command line in a folder of its own, and a small release."""

import sys

import numpy as np
import pyarrow as pa
import pytest

from recsys import cli
from recsys.dataset import DAY
from serving.manifest import Model
from serving.release import seal, write_fallback, write_part

LEARNS = ["duckdb", "features", "lightgbm", "mlflow", "pipelines", "torch", "transformers"]


@pytest.fixture(scope="session")
def random_rows():
    """Draw sorted rows of users 0, 3, 6...: dated (three times a day) or ordered (-n .. -1)."""

    def draw(seed, dated, n_users=12, n_items=8, days=40):
        rng = np.random.default_rng(seed)
        rows = []
        for user in range(0, 3 * n_users, 3):
            n = int(rng.integers(1, 16))
            grade = rng.integers(0, 3, n)
            taken = np.cumsum(grade > 0)
            moment = rng.integers(0, 3 * days, n) * (DAY // 3) if dated else taken - taken[-1] - 1
            price = np.where((grade == 0) | (rng.random(n) < 0.3), np.nan, rng.integers(1, 9, n))
            columns = (moment, rng.integers(0, n_items, n), grade, rng.choice([0.5, 2.0], n), price)
            rows += [(user, *row) for row in zip(*(c.tolist() for c in columns), strict=True)]
        return sorted(rows)

    return draw


@pytest.fixture
def recsys(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["recsys", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return end.value.code or 0, said.out, said.err

    return run


@pytest.fixture
def base_install(monkeypatch):
    """Make everything that learns impossible to import."""
    for name in LEARNS:
        monkeypatch.setitem(sys.modules, name, None)


def make_release(folder, users=("ann", "bob")):
    """Seal a release with one item for each user; the fallback list is item 9."""
    lists = {"user_id": sorted(users), "item_id": list(range(len(users)))}
    rest = {"rank": 1, "score": 0.5, "source": "text", "reason": "", "drivers": ""}
    rows = pa.table(lists | {name: [value] * len(users) for name, value in rest.items()})
    write_part(folder, 0, rows.append_column("probability", pa.array([0.1] * len(users))))
    everyone = {"item_id": 9, "probability": None} | rest
    write_fallback(folder, pa.Table.from_pylist([everyone]))
    model = Model(name="recommender", version="1", uri="models:/recommender/1", run_id="run")
    seal(folder, created_at="2026-08-20T03:00:00Z", as_of="2026-08-20T00:00:00Z",
         model=model, data_fingerprint="d", config_fingerprint="c", code_commit="b",
         k=9, metrics={})  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def sealed_in():
    """Return `make_release`."""
    return make_release
