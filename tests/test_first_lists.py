"""From a shop's own exports to published lists: two commands, nothing edited."""

import os
import subprocess
import sys
from pathlib import Path

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
