"""What is shared comes back equal, and its arrays are the file's pages."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from serving.sharing import share, shared


@dataclass(frozen=True)
class Known:
    vectors: np.ndarray
    follows: sparse.csr_matrix
    ids: np.ndarray
    words: pa.Array


@pytest.fixture
def known():
    rng = np.random.default_rng(0)
    follows = sparse.random(300, 300, 0.1, "csr", rng=rng)
    ids = np.array([f"item-{at}" for at in range(300)], dtype=object)
    return Known(rng.normal(size=(300, 40)).astype(np.float32), follows, ids, pa.array(ids))


def test_a_value_comes_back_equal(known, tmp_path):
    share(known, tmp_path / "shared.bin")
    back = shared(tmp_path / "shared.bin")
    assert back.vectors.dtype == np.float32 and (back.vectors == known.vectors).all()
    assert (back.follows != known.follows).nnz == 0
    assert (back.ids == known.ids).all() and back.words.equals(known.words)


def test_its_arrays_are_pages_of_the_file(known, tmp_path):
    path = tmp_path / "shared.bin"
    share(known, path)
    back = shared(path)
    for array in (back.vectors, back.follows.data, back.follows.indices, back.follows.indptr):
        assert not array.flags.owndata and array.ctypes.data % 64 == 0
    at = path.read_bytes().index(known.vectors.tobytes())
    with path.open("r+b") as file:  # whoever changes the file changes what all of them see
        file.seek(at)
        file.write(np.float32(7).tobytes())
    assert back.vectors[0, 0] == 7


def test_a_write_stays_in_the_process_that_writes(known, tmp_path):
    share(known, tmp_path / "shared.bin")
    first, second = (shared(tmp_path / "shared.bin") for _ in range(2))
    first.vectors[:] = 0
    assert (second.vectors == known.vectors).all()
