"""What a user had taken is looked up strictly before each request, whatever the model."""

import numpy as np
import pytest

from pipelines.audience import audience_of, taken_before_requests
from pipelines.evaluate import Outcome
from pipelines.prepared import open_prepared
from pipelines.run import Run, method_of
from pipelines.stages import Stages
from pipelines.textmodel import words_in_common
from recsys.dataset import concat
from recsys.interest import TextModel, UserPooling

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(small_world):
    prepared = open_prepared(small_world.config.run_dir / "prepared")
    config = small_world.config
    return Run(config, prepared, method_of(config, prepared), Stages(), lambda *_: None)


@pytest.fixture(scope="module")
def outcome(run):
    """Requests of the test window, in another order than the log's; one of a user unheard of."""
    requests = run.measured_on("test")
    user = np.concatenate([*(part.user for part in requests), [10_000]])
    moment = np.concatenate([*(part.moment for part in requests), [requests[0].moment[0]]])
    order = np.random.default_rng(0).permutation(len(user))
    none = np.zeros(0, int)
    return Outcome(
        user=user[order], moment=moment[order], history=np.zeros(len(user), int), request=none,
        item=none, grade=none, unseen=none > 0, rank={}, found={}, listed={},
    )  # fmt: skip


def test_every_request_has_its_users_events_of_before_and_no_others(run, outcome):
    request, item = taken_before_requests(run, outcome)
    log = concat(run.prepared.logs())
    assert len(outcome.user) > 50 and len(item) > 500
    for row, (user, moment) in enumerate(zip(outcome.user, outcome.moment, strict=True)):
        mine = (log.users[log.row] == user) & (log.moment < moment) & (log.grade > 0)
        assert sorted(item[request == row]) == sorted(log.item[mine])


def test_mixes_and_popularity_are_of_these_events(run, outcome):
    items = run.method.items
    vectors = np.zeros((len(items), 2), np.float32)
    texts = TextModel(np.arange(len(items)), vectors, vectors, UserPooling(2, 3),
                      words_in_common(items, 2))  # fmt: skip
    audience = audience_of(run, outcome, "test", texts)
    request, item = taken_before_requests(run, outcome)
    start = run.prepared.windows.test
    log = concat(run.prepared.logs())
    assert audience.n_events.sum() == ((log.moment < start) & (log.grade > 0)).sum()
    assert audience.names == ("garden", "kitchen", "office", "sport")
    for row in range(len(outcome.user)):
        mine, taken = audience.taken.request == row, item[request == row]
        counts = np.bincount(items.category[taken], minlength=4)
        shares = np.zeros(4)
        shares[audience.taken.category[mine]] = audience.taken.share[mine]
        np.testing.assert_allclose(shares, counts / max(len(taken), 1))
        mean = audience.n_events[taken].mean() if len(taken) else np.nan
        np.testing.assert_allclose(audience.taken_popularity[row], mean)
        if len(taken):
            assert audience.main_category[row] == counts.argmax()
