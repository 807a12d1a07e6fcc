"""Words in common: the cosine is the formula, and nothing but shared words counts."""

import re

import numpy as np
import pytest

from recsys.lexical import lexical_neighbours

SHOP = [
    "red nail lacquer 15 ml", "blue nail lacquer 15 ml", "red lip balm", "shampoo for dry hair",
    "conditioner for dry hair", "Red NAIL polish remover", "unlike anything",
]  # fmt: skip
NONE = [""] * len(SHOP)


def words(text):
    return set(re.findall(r"\w+", text.lower()))


def cosines(texts, titles):
    """Cosines of smoothed TF-IDF over the words that two texts or more have, from sets."""
    bags, n = [words(text) for text in texts], len(texts)
    having = {word: sum(word in bag for bag in bags) for word in set().union(*bags)}
    rare = {word: np.log((1 + n) / (1 + k)) + 1 for word, k in having.items() if k > 1}
    vectors = [{word: rare.get(word, 0) * (2 if word in words(title) else 1) for word in bag}
               for bag, title in zip(bags, titles, strict=True)]  # fmt: skip

    def dot(a, b):
        return sum(a[word] * b[word] for word in a.keys() & b.keys())

    return np.array([[dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5 if dot(a, b) else 0
                      for b in vectors] for a in vectors])  # fmt: skip


def test_the_cosine_is_the_formula_and_a_text_is_closest_to_itself():
    found = lexical_neighbours(SHOP, NONE, len(SHOP)).toarray()
    np.testing.assert_allclose(found, cosines(SHOP, NONE), atol=1e-6)
    assert found[0, 0] == 1.0 and found[0, 1] > found[0, 5] > found[0, 2] > found[0, 3] == 0


def test_the_words_of_a_title_weigh_twice():
    titles = [" ".join(text.split()[:2]) for text in SHOP]
    found = lexical_neighbours(SHOP, titles, len(SHOP)).toarray()
    np.testing.assert_allclose(found, cosines(SHOP, titles), atol=1e-6)
    assert np.abs(found - cosines(SHOP, NONE)).max() > 0.05


def test_a_text_without_a_word_in_common_has_no_neighbour_not_even_itself():
    found = lexical_neighbours(SHOP, NONE, len(SHOP)).toarray()
    assert not found[6].any() and not found[:, 6].any()


@pytest.mark.parametrize("texts", [["", " "], ["", "!?", "..."], ["only one"]])
def test_texts_without_words_to_compare_have_no_neighbours(texts):
    found = lexical_neighbours(texts, texts, 3)
    assert (found.shape, found.nnz) == ((len(texts), len(texts)), 0)


def test_the_order_of_texts_and_of_words_changes_nothing():
    order = np.random.default_rng(0).permutation(len(SHOP))
    turned = [" ".join(reversed(SHOP[at].split())) for at in order]
    one, other = (
        lexical_neighbours(SHOP, NONE, 9).toarray(),
        lexical_neighbours(turned, NONE, 9).toarray(),
    )
    np.testing.assert_allclose(other, one[np.ix_(order, order)], atol=1e-6)


def test_the_closest_are_kept_beside_the_text_itself():
    whole = lexical_neighbours(SHOP, NONE, 9).toarray()
    found = lexical_neighbours(SHOP, NONE, 1).toarray()
    np.fill_diagonal(whole, 0)
    for row, kept in enumerate(found):
        others = np.delete(kept, row)
        assert np.count_nonzero(others) == (row != 6) and others.max() == whole[row].max()


def test_a_word_of_too_many_texts_says_nothing():
    """150 of 200 texts say "free"; each pair of texts shares a number."""
    texts = [f"{'free' if at < 150 else ''} no{at // 2}" for at in range(200)]
    found = lexical_neighbours(texts, texts, 200)
    expected = np.kron(np.eye(100), np.ones((2, 2)))
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-6)
