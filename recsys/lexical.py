"""What words items share: cosines of TF-IDF between texts. Nothing here is trained.

A vector of an encoder says what a text is about and blurs which words say so. Brands, product lines
and sizes are words, and what is taken after what often shares them: alone, these cosines are better
than the frozen encoder on shops (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from recsys.neighbours import Neighbours, cosine_neighbours

COMMON_SHARE, COMMON_AT_LEAST, COMMON_AT_MOST = 0.1, 100, 2_000  # texts with a word to ignore

TITLE_BOOST = 1.0  # what a word weighs more if the title has it


def lexical_neighbours(texts: Sequence[str], titles: Sequence[str], keep: int) -> Neighbours:
    """Return for each text the `keep` others closest in words, and itself with cosine 1.

    The weight of a word is sklearn's smoothed inverse document frequency, whether a text has it
    once or often, and twice that if its title has it. Words of one text only are left out,
    and those of more than a tenth of the texts (but of 100 at least, 2,000 at most): they cost
    most and tell least.

    Args:
        texts: (n_texts,) distinct texts.
        titles: (n_texts,) what they are the texts of, in few words.
        keep: neighbours of each.

    Returns:
        (n_texts, n_texts) float32; a text without a word to compare has no neighbour, not itself.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # a second to load

    counted = TfidfVectorizer(token_pattern=r"\w+", binary=True, norm=None, dtype=np.float32)
    try:
        weights = counted.fit_transform(texts).tocsc()
    except ValueError:  # not a word in all texts
        return sparse.csr_matrix((len(texts), len(texts)), dtype=np.float32)
    named = counted.transform(titles).tocsc()
    weights = weights + TITLE_BOOST * weights.multiply(named > 0)
    having = weights.getnnz(0)
    most = np.clip(COMMON_SHARE * len(texts), COMMON_AT_LEAST, COMMON_AT_MOST)
    weights = weights[:, (having > 1) & (having <= most)]
    itself = (weights.getnnz(1) > 0).astype(np.float32)
    words: sparse.csr_matrix = weights.T.tocsr()
    return (cosine_neighbours(words, keep) + sparse.diags(itself)).tocsr().astype(np.float32)
