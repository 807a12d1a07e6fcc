"""Heads are calibrated and measured on every candidate of every request that was drawn."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines import tracking
from pipelines.calibrate import STREAMS, calibrate_heads, learn_heads, measure_heads, outputs
from pipelines.model import at_moment, load_model
from pipelines.recommender import look
from pipelines.run import Run
from pipelines.stages import Stages
from pipelines.windows import Fitted
from recsys.candidates import OPTIONAL, SOURCES, CandidateConfig
from recsys.errors import ConfigError
from recsys.rows import Rows

pytestmark = pytest.mark.slow
FEW = CandidateConfig(**dict.fromkeys(set(SOURCES) - set(OPTIONAL), 2))


@pytest.fixture(scope="module")
def known(small_world):
    """Return (run, fitted, snapshot, heads) at the start of valid, with few candidates."""
    from pipelines.prepared import open_prepared

    config = small_world.config
    prepared = open_prepared(config.run_dir / "prepared")
    model = load_model(tracking.find_model(config, "models:/recommender@champion")[1])
    start, cache = prepared.windows.valid, config.run_dir / "embeddings"
    method, snapshot = at_moment(model, prepared, start, cache)
    method = replace(method, candidates=FEW)
    run = Run(config, prepared, method, Stages(), lambda *_: None)
    return run, Fitted(start, snapshot.texts, snapshot.related), snapshot, model.heads


def test_requests_where_nothing_was_taken_are_looked_at_whole(known):
    run, fitted, snapshot, heads = known
    raw, grade = outputs(run, "valid", fitted, heads.models)
    requests = run.requests("valid", run.config.heads.max_requests, STREAMS["valid"])
    rows, hit = 0, []
    for bucket, part in enumerate(requests):
        log = run.prepared.bucket(bucket)
        for row in range(len(part)):
            one = part.take(np.array([row]))
            found = look(run.method, snapshot, log, one.user, one.moment).candidates.item
            rows, hit = rows + len(found), [*hit, len(np.intersect1d(found, one.item))]
    hit = np.array(hit)
    assert 10 < (hit == 0).sum() < len(hit) - 10  # both kinds are there
    assert raw.shape == (len(grade), 1) and len(grade) == pytest.approx(rows, rel=0.05)
    assert (grade > 0).sum() == pytest.approx(hit.sum(), abs=3)  # state rolls on in the walk
    assert grade.mean() < 0.6 * hit.sum() / (rows * (hit > 0).mean())  # they make it less


def test_what_was_calibrated_on_a_window_is_on_average_right_there(known):
    run, fitted, _, heads = known
    models = dict(zip(heads.levels, heads.models, strict=True))
    found = calibrate_heads(run, fitted, models)
    raw, grade = outputs(run, "valid", fitted, heads.models)
    assert found.calibrated(raw).mean() == pytest.approx((grade > 0).mean(), rel=0.1)
    assert np.abs(found.calibrated(raw) - raw).mean() > 0.05 * raw.mean()  # learned from others


def test_the_test_window_is_measured_in_bins(known):
    run, fitted, _, heads = known
    values = measure_heads(run, fitted, heads)["at_least_1"]
    bins = values["bins"]
    assert sum(one["rows"] for one in bins) == values["rows"] > 500
    assert sum(one["share"] * one["rows"] for one in bins) == pytest.approx(values["taken"])
    assert values["share"] == pytest.approx(values["taken"] / values["rows"])
    off = sum(abs(one["share"] - one["mean"]) * one["rows"] for one in bins)
    assert values["ece"] == pytest.approx(off / values["rows"])
    assert values["brier_constant"] == pytest.approx(values["share"] * (1 - values["share"]))


def test_a_grade_without_a_value_is_refused_before_anything_is_fitted(known):
    ranker = known[0].config.ranker.model_copy(update={"values": (0.0, 1.0)})
    run = replace(known[0], config=known[0].config.model_copy(update={"ranker": ranker}))
    rows = Rows(np.zeros((2, 1), np.float32), np.array([0, 2]), np.array([2]))
    with pytest.raises(ConfigError, match=r"ranker\.values: 2 values .* grades go up to 2"):
        learn_heads(run, rows, ("one",))
