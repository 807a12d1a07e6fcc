"""What is odd about a catalogue or a log may teach nothing, but never makes a NaN."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.config import load_toml
from pipelines.settings import RunConfig
from pipelines.textmodel import learn_texts
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, DAY, Items
from recsys.split import Windows, leave_last_out
from recsys.training import tuned_vectors

WINDOWS = Windows(30 * DAY, 34 * DAY, 37 * DAY, 40 * DAY, True)
ROSES = [f"{colour} {plant}" for colour in ("red", "white", "yellow", "dark pink")
         for plant in ("rose", "tulip", "garden spade")]  # fmt: skip
ODD = {
    "12 items, 3 users": (ROSES, 3),
    "all texts equal": (["a rose"] * 12, 20),
    "no text at all": ([""] * 12, 20),
    "one very long text": ([*ROSES[1:], "rose garden " * 3500], 20),
    "two items": (ROSES[:2], 20),
    "everybody takes one item": (ROSES[:1], 20),
}


def catalogue(texts):
    """Items that have nothing but a text, which is their title too."""
    n, text = len(texts), np.array(texts, dtype=object)
    none, always = np.full(n, -1, np.int32), (np.full(n, ALWAYS_FROM), np.full(n, ALWAYS_UNTIL))
    return Items(np.arange(n), text, text, none, none, np.full(n, np.nan, np.float32), *always)


@pytest.mark.parametrize("texts, n_users", ODD.values(), ids=list(ODD))
@pytest.mark.parametrize("layers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_odd_catalogue_is_learned_from_without_a_nan(texts, n_users, layers, log_of, tmp_path):
    rng = np.random.default_rng(3)
    n, n_items = 400, len(texts)
    user, item = rng.integers(0, n_users, n), rng.integers(0, n_items, n)
    log = log_of(zip(user, rng.integers(0, 40 * DAY, n), item, strict=True))
    config = load_toml(RunConfig, None, [
        f'run_dir="{tmp_path}"', "encoder.max_tokens=32", "training.max_epochs=2",
        f"training.layers={layers}", "training.layer_passes=1", "training.batch_events=16",
    ])  # fmt: skip
    said = []
    learned = learn_texts(catalogue(texts), log, WINDOWS, config, False,
                          lambda task, done, total, note: said.append(note))  # fmt: skip
    assert any(note.endswith(f"; kept: {learned.kept}") for note in said)
    few = f"careful: {n_items} items share 1 texts"
    assert any(note.startswith(few) for note in said) == (len(set(texts)) == 1 < n_items)
    assert np.isfinite(learned.curve).all() and len(learned.curve) >= 2
    assert learned.kept in {"frozen", "aligned", "head", "layers"}
    if learned.kept == "layers":
        assert learned.layers_score > max(learned.curve)
    else:
        assert learned.curve[learned.steps.index("frozen")] <= max(learned.curve)
    model = learned.text_model()
    np.testing.assert_allclose(np.linalg.norm(model.tuned, axis=1), 1, atol=1e-5)
    frozen, tuned = model.users(np.array([[0], [n_items - 1], [-1]]))
    assert np.isfinite(frozen).all() and np.isfinite(tuned).all()
    assert not tuned[2].any()  # nobody's past has no direction


def test_without_an_event_to_learn_from_the_encoder_stays_frozen(log_of, tmp_path):
    config = load_toml(RunConfig, None, [f'run_dir="{tmp_path}"', "encoder.max_tokens=32"])
    late = log_of([(user, position, user) for user in range(6) for position in (-2, -1)])
    learned = learn_texts(catalogue(ROSES), late, leave_last_out(12, 6), config, False,
                          lambda *_: None)  # fmt: skip
    assert (learned.kept, learned.curve, learned.steps) == ("frozen", [], [])
    model = learned.text_model()
    np.testing.assert_allclose(model.tuned, model.frozen, atol=1e-6)


@pytest.mark.parametrize("epochs", [0, 2])
def test_titles_met_in_training_come_closer_to_their_whole_texts(epochs, log_of, tmp_path):
    rng = np.random.default_rng(5)
    about = [
        "for dry shade under old trees",
        "sold by the pair, hand made",
        "returns within a week",
    ]
    items = catalogue([f"{title}. {about[at % 3]}" for at, title in enumerate(ROSES)])
    items = replace(items, title=np.array(ROSES, dtype=object))
    user, n = rng.integers(0, 20, 600), 600
    item = (user % 4 + rng.choice([0, 4, 8], n)) % 12  # each user keeps to three items
    log = log_of(zip(user, rng.integers(0, 40 * DAY, n), item, strict=True))
    closeness = {}
    for share in (0.0, 0.7):
        config = load_toml(RunConfig, None, [
            f'run_dir="{tmp_path}"', "encoder.max_tokens=32", f"training.max_epochs={epochs}",
            f"training.titles={share}", "training.batch_events=32", "training.layers=0",
        ])  # fmt: skip
        learned = learn_texts(items, log, WINDOWS, config, False, lambda *_: None)
        assert learned.kept != "frozen"
        titles = learned.tuned_encoder.encode(learned.titles)
        whole, short = (tuned_vectors(learned.tower, some) for some in (learned.pooled, titles))
        closeness[share] = float((whole * short).sum(1).mean())
    assert closeness[0.7] > closeness[0.0] + 0.01
