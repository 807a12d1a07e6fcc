"""Users are cut in two; the held half is measured as evaluation measures."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.halves import Held, cut_by_user, held_requests
from pipelines.measure import outcome_of
from pipelines.model import at_moment, load_model
from pipelines.report import model_metrics
from pipelines.run import Run, prepare_data
from pipelines.stages import Stages
from pipelines.tracking import find_model
from pipelines.windows import Fitted
from recsys.candidates import OPTIONAL, SOURCES, CandidateConfig
from recsys.errors import ConfigError
from recsys.split import Requests


def requests_of(users):
    """Make one bucket's requests, each with one item taken, the moment its number."""
    n = len(users)
    return Requests(np.array(users, np.int64), np.arange(n), np.arange(n + 1),
                    np.arange(n, dtype=np.int32), np.ones(n, np.int8))  # fmt: skip


def told(parts):
    return [pair for part in parts
            for pair in zip(part.user.tolist(), part.moment.tolist(), strict=True)]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_user_is_in_one_half_with_all_requests(seed):
    parts = [requests_of([2, 2, 4, 6, 6, 6]), requests_of([]), requests_of([1, 3, 3, 5, 7])]
    one, other = cut_by_user(parts, np.random.default_rng(seed))
    users = [{user for user, _ in told(half)} for half in (one, other)]
    assert [len(half) for half in users] == [3, 4] and not users[0] & users[1]
    assert sorted(told(one) + told(other)) == sorted(told(parts))
    again, _ = cut_by_user(parts, np.random.default_rng(seed))
    assert told(again) == told(one)


def test_one_user_cannot_be_cut_in_two():
    with pytest.raises(ConfigError, match="1 users took something in the valid window"):
        cut_by_user([requests_of([5, 5])], np.random.default_rng(0))


def test_what_no_source_found_is_missed_and_ties_go_to_the_lower_item():
    held = Held(
        table=np.zeros((5, 1), np.float32), request=np.array([0, 0, 0, 1, 1]),
        item=np.array([2, 5, 8, 1, 2]), user=np.array([10, 11, 12]),
        taken=np.array([0, 0, 1, 2]), grade=np.array([1, 1, 1, 1]), row=np.array([1, -1, 4, -1]),
    )  # fmt: skip
    gained = held.ndcg(np.array([0.5, 0.7, 0.9, 0.3, 0.3]))
    second = 1 / np.log2(3)  # what the second place is worth, the first is worth 1
    np.testing.assert_allclose(gained, [second / (1 + second), second, 0.0])


@pytest.mark.slow
def test_a_held_request_is_measured_as_in_evaluation(small_world):
    config, show = small_world.config, lambda *_: None
    prepared = prepare_data(config, show)
    recommender = load_model(find_model(config, small_world.trained.model_uri)[1])
    start = prepared.windows.valid
    method, snapshot = at_moment(recommender, prepared, start, config.run_dir / "embeddings")
    usual = set(SOURCES) - set(OPTIONAL)
    few = CandidateConfig(**dict.fromkeys(usual, 4))  # some of what was taken is missed
    run = Run(config, prepared, replace(method, candidates=few), Stages(), show)
    fitted, ranker = Fitted(start, snapshot.texts, snapshot.related), recommender.ranker
    requests = run.requests("valid", config.evaluation.max_requests, 12)
    held = held_requests(run, fitted, requests, ranker.features)
    outcome = outcome_of(run, "valid", fitted, {"full": ranker}, with_als=False)
    assert len(held.user) == len(outcome.user) > 100 and 0.1 < (held.row < 0).mean() < 0.9
    np.testing.assert_array_equal(held.user, outcome.user)
    np.testing.assert_array_equal(held.ndcg(ranker.predict(held.table)),
                                  model_metrics(outcome, "full")["ndcg_at_10"])  # fmt: skip
