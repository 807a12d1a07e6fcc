"""From a shop's own exports to published lists: two commands, nothing edited."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serving.stores import open_reader

ROOT = Path(__file__).parent.parent


def recsys(folder, *arguments):
    """Run the command line in a folder: (exit code, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", "recsys.cli", *arguments],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_three_foreign_files_become_published_lists_with_nothing_edited(tmp_path, shop_in):
    files = shop_in(tmp_path)
    code, said, wrong = recsys(tmp_path, "init", *files)
    assert code == 0, wrong
    assert said.splitlines()[-1].endswith("then: recsys run -c run.toml")
    code, said, wrong = recsys(tmp_path, "run", "-c", "run.toml")
    assert code == 0, wrong
    with open_reader(tmp_path / "runs/mine/store") as reader:
        lists = reader.read(["10007", "10123"], 5).lists
    catalogue = pd.read_csv(tmp_path / "Artikel.csv", sep=";", encoding="cp1252")
    for one in lists:
        ids = [item.item_id for item in one.items]
        assert not one.is_fallback and len(set(ids)) == 5
        assert set(ids) <= set(catalogue["Artikelnr"])


def test_init_asks_nothing_and_refuses_in_words(tmp_path):
    (tmp_path / "towns.csv").write_text("town,people\nRom,3\nUlm,1\n")
    code, said, wrong = recsys(tmp_path, "init", "towns.csv")
    assert (code, said) == (2, "")
    assert "no events found" in wrong and "towns.csv has town?, people?" in wrong
    assert "Traceback" not in wrong
    assert [path.name for path in tmp_path.iterdir()] == ["towns.csv"]


@pytest.mark.slow
def test_a_shop_that_is_odd_in_every_way_is_learned_from_and_listed(tmp_path, settings_in):
    """One text for all, a category each, no price, times without a zone, a bot, new users only."""
    rng, n, n_items, start = np.random.default_rng(0), 900, 30, pd.Timestamp("2026-01-01")
    minutes = np.sort(rng.integers(0, 100 * 1440, n))
    user = np.where(rng.random(n) < 0.4, "bot; of/ours", [f"ü {at % 40}" for at in range(n)])
    late = minutes >= 85 * 1440
    user[late] = [f"new {at}" for at in range(late.sum())]
    events = pd.DataFrame({
        "user_id": user, "item_id": [f"i/{at}" for at in rng.zipf(1.5, n) % n_items],
        "timestamp": (start + pd.to_timedelta(minutes, unit="min")).astype(str),
    })  # fmt: skip
    own = {"item_id": [f"i/{at}" for at in range(n_items)],
           "category": [f"c{at}" for at in range(n_items)]}  # fmt: skip
    items = pd.DataFrame(own | {"title": "thing", "price": 0.0})
    events.to_parquet(tmp_path / "events.parquet")
    items.to_parquet(tmp_path / "items.parquet")
    settings = [word for one in settings_in(tmp_path) for word in ("--set", one)]
    code, _, wrong = recsys(tmp_path, "run", *settings)
    assert code == 0, wrong
    assert "careful: " in wrong and "has no time zone" in wrong
    with open_reader(tmp_path / "store") as reader:
        bot, new, nobody = reader.read(["bot; of/ours", "new 0", "nobody"], 5).lists
    assert not bot.is_fallback and not new.is_fallback and nobody.is_fallback
    assert all(len({item.item_id for item in one.items}) == 5 for one in (bot, new, nobody))
