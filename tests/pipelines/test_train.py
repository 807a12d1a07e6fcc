"""A ranker trained elsewhere ranks in a run as one fitted here."""

import numpy as np
import pytest

from features.catalogue import active_features
from pipelines.model import load_model
from pipelines.tracking import find_model
from pipelines.train import train


@pytest.mark.slow
def test_a_ranker_of_a_run_taken_into_another_run_ranks_as_before(
    small_world, moved_columns, tmp_path
):
    """Its columns turned around, and learning nothing here: the same numbers on the test window."""
    folder = find_model(small_world.config, small_world.trained.model_uri)[1]
    names = active_features(dated=True)
    turned = moved_columns((folder / "ranker.txt").read_text(), np.arange(len(names))[::-1])
    assert f"feature_names={' '.join(reversed(names))}\n" in turned
    (tmp_path / "ranker.txt").write_text(turned)
    config, said = small_world.config, []
    ranker = config.ranker.model_copy(update={"model": str(tmp_path / "ranker.txt")})
    config = config.model_copy(update={"run_dir": tmp_path / "run", "ranker": ranker})
    trained = train(config, lambda *words: said.append(words))
    report = trained.report
    before = small_world.trained.report
    assert report["encoder"]["refit"] == before["encoder"]["refit"]
    for name in ("full", "ranker_without_text", "tuned_encoder"):
        assert report["models"][name]["test"] == before["models"][name]["test"], name
    assert report["ranker"]["importance"] == before["ranker"]["importance"]
    assert report["ranker"]["model"] == ranker.model and not report["ranker"]["refit"]
    assert before["ranker"]["model"] == "" and before["ranker"]["refit"]
    assert any(note.startswith("careful: whether it has seen") for *_, note in said)
    model = load_model(find_model(config, trained.model_uri)[1])
    assert model.ranker.features == model.heads.features == tuple(reversed(names))
    assert f"feature_names={' '.join(reversed(names))}\n" in model.ranker.to_text()
