"""Only the last layers learn, and what came in stays as it was."""

import numpy as np
import pytest
import torch

from recsys.encoder import EncoderConfig, load_encoder, with_head
from recsys.errors import ConfigError
from recsys.finetuning import trainable, tune_layers, unfreeze
from recsys.training import Examples, TrainingConfig, copy_tower, new_tower

TEXTS = ["rose seeds", "tulip bulbs", "tennis ball", "yoga mat", "frying pan", "bread knife"]
CONFIG = TrainingConfig(history=2, layers=1, layer_passes=2, layer_batch_events=3)
LAYERS = 6  # of MiniLM-L6
EXAMPLES = Examples(np.array([[0, -1], [2, -1], [4, 5], [1, 0]]), np.array([1, 3, 5, 0]),
                    np.ones(4, np.float32), np.arange(6))  # fmt: skip


@pytest.fixture(scope="module")
def encoder():
    """One that came with a head of its own."""
    plain = load_encoder(EncoderConfig(max_tokens=16))
    drawn = torch.randn(plain.dim, plain.dim, generator=torch.Generator().manual_seed(0))
    return with_head(plain, drawn / 50)


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(before, after):
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.fixture(scope="module")
def tuned(encoder):
    """Tune for two steps; return what went in, as copies, and what came out."""
    pooled = encoder.encode(TEXTS)
    tower, steps = new_tower(encoder.dim, 2), []
    copies = weights(encoder.model), copy_tower(tower), pooled.copy()
    out = tune_layers(encoder, tower, TEXTS, pooled, EXAMPLES, CONFIG, np.random.default_rng(0),
                      lambda *step: steps.append(step))  # fmt: skip
    return copies, (tower, pooled), out, steps


@pytest.mark.slow
def test_two_steps_change_the_last_layer_and_no_other(encoder, tuned):
    (before, *_), _, (new, _), steps = tuned
    last = {name for name in before if f".{LAYERS - 1}." in name}
    moved = changed(before, weights(new.model))
    assert moved and moved <= last
    assert len(moved) > len(last) / 2
    assert [step[:2] for step in steps] == [(6, 12), (12, 12)]  # six texts, twice
    assert np.isfinite([loss for *_, loss in steps]).all()


@pytest.mark.slow
def test_what_came_in_is_not_changed(encoder, tuned):
    (before, tower_before, pooled_before), (tower, pooled), (new, new_tower_), _ = tuned
    assert not changed(before, weights(encoder.model))
    assert new.model is not encoder.model
    for one, other in zip(tower.parameters(), tower_before.parameters(), strict=True):
        assert torch.equal(one, other)
    np.testing.assert_array_equal(pooled, pooled_before)
    assert not torch.equal(new_tower_.head, tower.head)


@pytest.mark.slow
def test_the_tuned_encoder_has_the_same_head_and_other_vectors(encoder, tuned):
    _, _, (new, _), _ = tuned
    assert torch.equal(new.head, encoder.head) and new.head.any()
    assert new.fingerprint() != encoder.fingerprint()
    assert np.abs(new.encode(TEXTS) - encoder.encode(TEXTS)).max() > 0


@pytest.mark.slow
def test_any_peft_configuration_is_trained_and_merged(encoder, tuned):
    (before, *_), (tower, pooled), *_ = tuned
    lora = {"peft_type": "LORA", "r": 2, "target_modules": ["query"]}
    config = TrainingConfig(history=2, layer_passes=1, peft=lora, layer_learning_rate=0.01)
    new, _ = tune_layers(encoder, tower, TEXTS, pooled, EXAMPLES, config, np.random.default_rng(0))
    after = weights(new.model)
    assert after.keys() == before.keys()  # an ordinary model again
    moved = changed(before, after)
    assert moved == {name for name in before if name.endswith("query.weight")}
    assert not changed(before, weights(encoder.model))


def test_an_unknown_peft_configuration_is_refused_in_words(stack):
    refused = {
        "peft knows no peft_type 'NOPE'": {"peft_type": "NOPE"},
        "nothing": {"peft_type": "LORA", "target_modules": ["nothing"]},
        "peft_type is missing": {"r": 8},
        "rank": {"peft_type": "LORA", "rank": 8},
    }
    for said, peft in refused.items():
        with pytest.raises(ConfigError, match=f"training.peft: .*{said}.*for example"):
            trainable(stack, TrainingConfig(peft=peft))
    with pytest.raises(ValueError, match="layers and peft both"):
        TrainingConfig(layers=1, peft={"peft_type": "LORA"})


@pytest.fixture
def stack():
    """A model of four layers behind an embedding."""
    layers = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(4)])
    return torch.nn.ModuleDict({"first": torch.nn.Embedding(3, 2), "layers": layers})


@pytest.mark.parametrize("layers", [1, 3, 4])
def test_the_last_layers_and_nothing_else_are_unfrozen(stack, layers):
    trained = unfreeze(stack, layers)
    names = {name for name, value in stack.named_parameters() if value.requires_grad}
    assert names == {f"layers.{at}.{kind}" for at in range(4 - layers, 4)
                     for kind in ("weight", "bias")}  # fmt: skip
    assert len(trained) == 2 * layers


def test_no_layers_leaves_everything_frozen(stack):
    assert unfreeze(stack, 0) == []


def test_more_layers_than_there_are_is_refused_in_words(stack):
    with pytest.raises(ConfigError, match="training.layers: 5 layers .* the encoder has 4"):
        unfreeze(stack, 5)
    with pytest.raises(ConfigError, match="1 layers .* the encoder has 0"):
        unfreeze(torch.nn.Linear(2, 2), 1)
