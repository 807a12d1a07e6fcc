"""A model folder gives back, bit for bit, what was saved into it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from features.catalogue import active_features
from pipelines import tracking
from pipelines.model import load_model, save_model
from pipelines.textmodel import Learned
from recsys.encoder import PACKAGED, EncoderConfig, load_encoder
from recsys.errors import ConfigError
from recsys.training import new_tower

pytestmark = pytest.mark.slow


@pytest.fixture
def saved(small_world, tmp_path):
    """Save a tower of random numbers over an encoder, tuned or not; return it and the model."""
    _, folder = tracking.find_model(small_world.config, "models:/recommender@champion")
    champion = load_model(folder)

    def save(is_tuned, layers_kept):
        config = EncoderConfig(model=PACKAGED, max_tokens=16)
        encoder, tuned = load_encoder(config), load_encoder(config)
        with torch.no_grad():
            next(iter(tuned.model.parameters())).mul_(1.5)
        tower = new_tower(encoder.dim, champion.card.history)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in tower.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        tower = replace(tower, aligned=torch.randn(tower.head.shape, generator=generator))
        learned = Learned(encoder, tuned if is_tuned else encoder, None, [], None, None, None,
                          tower, [], [], 0.0, layers_kept)  # fmt: skip
        save_model(tmp_path / "model", learned, champion.ranker, champion.heads, champion.card)
        return learned, load_model(tmp_path / "model")

    assert champion.card.features == active_features(True, (), True)
    return save


@pytest.mark.parametrize("layers_kept", [True, False])  # False: tuned in an earlier run
def test_the_tower_and_both_encoders_come_back(saved, layers_kept):
    learned, model = saved(True, layers_kept)
    assert torch.equal(model.head, learned.tower.whole_head())
    assert torch.equal(model.tower.aligned, learned.tower.aligned)
    pairs = zip(model.tower.parameters(), learned.tower.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert model.encoder.fingerprint() == learned.tuned_encoder.fingerprint()
    assert model.frozen_encoder.fingerprint() == learned.frozen_encoder.fingerprint()


def test_without_tuned_layers_there_is_one_encoder(saved):
    learned, model = saved(False, False)
    assert model.encoder is model.frozen_encoder
    assert model.encoder.fingerprint() == learned.frozen_encoder.fingerprint()


def test_probabilities_come_back_bit_for_bit_and_values_make_a_blend(saved, small_world, tmp_path):
    _, folder = tracking.find_model(small_world.config, "models:/recommender@champion")
    champion, (_, model) = load_model(folder), saved(False, False)
    table = np.random.default_rng(0).normal(size=(500, len(champion.card.features)))
    found = model.heads.predict(table)
    assert model.heads.levels == (1,) and len(np.unique(found)) > 5
    np.testing.assert_array_equal(found, champion.heads.predict(table))
    assert model.scorer is model.ranker
    card = tmp_path / "model" / "card.json"
    card.write_text(card.read_text().replace('"values": []', '"values": [0.0, 2.0]'))
    blend = load_model(tmp_path / "model").scorer
    np.testing.assert_allclose(blend.predict(table), 2.0 * found[:, 0])


def test_a_model_of_an_earlier_version_is_refused_in_words(saved, tmp_path):
    saved(False, False)
    card = tmp_path / "model" / "card.json"
    card.write_text(card.read_text().replace('"version": 6', '"version": 5'))
    with pytest.raises(ConfigError, match="no recommender model of this version there .*train"):
        load_model(tmp_path / "model")
