"""The head in closed form: it finds what goes together, and only what was taken has a say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.alignment import aligned_head
from recsys.encoder import moved_vectors
from recsys.interest import UserPooling, user_vectors
from recsys.training import Examples

DIM, N_TEXTS = 16, 300


def solved(vectors, examples, ridge=1.0, seed=0):
    return aligned_head(vectors, examples, ridge, np.random.default_rng(seed)).numpy()


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def crowded():
    """Texts in a narrow cone: all alike in one direction, and loud in some that mean nothing."""
    rng = np.random.default_rng(0)
    loudness = np.r_[np.full(8, 3.0), np.full(8, 0.5)]
    return unit(rng.normal(size=(N_TEXTS, DIM)) * loudness + 4 * np.eye(DIM)[0])


@pytest.fixture
def examples(crowded):
    """What is taken next is near to what was taken last in the last five, quiet, directions."""
    rng = np.random.default_rng(1)
    quiet = unit(crowded[:, -5:])
    last = rng.integers(0, N_TEXTS, 3000)
    near = quiet[last] @ quiet.T + rng.gumbel(size=(3000, N_TEXTS)) / 10
    near[np.arange(3000), last] = -np.inf
    past = np.column_stack([last, np.full(3000, -1)])
    return Examples(past, near.argmax(1), np.ones(3000, np.float32), np.arange(N_TEXTS))


def hit_rate(vectors, examples):
    users = user_vectors(UserPooling(DIM, 2), vectors, examples.past)
    scores = users @ vectors.T
    scores[np.arange(len(users)), examples.past[:, 0]] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :5]
    return float((best == examples.target[:, None]).any(1).mean())


def some(examples, rows):
    return Examples(examples.past[rows], examples.target[rows], examples.weight[rows],
                    examples.known)  # fmt: skip


def test_what_goes_together_is_found_among_louder_directions(crowded, examples):
    none = some(examples, np.zeros(0, int))
    frozen = hit_rate(crowded, examples)
    white = hit_rate(moved_vectors(crowded, torch.from_numpy(solved(crowded, none))), examples)
    aligned = moved_vectors(crowded, torch.from_numpy(solved(crowded, examples)))
    assert frozen < white < hit_rate(aligned, examples)
    assert hit_rate(aligned, examples) > 2 * frozen


def test_texts_that_took_no_part_gain_as_well(crowded, examples):
    """Fitted on half of the texts, the head is right for the other half."""
    old = np.arange(N_TEXTS) < N_TEXTS // 2
    inside = old[examples.past[:, 0]] & old[examples.target]
    outside = some(examples, ~old[examples.past[:, 0]] & ~old[examples.target])
    half = replace(some(examples, inside), known=np.flatnonzero(old))
    head = torch.from_numpy(solved(crowded, half))
    assert hit_rate(moved_vectors(crowded, head), outside) > 1.5 * hit_rate(crowded, outside)


def test_without_events_texts_are_whitened(crowded, examples):
    matrix = solved(crowded, some(examples, np.zeros(0, int))) + np.eye(DIM)
    white = crowded.astype(np.float64) @ matrix
    moment = white.T @ white + matrix.T @ matrix  # the imagined texts are moved too
    np.testing.assert_allclose(moment, np.eye(DIM) * moment[0, 0], atol=1e-3 * moment[0, 0])


def test_the_order_of_events_does_not_matter(crowded, examples):
    order = np.random.default_rng(2).permutation(3000)
    np.testing.assert_allclose(solved(crowded, some(examples, order)), solved(crowded, examples),
                               atol=1e-4)  # fmt: skip


def test_weights_are_relative_and_no_weight_is_no_event(crowded, examples):
    weight = np.random.default_rng(3).integers(0, 3, 3000).astype(np.float32)
    weighted = solved(crowded, replace(examples, weight=weight))
    np.testing.assert_allclose(
        solved(crowded, replace(examples, weight=4 * weight)), weighted, atol=1e-5
    )
    heard = some(replace(examples, weight=weight), weight > 0)
    np.testing.assert_array_equal(solved(crowded, heard), weighted)
    assert np.abs(weighted - solved(crowded, examples)).max() > 1e-3


def test_a_text_that_nobody_took_has_no_say(crowded, examples):
    others = unit(np.random.default_rng(4).normal(size=(7, DIM)))
    np.testing.assert_array_equal(
        solved(np.vstack([crowded, others]), examples), solved(crowded, examples)
    )


def test_few_events_move_little_from_whitening(crowded, examples):
    white = solved(crowded, some(examples, np.zeros(0, int)))
    moved = [np.abs(solved(crowded, some(examples, np.arange(n))) - white).max()
             for n in (5, 50, 3000)]  # fmt: skip
    assert 0 < moved[0] < moved[1] < moved[2]
    shy = np.abs(solved(crowded, examples, ridge=1e6) - white).max()
    assert shy < 0.01 * moved[2]


def test_of_very_many_events_a_sample_is_enough(crowded, examples):
    rows = np.arange(120_000) % 3000
    many = some(examples, rows)
    one, again, other = (solved(crowded, many, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert 0 < np.abs(one - other).max() < 0.1 * np.abs(one).max()


@pytest.mark.parametrize("n_texts", [1, 2, 12])
def test_few_or_equal_texts_stay_numbers(n_texts):
    rng = np.random.default_rng(0)
    equal = unit(np.ones((n_texts, DIM)))
    codes = rng.integers(0, n_texts, 30)
    some_events = Examples(codes[:, None], codes[::-1].copy(), np.ones(30, np.float32),
                           np.arange(n_texts))  # fmt: skip
    for vectors in (equal, unit(rng.normal(size=(n_texts, DIM)))):
        moved = moved_vectors(vectors, torch.from_numpy(solved(vectors, some_events)))
        np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)


def test_a_next_text_that_is_rather_unlike_leaves_whitening():
    vectors = unit(np.array([[1.0, 0.0], [-1.0, 0.1]]))
    turns = Examples(np.array([[0], [1]]), np.array([1, 0]), np.ones(2, np.float32), np.arange(2))
    none = Examples(np.zeros((0, 1), int), np.zeros(0, int), np.zeros(0, np.float32), np.arange(2))
    np.testing.assert_array_equal(solved(vectors, turns), solved(vectors, none))
