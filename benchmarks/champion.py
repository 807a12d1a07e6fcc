"""The champion that a benchmark of serving runs: of a run that is there, or of a small shop."""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.scale import alone, shop
from pipelines.config import changed, load_toml
from pipelines.settings import RunConfig
from pipelines.train import train

USERS, ITEMS, EVENTS = 600, 240, 15
SMALL = ("data.bucket_rows=450", "encoder.max_tokens=8", "training.max_epochs=1",
         "training.layers=0", "ranker.max_trees=30", "ranker.min_rows_in_leaf=5",
         "evaluation.resamples=50", "serving.k=10")  # fmt: skip


def with_champion(asked: argparse.Namespace, folder: Path) -> RunConfig:
    """Return the config of a run that has a champion, or train one on a small shop in `folder`."""
    config = load_toml(RunConfig, asked.config, asked.set)
    if asked.config is None:
        config = changed(config, [*SMALL, f'run_dir="{folder}/run"', *asked.set,
                                  f'data.events="{folder}/events.parquet"',
                                  f'data.items="{folder}/items.parquet"'])  # fmt: skip
        alone(train_small, config, folder)
    return config


def train_small(config: RunConfig, folder: Path) -> None:
    """Draw a shop and train its champion, in a process of its own."""
    for table, name in zip(shop(USERS, ITEMS, EVENTS), ("events", "items"), strict=True):
        pq.write_table(table, folder / f"{name}.parquet")
    train(config, lambda *_: None)
