"""The trained model as a folder: safetensors, LightGBM text and JSON, nothing pickled.

encoder/             fine-tuned, as sentence-transformers loads it
frozen_encoder/      the pre-trained transformer, where layers were tuned; else encoder/ has it
pooling.safetensors  the head as served, the parts it is made of, user vectors from past items
ranker.txt           LightGBM
head_<grade>.txt     LightGBM, one for each grade that probabilities are of
calibration.json     grade -> the points of the map from what its head says to a probability
card.json            settings, features and lineage; written last
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file

from features.catalogue import CATALOGUE
from pipelines.embeddings import encode_cached
from pipelines.prepared import Prepared
from pipelines.recommender import Method, Snapshot, snapshot_of
from pipelines.textindex import check_texts, indexed
from pipelines.textmodel import Learned, Show, distinct_texts, words_in_common
from recsys.calibration import Blend, Calibration, Heads
from recsys.candidates import CandidateConfig
from recsys.cascade import FirstPass
from recsys.encoder import (
    EncoderConfig,
    TextEncoder,
    load_encoder,
    moved_vectors,
    stacked,
    with_head,
)  # fmt: skip
from recsys.errors import ConfigError
from recsys.interest import TextModel
from recsys.ranker import Ranker, Scorer, ranker_from_text
from recsys.related import related_items
from recsys.split import Windows
from recsys.state import StateConfig, state_at
from recsys.training import Tower, new_tower

if TYPE_CHECKING:
    import torch


class ModelCard(BaseModel):
    """What a model needs to be used, and where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[6] = 6
    dated: bool
    exclude_seen: bool
    encoder: EncoderConfig
    candidates: CandidateConfig
    first_pass: FirstPass
    state: StateConfig
    features: tuple[str, ...]
    values: tuple[float, ...]  # of each grade, where lists go by expected value; else empty
    history: int  # past items in a user vector
    fitted_before: int  # moment: no fitted part has seen an event from then on
    data_fingerprint: str
    config_fingerprint: str
    prepared: str  # folder of the prepared data it was trained on
    metrics: dict[str, float]  # headline values, window/metric


@dataclass(frozen=True)
class Recommender:
    """A loaded model."""

    card: ModelCard
    encoder: TextEncoder  # under the head that it came with
    frozen_encoder: TextEncoder
    head: torch.Tensor  # (dim, dim) trained, on top of the encoder
    tower: Tower  # the same head in its parts, for training to go on; and the pooling
    ranker: Ranker
    heads: Heads

    @property
    def scorer(self) -> Scorer:
        """What orders lists: the ranker, or expected value if the card has values."""
        return Blend(self.heads, self.card.values) if self.card.values else self.ranker


def save_model(
    folder: Path, learned: Learned, ranker: Ranker, heads: Heads, card: ModelCard
) -> None:
    """Write the model into an empty or missing folder."""
    folder.mkdir(parents=True, exist_ok=True)
    head = learned.tower.whole_head()
    own = learned.tuned_encoder.head.cpu()
    with_head(learned.tuned_encoder, stacked(own, head)).save(folder / "encoder")
    if learned.tuned_encoder is not learned.frozen_encoder:
        learned.frozen_encoder.save(folder / "frozen_encoder")
    tower = learned.tower
    weights = tower.pooling.state_dict() | {
        "head": head, "own_head": own, "aligned": tower.aligned, "trained": tower.head.detach(),
        "log_scale": tower.log_scale.detach(),
    }  # fmt: skip
    weights = {name: value.contiguous() for name, value in weights.items()}
    save_file(weights, folder / "pooling.safetensors")
    (folder / "ranker.txt").write_text(ranker.to_text())
    _save_heads(folder, heads)
    (folder / "card.json").write_text(card.model_dump_json(indent=2) + "\n")


def load_model(folder: Path) -> Recommender:
    """Read what `save_model` wrote.

    Raises:
        ConfigError: the folder holds no model of this version, or one whose features this code
            does not know.
    """
    try:
        card = ModelCard.model_validate_json((folder / "card.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder}: no recommender model of this version there ({str(error).splitlines()[0]}); "
            "train one with 'recsys train' and give it the alias (docs/operations.md: A new model)"
        ) from error
    unknown = sorted(set(card.features) - {feature.name for feature in CATALOGUE})
    if unknown:
        raise ConfigError(
            f"{folder}: the model reads the feature {unknown[0]!r}, which this code does not "
            "compute; use the version that trained it, or train again"
        )
    encoder = load_encoder(card.encoder.model_copy(update={"model": str(folder / "encoder")}))
    weights = load_file(folder / "pooling.safetensors")
    # exact: the Dense module of encoder/ holds both heads in one matrix, plus 1
    head, own = weights.pop("head"), weights.pop("own_head")
    frozen = encoder = with_head(encoder, own)
    frozen_folder = folder / "frozen_encoder"
    if frozen_folder.exists():
        frozen = load_encoder(card.encoder.model_copy(update={"model": str(frozen_folder)}))
        frozen = with_head(frozen, own)
    tower = new_tower(encoder.dim, card.history, weights.pop("aligned"))
    tower.head.data.copy_(weights.pop("trained"))
    tower.log_scale.data.copy_(weights.pop("log_scale"))
    tower.pooling.load_state_dict(weights)
    ranker = ranker_from_text((folder / "ranker.txt").read_text(), card.features)
    heads = _load_heads(folder, card.features)
    return Recommender(card, encoder, frozen, head, tower, ranker, heads)


def has_seen(encoder: str, windows: Windows) -> bool:
    """Say whether `encoder` is the folder of a model that was fitted on later events than these.

    What is then measured after `windows.ranker` looks better than it is. Where there is an order
    only, every model of ours has seen what it is measured on.
    """
    try:
        card = ModelCard.model_validate_json((Path(encoder).parent / "card.json").read_text())
    except (OSError, ValueError):
        return False  # no model of ours
    return not windows.dated or card.fitted_before > windows.ranker


def at_moment(
    recommender: Recommender,
    prepared: Prepared,
    as_of: int,
    embeddings: Path,
    show: Show = lambda *_: None,
) -> tuple[Method, Snapshot]:
    """Roll the state forward: everything known strictly before `as_of`.

    Args:
        recommender: the model.
        prepared: the data; events from `as_of` on are not looked at.
        as_of: the moment.
        embeddings: folder of the embedding cache; only new texts are encoded.
        show: progress.

    Raises:
        ConfigError: the model was trained with dates and the data has none, or the other way; or
            with sessions and the data has none; or the catalogue needs an index that
            cannot be built.
    """
    card, items = recommender.card, prepared.items()
    if prepared.windows.dated != card.dated:
        kind = {True: "dates", False: "an order only"}
        raise ConfigError(
            f"{prepared.folder}: the data has {kind[prepared.windows.dated]}, the model was "
            f"trained on data with {kind[card.dated]}; train a model on this data"
        )
    if not prepared.manifest.has_sessions and any(
        feature.session and feature.name in card.features for feature in CATALOGUE
    ):
        raise ConfigError(
            f"{prepared.folder}: the events have no session_id, which the model was trained with; "
            "map the column with data.columns.events.session_id, or train a model on this data"
        )
    check_texts(items, card.candidates)
    texts, text_of_item = distinct_texts(items.text)
    frozen = encode_cached(recommender.frozen_encoder, texts, embeddings)
    pooled = encode_cached(recommender.encoder, texts, embeddings)
    tuned = moved_vectors(pooled, recommender.head)
    lexical = words_in_common(items, card.state.neighbours)
    text_model = TextModel(text_of_item, frozen, tuned, recommender.tower.pooling, lexical)
    text_model = indexed(text_model, card.candidates, prepared, as_of, show)
    with_als = "als" in card.candidates.switched_on
    related = related_items(prepared.buckets(), as_of, len(items), card.state, with_als)
    state = state_at(prepared.buckets(), as_of, len(items), card.dated, card.state)
    method = Method(items, card.candidates, card.dated, card.exclude_seen, card.first_pass)
    return method, snapshot_of(method, state, related, text_model)


def _save_heads(folder: Path, heads: Heads) -> None:
    """Write the heads as LightGBM text, their maps as JSON, which keeps every digit."""
    points = {}
    for level, model, one in zip(heads.levels, heads.models, heads.maps, strict=True):
        (folder / f"head_{level}.txt").write_text(model.to_text())
        points[level] = {"raw": one.raw.tolist(), "probability": one.probability.tolist()}
    (folder / "calibration.json").write_text(json.dumps(points, indent=2) + "\n")


def _load_heads(folder: Path, features: tuple[str, ...]) -> Heads:
    """Read what `_save_heads` wrote."""
    points = json.loads((folder / "calibration.json").read_text())
    models = [ranker_from_text((folder / f"head_{level}.txt").read_text(), features)
              for level in points]  # fmt: skip
    maps = [Calibration(np.array(one["raw"]), np.array(one["probability"]))
            for one in points.values()]  # fmt: skip
    return Heads(tuple(map(int, points)), tuple(models), tuple(maps))
