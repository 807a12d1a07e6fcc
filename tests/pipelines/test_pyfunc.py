"""The pyfunc makes the batch job's lists, on any machine, at any moment, over HTTP too."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.served import answer, served
from pipelines import tracking
from pipelines.config import load_toml
from pipelines.pyfunc import COLUMNS, PyfuncRecommender
from pipelines.settings import RunConfig
from recsys.errors import ConfigError
from serving.batch import recommend

pytestmark = pytest.mark.slow
SAME = ["user_id", "rank", "item_id", "score", "probability", "source", "reason", "drivers"]


def lists_in(release) -> pd.DataFrame:
    parts = [pq.read_table(path) for path in sorted((release / "lists").glob("*.parquet"))]
    return pa.concat_tables(parts).to_pandas().sort_values(["user_id", "rank"])


def of_users(lists, users):
    return lists[lists["user_id"].isin(users)]


def assert_same(found, expected):
    """Exactly: ids, ranks, scores, words."""
    found = found.sort_values(["user_id", "rank"])[SAME].reset_index(drop=True)
    found["probability"] = found["probability"].astype(np.float32)
    pd.testing.assert_frame_equal(found, expected[SAME].reset_index(drop=True), check_dtype=False,
                                  check_exact=True)  # fmt: skip
    assert len(found) > 100


@pytest.fixture(scope="module")
def folder(small_world, tmp_path_factory):
    """The champion's folder, far from the data that it was trained on."""
    _, there = tracking.find_model(small_world.config, "models:/recommender@champion")
    here = tmp_path_factory.mktemp("elsewhere") / "model"
    shutil.copytree(there, here)
    card = (here / "card.json").read_text()
    place = str((small_world.config.run_dir / "prepared").resolve())
    assert place in card
    (here / "card.json").write_text(card.replace(place, "/nowhere"))
    return here


@pytest.fixture(scope="module")
def model(folder):
    return PyfuncRecommender(folder)


def released(config, tmp_path, as_of=None, **update):
    serving = config.serving.model_copy(update={"releases": tmp_path / "releases"})
    config = config.model_copy(update={"serving": serving} | update)
    return lists_in(recommend(config, "models:/recommender@champion", as_of, lambda *_: None))


def test_the_model_carries_what_the_batch_job_reads(small_world, model, tmp_path):
    expected = released(small_world.config, tmp_path)
    users = pd.DataFrame({"user_id": expected["user_id"].unique()})
    assert_same(model.predict(users), expected)
    for start in range(0, len(users), 20):  # a few at a time
        some = users[start : start + 20]
        assert_same(model.predict(some), of_users(expected, some["user_id"]))


def test_a_moment_in_the_past_gives_the_lists_of_then(small_world, model, tmp_path):
    expected = released(small_world.config, tmp_path, "2026-03-20")
    now = model.predict(pd.DataFrame({"user_id": expected["user_id"].unique()}))
    then = model.predict(pd.DataFrame({"user_id": expected["user_id"].unique()}),
                         {"as_of": "2026-03-20"})  # fmt: skip
    assert_same(then, expected)
    assert not then["score"].equals(now["score"])


def test_newer_events_give_the_lists_of_both_logs_together(small_world, model, tmp_path):
    """Of users who were there, and of one who is new; the batch job prepares the whole log."""
    events = pd.read_parquet(small_world.folder / "events.parquet")
    late = events[events["timestamp"] > events["timestamp"].quantile(0.8)]
    late = late.assign(timestamp=late["timestamp"] + pd.Timedelta(days=40))
    late.loc[late["user_id"] == late["user_id"].iloc[0], "user_id"] = "u/new"
    late.to_parquet(tmp_path / "late.parquet")
    pd.concat([events, late]).to_parquet(tmp_path / "all.parquet")
    settings = [f'data.events="{tmp_path}/all.parquet"', f'run_dir="{tmp_path}/run"']
    tracked = f'tracking.uri="{small_world.config.tracking_uri}"'
    more = load_toml(RunConfig, small_world.trained.folder / "config.toml", [*settings, tracked])
    expected = released(more, tmp_path)
    users = pd.DataFrame({"user_id": expected["user_id"].unique()})
    assert "u/new" in set(users["user_id"])
    assert_same(model.predict(users, {"events": str(tmp_path / "late.parquet")}), expected)


def test_each_row_has_its_own_k_and_whoever_is_unknown_gets_the_fallback(model):
    asked = pd.DataFrame({"user_id": ["nobody", "u/3", "nobody", "u/41"], "k": [2, 4, None, 1]})
    found = model.predict(asked, {"k": 3})
    assert tuple(found.columns) == COLUMNS
    assert found["user_id"].tolist() == ["nobody"] * 2 + ["u/3"] * 4 + ["nobody"] * 3 + ["u/41"]
    assert found["rank"].tolist() == [1, 2, 1, 2, 3, 4, 1, 2, 3, 1]
    assert (found["is_fallback"] == (found["user_id"] == "nobody")).all()
    assert found["probability"].isna().equals(found["is_fallback"])
    assert json.loads(found.to_json(orient="records"))[0]["probability"] is None


def test_what_cannot_be_answered_is_said_in_words(model, tmp_path):
    with pytest.raises(ConfigError, match="found numbers, the model's users are text"):
        model.predict(pd.DataFrame({"user_id": [3]}))
    with pytest.raises(ConfigError, match="not a moment"):
        model.predict(pd.DataFrame({"user_id": ["u/3"]}), {"as_of": "yesterday"})


def test_mlflow_serves_the_lists_over_http(small_world, tmp_path):
    """A real `mlflow models serve`, from an empty folder; it needs no data beside the model."""
    expected = released(small_world.config, tmp_path)
    asked = expected["user_id"].unique()[:20].tolist()
    champion, tracked = "models:/recommender@champion", small_world.config.tracking_uri
    with served(champion, tracked, tmp_path) as (url, _):
        found = answer(url, asked, 10)
        assert_same(found.astype({"score": np.float32}), of_users(expected, asked))
        assert not found["is_fallback"].any()
        mixed = answer(url, ["nobody", asked[0]], 10)
        assert mixed["user_id"].tolist() == ["nobody"] * 10 + [asked[0]] * 10
        assert mixed["is_fallback"].tolist() == [True] * 10 + [False] * 10
