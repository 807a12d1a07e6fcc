"""The state that a model carries, so that it makes lists on a machine that has never seen the data.

    state/prepared/    the log and the catalogue, as `pipelines.prepared` describes them
    state/embeddings/  the vectors of the catalogue's texts, as the cache has them
    state/data.json    how event files are read, for events that come later

What is counted and what is fitted once a window is made from it when the model is loaded, by the
code that the batch job runs, so the lists are the same.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipelines.embeddings import keep_vectors
from pipelines.prepared import Prepared, open_prepared
from pipelines.settings import RunConfig
from pipelines.textmodel import Learned, distinct_texts
from recsys.dataset import Items
from recsys.errors import ConfigError
from recsys.schema import DataConfig

STATE = "state"


def carry_state(
    folder: Path, prepared: Prepared, items: Items, learned: Learned, config: RunConfig
) -> bool:
    """Copy the state into a model folder, unless the log is longer than the config allows.

    Args:
        folder: of the model.
        prepared: the data that it was trained on.
        items: the catalogue.
        learned: the text side, whose vectors are kept.
        config: of the run.

    Returns:
        Whether it was copied.
    """
    if prepared.manifest.n_events > config.tracking.carry_events:
        return False
    shutil.copytree(prepared.folder, folder / STATE / "prepared")
    texts, _ = distinct_texts(items.text)
    for encoder, vectors in ((learned.frozen_encoder, learned.frozen),
                             (learned.tuned_encoder, learned.pooled)):  # fmt: skip
        keep_vectors(folder / STATE / "embeddings", encoder, texts, vectors)
    data = config.data.model_copy(update={"events": None, "items": None, "users": None})
    (folder / STATE / "data.json").write_text(data.model_dump_json(indent=2) + "\n")
    return True


def carried(folder: Path, elsewhere: str) -> tuple[Prepared, Path]:
    """Return the prepared data and the vectors of a model: its own, or where it was trained.

    Args:
        folder: of the model.
        elsewhere: the prepared folder that it was trained on.

    Raises:
        ConfigError: it carries none, and there is none where it was trained.
    """
    if (folder / STATE / "prepared").exists():
        return open_prepared(folder / STATE / "prepared"), folder / STATE / "embeddings"
    try:
        prepared = open_prepared(elsewhere)
    except ConfigError as error:
        raise ConfigError(
            f"{folder}: the model carries no events (tracking.carry_events was less than its log), "
            f"and here is no prepared data: {error}"
        ) from error
    return prepared, prepared.folder.parent / "embeddings"


def how_events_are_read(folder: Path) -> DataConfig:
    """Return the data section of the config that the model was trained with, without places.

    Raises:
        ConfigError: the model carries no state.
    """
    path = folder / STATE / "data.json"
    if not path.exists():
        raise ConfigError(
            f"{folder}: the model carries no events, so newer ones have nothing to go behind; "
            "train with tracking.carry_events above the length of the log"
        )
    return DataConfig.model_validate_json(path.read_text())
