"""Going on from a model: new events are learned, old ones replayed, nothing seen is measured."""

from collections import Counter
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from pipelines import tracking
from pipelines.continual import (
    Start,
    check_start,
    drawn,
    examples_of,
    joined,
    learn_further,
)
from pipelines.model import load_model
from pipelines.prepared import open_prepared
from pipelines.stopping import stopping_moment
from pipelines.textmodel import distinct_texts
from pipelines.train import train
from recsys.alignment import aligned_head
from recsys.dataset import DAY, concat
from recsys.encoder import TextEncoder, load_encoder
from recsys.errors import ConfigError
from recsys.finetuning import last_layers
from recsys.split import leave_last_out
from recsys.training import copy_tower, examples_in, new_tower, train_head

CHAMPION = "models:/recommender@champion"


def quiet(*_):
    pass


# --- by the command line --------------------------------------------------------------------------


@pytest.mark.slow
def test_going_on_registers_a_challenger_that_says_where_it_comes_from(later_world):
    assert "\nchallenger models:/recommender/" in later_world.said
    challenger, _ = tracking.find_model(later_world.config, "models:/recommender@challenger")
    champion, _ = tracking.find_model(later_world.config, CHAMPION)
    assert int(challenger.version) > int(champion.version) == 1
    run = mlflow.get_run(challenger.run_id)
    assert run.data.tags["continued_from"] == champion.uri
    continued = later_world.report["encoder"]["continued"]
    assert continued["from"] == champion.uri
    for name in ("new_before", "new_after", "old_before", "old_after"):
        assert run.data.metrics[f"continued/{name}"] == continued[name]
        assert f" {continued[name]:.4f}" in later_world.said


@pytest.mark.slow
def test_going_on_is_never_worse_than_its_start_on_the_stopping_window(later_world):
    encoder = later_world.report["encoder"]
    steps = [*("frozen", "start", "aligned"), *["head"] * (len(encoder["curve"]) - 3)]
    assert encoder["steps"] == steps and "head" in steps
    scores = [*encoder["curve"], *([encoder["layers_score"]] if encoder["layers_kept"] else [])]
    assert encoder["continued"]["new_before"] == scores[1]
    assert encoder["continued"]["new_after"] == max(scores)


@pytest.mark.slow
def test_texts_that_a_model_came_with_are_not_encoded_again(small_world, later_world):
    def parts(world):
        return {path.relative_to(world.config.run_dir): path.stat().st_mtime_ns
                for path in (world.config.run_dir / "embeddings").rglob("*.parquet")}  # fmt: skip

    before, after = parts(small_world), parts(later_world)
    folders = {path.parent for path in before}
    assert {path for path in after if path.parent in folders} == before.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, r"models:/recommender/1: it was fitted on events before 2026-04-.* stopping window"),
        ({"training": {"history": 7}}, "training.history = 20, the config says 7"),
        ({"encoder": {"max_tokens": 8}}, "with max_tokens = 16, the config names another: .* = 8"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_run_begins(small_world, changed, said):
    """The first: nothing came after what the model was fitted on."""
    config = small_world.config
    for section, keys in changed.items():
        new = getattr(config, section).model_copy(update=keys)
        config = config.model_copy(update={section: new})
    tracking.connect(config)
    runs = len(mlflow.search_runs(search_all_experiments=True))
    with pytest.raises(ConfigError, match=said):
        train(config, quiet, CHAMPION)
    assert len(mlflow.search_runs(search_all_experiments=True)) == runs


@pytest.mark.slow
def test_a_model_that_is_not_there_is_refused_before_data_is_prepared(small_world, tmp_path):
    config = small_world.config.model_copy(update={"run_dir": tmp_path / "run"})
    with pytest.raises(ConfigError, match="no such model"):
        train(config, quiet, "models:/recommender/99")
    assert not (tmp_path / "run/prepared").exists()


# --- what may be gone on from ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(small_world):
    """The small world's items, log and windows, and a config that tunes no layer."""
    prepared = open_prepared(small_world.config.run_dir / "prepared")
    training = small_world.config.training.model_copy(update={"layers": 0})
    config = small_world.config.model_copy(update={"training": training})
    return prepared.items(), concat(prepared.logs()), prepared.windows, config


@pytest.fixture(scope="module")
def begun(shop):
    """Train ten epochs on the first 48 days, enough to be better than the frozen encoder."""
    items, log, _, config = shop
    until, training = (int(log.moment.min() // DAY) + 48) * DAY, config.training
    encoder, rng = load_encoder(config.encoder), np.random.default_rng(0)
    texts, text_of_item = distinct_texts(items.text)
    examples = examples_in(log.before(until), DAY, text_of_item, training.history)
    frozen = encoder.encode(texts)
    tower = new_tower(encoder.dim, training.history, aligned_head(frozen, examples, 1.0, rng))
    tower, _ = train_head(frozen, examples, training, rng, epochs=10, start=tower)
    return Start("models:/recommender/1", encoder, encoder, tower, until, True)


def fitted_on(start, moment, dated=True):
    return replace(start, fitted_before=moment, dated=dated)


@pytest.mark.slow
def test_a_model_may_have_seen_everything_before_the_stopping_window_but_not_all(shop, begun):
    _, log, windows, _ = shop
    stop = stopping_moment(log, windows)
    check_start(fitted_on(begun, stop - DAY), windows, log)
    with pytest.raises(ConfigError, match="no event is new between then and 2026-03-.*newer"):
        check_start(fitted_on(begun, stop), windows, log)
    with pytest.raises(ConfigError, match=r"stopping window begins at 2026-03-.*has seen"):
        check_start(fitted_on(begun, stop + DAY), windows, log)


@pytest.mark.slow
def test_events_that_teach_nothing_are_nothing_new(shop, begun):
    _, log, windows, _ = shop
    since = begun.fitted_before
    muted = replace(log, weight=log.weight * (log.moment < since))
    with pytest.raises(ConfigError, match="no event is new"):
        check_start(begun, windows, muted)


@pytest.mark.slow
def test_an_order_only_is_refused(shop, begun):
    _, log, windows, _ = shop
    positions = leave_last_out(len(log), len(log.users))
    for start, theirs in ((begun, positions), (fitted_on(begun, -1, dated=False), windows)):
        with pytest.raises(ConfigError, match="order only .* which are new"):
            check_start(start, theirs, log)


# --- what is learned ------------------------------------------------------------------------------


def further(shop, start, **changed):
    items, log, windows, config = shop
    training = config.training.model_copy(update=changed)
    config = config.model_copy(update={"training": training})
    return learn_further(start, items, log, windows, config, False, quiet)


def are_equal(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return torch.equal(one.aligned, other.aligned) and all(torch.equal(a, b) for a, b in pairs)


def teaching(log, begin, end):
    """Count the events of [begin, end) whose user took something on an earlier day, by pandas."""
    table = pd.DataFrame({"user": log.row, "day": log.moment // DAY, "moment": log.moment})
    first = table.groupby("user")["day"].transform("min")
    return int(((table["day"] > first) & table["moment"].between(begin, end - 1)).sum())


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 100.0])
def test_old_events_are_replayed_by_their_share_of_the_new_ones(shop, begun, share):
    _, log, windows, _ = shop
    since, stop = begun.fitted_before, stopping_moment(log, windows)
    new, old = teaching(log, since, stop), teaching(log, 0, since)
    assert 0 < new < old < 100 * new
    _, continued = further(shop, begun, replay=share, max_epochs=0)
    replayed = min(round(share * new), old)
    assert (continued.new_events, continued.replayed_events) == (new, replayed)


def as_rows(examples):
    columns = (examples.past, examples.target[:, None], examples.weight[:, None])
    return sorted(map(tuple, np.hstack(columns).tolist()))


@pytest.mark.slow
def test_new_and_old_examples_are_all_there_is_and_a_draw_is_some_of_them(shop):
    items, log, windows, config = shop
    _, text_of_item = distinct_texts(items.text)
    how = (windows.unit, text_of_item, config.training.history)
    is_new = log.moment >= np.quantile(log.moment, 0.6)
    new, old = (examples_of(log, which, *how) for which in (is_new, ~is_new))
    everything, both = examples_in(log, *how), joined(new, old)
    assert min(len(new.target), len(old.target)) > 50
    assert as_rows(both) == as_rows(everything)
    np.testing.assert_array_equal(both.known, everything.known)  # whatever anybody ever took
    some = drawn(old, 20, np.random.default_rng(0))
    assert len(as_rows(some)) == 20 and not Counter(as_rows(some)) - Counter(as_rows(old))
    assert as_rows(drawn(old, 10**6, np.random.default_rng(0))) == as_rows(old)


@pytest.mark.slow
def test_alignment_is_solved_on_all_events(shop, begun):
    items, log, windows, config = shop
    _, text_of_item = distinct_texts(items.text)
    until = log.before(stopping_moment(log, windows))
    examples = examples_in(until, windows.unit, text_of_item, config.training.history)
    assert len(examples.target) == teaching(until, 0, stopping_moment(log, windows))
    learned, _ = further(shop, begun, replay=0.0, max_epochs=1, refit_epochs=0)
    assert learned.steps == ["frozen", "start", "aligned", "head"] and learned.kept == "head"
    expected = aligned_head(learned.frozen, examples, config.training.ridge, None)
    torch.testing.assert_close(learned.tower.aligned, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(begun.tower.aligned, expected, rtol=0, atol=5e-5)


@pytest.mark.slow
def test_the_start_is_not_changed(shop, begun):
    before = copy_tower(begun.tower)
    learned, _ = further(shop, begun, refit_epochs=0)
    assert are_equal(before, begun.tower)
    assert learned.kept == "head" and not are_equal(learned.tower, before)


@pytest.mark.slow
def test_what_the_stopping_window_does_not_want_is_not_done(shop, begun):
    learned, continued = further(shop, begun, align=False, max_epochs=0)
    assert learned.steps == ["frozen", "start"] and learned.curve[1] > learned.curve[0]
    assert learned.kept == "start" and are_equal(learned.tower, begun.tower)
    assert continued.new_before == continued.new_after
    assert continued.old_before == continued.old_after


@pytest.mark.slow
def test_a_start_that_got_worse_than_the_frozen_encoder_is_left(shop, begun):
    """Its users like the opposite of what they took, and its encoder is another object."""
    tower, own = copy_tower(begun.tower), begun.frozen_encoder
    with torch.no_grad():
        tower.pooling.residual.copy_(-2 * torch.eye(own.dim))
    tuned = TextEncoder(own.model, own.tokenizer, own.head, own.config)
    start = replace(begun, tower=tower, encoder=tuned)
    learned, continued = further(shop, start, align=False, max_epochs=0)
    assert learned.kept == "frozen" and continued.new_after == learned.curve[0]
    assert learned.tuned_encoder is learned.frozen_encoder
    np.testing.assert_allclose(learned.text_model().tuned, learned.frozen, atol=1e-6)


@pytest.mark.slow
def test_going_on_with_layers_begins_at_the_layers_of_the_start(shop, begun):
    """With steps next to nothing the layers stay what they were, and so does the score."""
    items, _, _, config = shop
    other = load_encoder(config.encoder)
    with torch.no_grad():
        for weight in last_layers(other.model, 1)[0].parameters():
            weight.mul_(1.05)
    start = replace(begun, encoder=other)
    small = {"learning_rate": 1e-12, "layer_learning_rate": 1e-12}
    learned, _ = further(shop, start, layers=1, layer_passes=1, max_epochs=1, **small)
    texts = sorted(set(items.text))
    np.testing.assert_allclose(learned.pooled, other.encode(texts), atol=1e-5)
    assert np.abs(learned.pooled - learned.frozen).max() > 1e-3
    assert learned.frozen_encoder is begun.frozen_encoder
    assert learned.layers_score == pytest.approx(max(learned.curve), abs=1e-6)


@pytest.mark.slow
def test_a_log_without_the_old_events_has_nothing_to_replay(shop, begun):
    items, log, windows, config = shop
    since = begun.fitted_before
    recent = log.keep(log.moment >= since)
    _, continued = further((items, recent, windows, config), begun, max_epochs=1)
    assert continued.new_events > 0 and continued.replayed_events == 0
    assert np.isnan(continued.old_before) and np.isfinite(continued.new_before)


@pytest.mark.slow
def test_a_model_comes_back_with_the_parts_it_was_trained_in(small_world):
    model = load_model(tracking.find_model(small_world.config, CHAMPION)[1])
    torch.testing.assert_close(model.tower.whole_head(), model.head, rtol=0, atol=1e-6)
    assert model.tower.aligned.any()
