"""The compiled loops are there also where nothing may be kept; what they add up: test_forest.py."""

import os
import subprocess
import sys

import pytest

RUN = """
import numpy as np
from scipy import sparse
from recsys.neighbours import dense_product
half = sparse.csr_matrix(np.full((2, 2), 0.5, np.float32))
print(dense_product(half, half).tolist())
"""


@pytest.mark.parametrize("kept", [True, False], ids=["a folder to keep them", "no folder"])
def test_loops_are_compiled_whether_or_not_they_can_be_kept(kept, tmp_path):
    where = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    where |= {"NUMBA_CACHE_DIR": str(tmp_path)} if kept else {}
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=False,
                          env=os.environ | where)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[[0.5, 0.5], [0.5, 0.5]]"
    assert any(tmp_path.rglob("*.nbi")) == kept
