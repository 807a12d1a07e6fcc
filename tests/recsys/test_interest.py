"""A user is a weighted mean of what they took last, and nothing without a history."""

import numpy as np
import pytest
import torch
from scipy import sparse

from recsys.interest import RECENCY_DECAY, TextModel, UserPooling, user_vectors

DIM, HISTORY = 6, 4


@pytest.fixture
def vectors():
    drawn = np.random.default_rng(0).normal(size=(9, DIM))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def trained():
    """A pooling with weights of its own in every part."""
    pooling, rng = UserPooling(DIM, HISTORY), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    return pooling


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("place", range(HISTORY))
def test_a_history_of_one_is_that_vector(vectors, place):
    past = np.full((1, HISTORY), -1)
    past[0, place] = 3
    pooling = trained()
    with torch.no_grad():
        pooling.residual.zero_()
    for some in (UserPooling(DIM, HISTORY), pooling):
        np.testing.assert_allclose(user_vectors(some, vectors, past)[0], vectors[3], atol=1e-6)


def test_an_empty_history_is_the_zero_vector_trained_or_not(vectors):
    past = np.full((2, HISTORY), -1)
    for pooling in (UserPooling(DIM, HISTORY), trained()):
        assert user_vectors(pooling, vectors, past).tolist() == np.zeros((2, DIM)).tolist()


def test_an_untrained_pooling_is_a_recency_weighted_mean(vectors):
    past = np.array([[5, 2, 7, -1]])
    mean = vectors[5] + RECENCY_DECAY * vectors[2] + RECENCY_DECAY**2 * vectors[7]
    found = user_vectors(UserPooling(DIM, HISTORY), vectors, past)
    np.testing.assert_allclose(found[0], unit(mean), atol=1e-6)


def test_a_trained_pooling_is_the_formula_written_out(vectors):
    pooling, past = trained(), [5, 2, 7]
    recency, query, residual = (p.detach().numpy() for p in pooling.parameters())
    weights = [np.exp(recency[k] + query @ vectors[item]) for k, item in enumerate(past)]
    pooled = sum(w / sum(weights) * vectors[i] for w, i in zip(weights, past, strict=True))
    found = user_vectors(pooling, vectors, np.array([[*past, -1]]))
    np.testing.assert_allclose(found[0], unit(pooled + pooled @ residual), atol=1e-5)


def test_the_order_of_the_history_matters(vectors):
    for pooling in (UserPooling(DIM, HISTORY), trained()):
        new, old = user_vectors(pooling, vectors, np.array([[1, 2, -1, -1], [2, 1, -1, -1]]))
        assert np.abs(new - old).max() > 1e-3
    new, old = user_vectors(UserPooling(DIM, HISTORY), vectors, np.array([[1, 2, -1, -1]] * 2))
    assert new @ vectors[1] > new @ vectors[2]  # what was taken last counts most
    np.testing.assert_array_equal(new, old)


def test_only_the_last_items_are_looked_at_and_users_do_not_mix(vectors):
    rng = np.random.default_rng(1)
    past = rng.integers(-1, 9, (5, HISTORY + 3))
    together = user_vectors(trained(), vectors, past)
    for row in range(5):
        alone = user_vectors(trained(), vectors, past[row : row + 1, :HISTORY])
        np.testing.assert_allclose(together[row], alone[0], atol=1e-6)


def test_a_text_model_looks_at_the_texts_of_the_items(vectors):
    text_of_item = np.array([8, 8, 0, 3])
    pooling, past = trained(), np.array([[1, 3, -1, -1], [-1, -1, -1, -1]])
    frozen, tuned = TextModel(text_of_item, vectors, -vectors, pooling, None).users(past)
    texts = np.array([[8, 3, -1, -1], [-1, -1, -1, -1]])
    plain = user_vectors(UserPooling(DIM, HISTORY), vectors, texts)
    np.testing.assert_array_equal(frozen, plain)
    np.testing.assert_array_equal(tuned, user_vectors(pooling, -vectors, texts))
    assert not frozen[1].any() and not tuned[1].any()


def test_words_of_the_past_are_weighed_and_summed_over_texts(vectors):
    text_of_item = np.array([1, 1, 0, 2])
    lexical = sparse.csr_matrix(np.array([[1, 0.5, 0], [0.5, 1, 0.2], [0, 0.2, 0]], np.float32))
    model = TextModel(text_of_item, vectors[:3], vectors[:3], trained(), lexical)
    history = np.array([[1.0, 0.5, 0, 0.25], [0, 0, 0, 0]], np.float32)
    expected = [history @ lexical.toarray()[text_of_item][:, text] for text in text_of_item]
    past = model.past_texts(sparse.csr_matrix(history))
    found = (past @ model.lexical).toarray()[:, text_of_item]
    np.testing.assert_allclose(found, np.transpose(expected), rtol=1e-6)
    assert not found[1].any()
