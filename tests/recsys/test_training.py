"""The head learns what is there to learn, and an example never sees its own day."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.dataset import DAY
from recsys.encoder import apply_head
from recsys.interest import user_vectors
from recsys.training import (
    Examples,
    TrainingConfig,
    batch_loss,
    copy_tower,
    examples_in,
    new_tower,
    train_head,
    tuned_vectors,
    with_titles,
)

DIM, N_TEXTS, HISTORY = 8, 40, 3
CONFIG = TrainingConfig(history=HISTORY, batch_events=100, learning_rate=0.03, warm_up_steps=2,
                        max_epochs=5, patience=2, weight_decay=0.01)  # fmt: skip


def unit_rows(rng, n):
    drawn = rng.normal(size=(n, DIM))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vectors():
    return unit_rows(np.random.default_rng(0), N_TEXTS)


@pytest.fixture
def planted(vectors):
    """What is taken next is the text nearest to the last one turned by a fixed rotation."""
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    last = rng.integers(0, N_TEXTS, 400)
    past = np.column_stack([last, np.full((400, HISTORY - 1), -1)])
    target = (vectors[last] @ rotation @ vectors.T).argmax(1)
    return Examples(past, target, np.ones(400, np.float32), np.arange(N_TEXTS))


def ndcg(tower, vectors, examples):
    moved = tuned_vectors(tower, vectors)
    scores = user_vectors(tower.pooling, moved, examples.past) @ moved.T
    own = scores[np.arange(len(scores)), examples.target]
    return float((1 / np.log2(1 + (scores >= own[:, None]).sum(1))).mean())


def numbers(tower):
    return [parameter.detach().numpy() for parameter in tower.parameters()]


def are_equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(numbers(one), numbers(other), strict=True))


def trained(vectors, examples, config=CONFIG, seed=0, **kinds):
    return train_head(vectors, examples, config, np.random.default_rng(seed), **kinds)


def same(tower):
    """A valid score that never changes."""
    return 0.0


@pytest.mark.parametrize("dated", [True, False], ids=["dated", "ordered"])
@pytest.mark.parametrize("seed", range(2))
def test_an_example_is_an_event_and_what_was_taken_before_its_day(log_of, random_rows, dated, seed):
    rows, unit = random_rows(seed, dated), DAY if dated else 1
    text_of_item = np.array([3, 0, 3, 2, 1, 5, 4, 6])
    examples = examples_in(log_of(rows), unit, text_of_item, 4)
    expected = []
    for user, moment, item, grade, weight, _ in rows:
        before = [text_of_item[row[2]] for row in rows
                  if row[0] == user and row[3] > 0 and row[1] // unit < moment // unit]  # fmt: skip
        if grade > 0 and before:
            past = before[::-1][:4]
            expected.append((past + [-1] * (4 - len(past)), text_of_item[item], weight))
    found = zip(examples.past.tolist(), examples.target, examples.weight, strict=True)
    assert list(found) == expected
    assert len(expected) > 20


def test_a_basket_teaches_nothing_about_itself(log_of):
    rows = [(1, 0, 0), (1, 1, 1), (1, DAY, 2), (1, DAY + 1, 3), (2, 0, 4), (2, 9, 5)]
    examples = examples_in(log_of(rows), DAY, np.arange(6), 3)
    assert examples.past.tolist() == [[1, 0, -1], [1, 0, -1]]
    assert examples.target.tolist() == [2, 3]


def test_a_planted_preference_is_learned(vectors, planted):
    frozen = ndcg(new_tower(DIM, HISTORY), vectors, planted)
    tower, scores = trained(
        vectors, planted, CONFIG.model_copy(update={"max_epochs": 15}),
        valid_score=lambda now: ndcg(now, vectors, planted),
    )  # fmt: skip
    assert scores[0] == frozen < 0.4
    assert ndcg(tower, vectors, planted) == max(scores) > 0.6


def test_one_seed_one_tower(vectors, planted):
    one, again, other = (trained(vectors, planted, seed=seed, epochs=1)[0] for seed in (0, 0, 1))
    assert are_equal(one, again)
    assert not are_equal(one, other)


def test_threads_that_race_change_no_bit():
    rng = np.random.default_rng(0)  # the size at which torch shares the work between its threads
    vectors = rng.normal(size=(48, 384)).astype(np.float32)
    examples = Examples(rng.integers(0, 48, (1000, 20)), rng.integers(0, 48, 1000),
                        np.ones(1000, np.float32), np.arange(48))  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    towers = [trained(vectors, examples, TrainingConfig(), epochs=1)[0] for _ in range(4)]
    torch.set_num_threads(threads)
    assert all(are_equal(towers[0], tower) for tower in towers[1:])


def test_weights_are_relative(vectors, planted):
    weight = np.random.default_rng(0).random(400).astype(np.float32)
    one, doubled, equal = (
        trained(vectors, replace(planted, weight=some), epochs=1)[0]
        for some in (weight, 2 * weight, np.ones_like(weight))
    )
    assert are_equal(one, doubled)
    assert not are_equal(one, equal)


def test_an_event_of_no_weight_teaches_nothing(vectors, planted):
    mute = np.arange(400) % 2 == 0
    weight = np.where(mute, 0, 1).astype(np.float32)
    other = np.where(mute, 0, planted.target)  # whatever it says
    one, two = (trained(vectors, replace(planted, target=target, weight=weight), epochs=1)[0]
                for target in (planted.target, other))  # fmt: skip
    assert are_equal(one, two)


def test_epochs_are_counted_out_without_a_look_at_the_score(vectors, planted):
    def never(tower):
        raise AssertionError("the valid score was asked for")

    steps = []
    tower, scores = trained(vectors, planted, valid_score=never, epochs=3,
                            on_step=lambda *step: steps.append(step))  # fmt: skip
    assert scores == []
    assert [step[:2] for step in steps] == [(at + 1, 3 * 4) for at in range(3 * 400 // 100)]
    assert not are_equal(tower, new_tower(DIM, HISTORY))
    start, none = copy_tower(tower), trained(vectors, planted, epochs=0, start=tower)[0]
    assert are_equal(none, start)


def test_going_on_does_not_change_where_it_started(vectors, planted):
    start, _ = trained(vectors, planted, epochs=1)
    copy = copy_tower(start)
    further, _ = trained(vectors, planted, epochs=1, start=start)
    assert are_equal(start, copy)
    assert not are_equal(further, start)


@pytest.mark.parametrize(
    ("given", "best", "asked"),
    [
        ([5, 4, 3, 2, 1, 0], 0, 1 + 2),  # nothing helps: the frozen one, after `patience`
        ([0, 3, 2, 1, 9, 9], 1, 1 + 1 + 2),
        ([0, 1, 2, 3, 4, 5], 5, 1 + 5),  # until `max_epochs`
    ],
)
def test_the_best_tower_by_the_valid_score_comes_back(vectors, planted, given, best, asked):
    towers = []

    def score(tower):
        towers.append(copy_tower(tower))
        return given[len(towers) - 1]

    tower, scores = trained(vectors, planted, valid_score=score)
    assert scores == given[:asked]
    assert are_equal(tower, towers[best])
    assert are_equal(towers[0], new_tower(DIM, HISTORY))


def test_a_pass_over_many_events_looks_at_a_sample(vectors, planted):
    steps = []
    config = CONFIG.model_copy(update={"epoch_events": 150})
    trained(vectors, planted, config, epochs=2, on_step=lambda *step: steps.append(step))
    assert [step[:2] for step in steps] == [(at + 1, 2 * 2) for at in range(2 * -(-150 // 100))]


def test_on_top_of_an_aligned_head_training_sees_aligned_vectors(vectors, planted):
    aligned = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(0)) / 5
    start = new_tower(DIM, HISTORY, aligned)
    over, _ = trained(vectors, planted, epochs=1, start=start)
    moved = apply_head(torch.from_numpy(vectors), aligned).numpy()
    alone, _ = trained(moved, planted, epochs=1)
    assert torch.equal(over.aligned, aligned) and torch.equal(start.aligned, aligned)
    for one, other in zip(numbers(over), numbers(alone), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    np.testing.assert_allclose(tuned_vectors(over, vectors), tuned_vectors(alone, moved), atol=1e-5)


def test_weight_decay_pulls_back_to_the_start_and_leaves_the_scale(vectors, planted):
    strong = CONFIG.model_copy(update={"weight_decay": 1 / CONFIG.learning_rate})  # all, each step
    held, _ = trained(vectors, planted, strong, epochs=2)
    free, _ = trained(vectors, planted, CONFIG, epochs=2)
    assert held.head.abs().max() < 0.4 * free.head.abs().max()
    start = new_tower(DIM, HISTORY)
    for tower in (held, free):
        assert (tower.log_scale - start.log_scale).abs() > 0.1


def test_an_untrained_tower_leaves_vectors_as_they_are(vectors):
    np.testing.assert_allclose(tuned_vectors(new_tower(DIM, 2), vectors), vectors, atol=1e-6)


def test_the_loss_is_the_weighted_softmax_written_out(vectors, planted):
    tower, _ = trained(vectors, planted, epochs=1)
    weight = np.array([1, 2, 5])
    known = np.arange(0, N_TEXTS, 2)
    rows = np.flatnonzero(np.isin(planted.target, known))[:3]
    examples = Examples(planted.past[rows], planted.target[rows], weight.astype(np.float32), known)
    config = CONFIG.model_copy(update={"dropout": 0.0})
    found = batch_loss(tower, torch.from_numpy(vectors), examples, np.arange(3), config,
                       np.random.default_rng(0))  # fmt: skip
    items = apply_head(torch.from_numpy(vectors), tower.head).detach().numpy()
    logits = tower.log_scale.exp().item() * user_vectors(tower.pooling, items, examples.past)
    logits = logits @ items.T
    each = [np.log(np.exp(row[known]).sum()) - row[target]
            for row, target in zip(logits, examples.target, strict=True)]  # fmt: skip
    assert found.item() == pytest.approx((weight * each).sum() / weight.sum(), rel=1e-4)


@pytest.mark.parametrize("negatives", [8, 4096], ids=["sampled", "all"])
def test_a_text_that_nobody_took_is_no_negative(vectors, planted, negatives):
    unseen = unit_rows(np.random.default_rng(5), 3)
    shifted = Examples(np.where(planted.past < 0, -1, planted.past + 3), planted.target + 3,
                       planted.weight, planted.known + 3)  # fmt: skip
    config = CONFIG.model_copy(update={"negative_texts": negatives})
    one, _ = trained(vectors, planted, config, epochs=2)
    other, _ = trained(np.vstack([unseen, vectors]), shifted, config, epochs=2)
    assert are_equal(one, other)


def test_a_sampled_denominator_is_right_in_expectation(vectors, planted):
    """exp(loss) of one example is the denominator over the target's own term, so it averages."""
    rng, vectors_in = np.random.default_rng(0), torch.from_numpy(vectors)
    whole, few = (CONFIG.model_copy(update={"dropout": 0.0, "negative_texts": n}) for n in (40, 8))
    tower = new_tower(DIM, HISTORY)
    with torch.no_grad():
        tower.log_scale.fill_(0.0)
        row = np.array([3])
        exact = float(batch_loss(tower, vectors_in, planted, row, whole, rng).exp())
        drawn = [float(batch_loss(tower, vectors_in, planted, row, few, rng).exp())
                 for _ in range(1500)]  # fmt: skip
    assert np.std(drawn) > 0.01 * exact  # it is a sample
    error = np.std(drawn) / 1500**0.5
    assert abs(np.mean(drawn) - exact) < 4 * error < 0.02 * exact


def test_without_examples_nothing_is_learned(vectors):
    no_codes = np.zeros(0, np.int64)
    none = Examples(np.zeros((0, HISTORY), np.int64), no_codes, np.zeros(0, np.float32), no_codes)
    tower, _ = trained(vectors, none, valid_score=same)
    assert are_equal(tower, new_tower(DIM, HISTORY))


def test_a_batch_of_events_of_no_weight_does_no_harm(vectors, planted):
    weight = np.zeros(400, np.float32)
    tower, _ = trained(vectors, replace(planted, weight=weight), epochs=1)
    assert all(np.isfinite(values).all() for values in numbers(tower))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_past_is_met_by_its_title_and_nothing_else_changes(share):
    rng, n = np.random.default_rng(0), 50
    vectors, titles = rng.normal(size=(2, n, 4)).astype(np.float32)
    past = rng.integers(-1, n, (400, HISTORY))
    target = rng.integers(0, n, 400)
    examples = Examples(past, target, np.ones(400, np.float32), np.arange(n))
    both, found = with_titles(vectors, titles, examples, share, rng)
    np.testing.assert_array_equal(both, np.concatenate([vectors, titles]))
    for name in ("target", "weight", "known"):
        assert getattr(found, name) is getattr(examples, name)
    np.testing.assert_array_equal(np.where(found.past < n, found.past, found.past - n), past)
    assert (found.past >= n)[past >= 0].mean() == pytest.approx(share, abs=0.03)
    assert (found.past[past < 0] == -1).all()
