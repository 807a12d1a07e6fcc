"""From raw tables to lists read back: the laws that hold across all rooms."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from pipelines import tracking
from pipelines.config import load_toml
from pipelines.evaluate import MODELS
from pipelines.model import at_moment, load_model
from pipelines.prepared import open_prepared
from pipelines.recommender import look, make_lists, table_of
from pipelines.rows import ranker_rows, samplers
from pipelines.settings import RunConfig
from pipelines.textmodel import distinct_texts
from pipelines.train import train
from pipelines.windows import Fitted, window_requests
from recsys.dataset import DAY, concat
from recsys.encoder import has_bfloat16, load_encoder, moved_vectors
from recsys.errors import ConfigError
from recsys.ranker import refit_ranker
from serving.batch import recommend
from serving.inspection import verify
from serving.publish import publish
from serving.stores import open_reader

pytestmark = pytest.mark.slow


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="session")
def release(small_world):
    return recommend(small_world.config, "models:/recommender@champion", None, quiet)


@pytest.fixture(scope="session")
def recommender(small_world):
    _, folder = tracking.find_model(small_world.config, "models:/recommender@champion")
    return load_model(folder)


@pytest.fixture(scope="session")
def prepared(small_world):
    return open_prepared(small_world.config.run_dir / "prepared")


def read_lists(release) -> pd.DataFrame:
    return pa.concat_tables(
        [pq.read_table(path) for path in sorted((release / "lists").glob("*.parquet"))]
    ).to_pandas()


def test_the_report_holds_every_model_with_its_interval(small_world):
    report = json.loads((small_world.trained.folder / "report.json").read_text())
    for name in MODELS:
        for window in ("valid", "test"):
            low, high = report["intervals"][name][window]["ndcg_at_10"]
            assert low <= report["models"][name][window]["ndcg_at_10"] <= high
    assert (
        report["models"]["full"]["test"]["ndcg_at_10"]
        > (report["models"]["popularity"]["test"]["ndcg_at_10"])
    )


def test_every_user_with_a_past_gets_one_full_list_of_known_items(small_world, release):
    verify(release)
    lists = read_lists(release)
    events = pd.read_parquet(small_world.folder / "events.parquet")
    items = pd.read_parquet(small_world.folder / "items.parquet")
    assert set(lists["user_id"]) == set(events["user_id"])
    assert (lists.groupby("user_id").size() == small_world.config.serving.k).all()
    assert set(lists["item_id"]) <= set(items["item_id"])
    assert (lists.groupby("user_id")["score"].diff().dropna() <= 1e-6).all()
    assert (lists["reason"] != "").all()
    groups = {"text", "history", "neighbours", "item"}
    driven = {group for named in lists["drivers"] if named for group in named.split(", ")}
    assert driven <= groups and len(driven) >= 2


def test_what_the_user_took_before_says_so_and_nothing_else_does(small_world, release):
    lists = read_lists(release)
    events = pd.read_parquet(small_world.folder / "events.parquet")
    taken = events[["user_id", "item_id"]].drop_duplicates()
    found = lists.merge(taken, how="left", indicator="taken")
    before = found["taken"] == "both"
    assert 20 < before.sum() < len(found)
    assert ((found["source"] == "repeat") == before).all()
    assert ((found["reason"] == "you took this before") == before).all()


def test_published_lists_come_back_whole(small_world, release):
    publish(release, small_world.config.serving.store)
    lists = read_lists(release)
    with open_reader(small_world.config.serving.store) as reader:
        answers = reader.read([*lists["user_id"].unique(), "nobody"]).lists
    found = [(answer.user_id, item.rank, item.item_id, item.source, item.reason, item.drivers)
             for answer in answers[:-1] for item in answer.items]  # fmt: skip
    columns = ["user_id", "rank", "item_id", "source", "reason", "drivers"]
    assert found == list(lists[columns].itertuples(index=False, name=None))
    numbers = [(item.score, item.probability) for answer in answers[:-1] for item in answer.items]
    spans = lists.groupby("user_id", sort=False)["score"].transform(np.ptp)
    assert (np.abs(np.array(numbers)[:, 0] - lists["score"]) <= spans / 6_553 + 1e-6).all()
    np.testing.assert_allclose(np.array(numbers)[:, 1], lists["probability"], rtol=2e-3, atol=1e-6)
    assert answers[-1].is_fallback
    assert {item.probability for item in answers[-1].items} == {None}


@pytest.mark.parametrize(
    ("as_of", "said"), [("2036-01-01", "the data ends before 2026-"), ("2020-01-01", "begins at")]
)
def test_a_moment_far_from_the_data_is_refused_and_leaves_nothing(small_world, as_of, said):
    before = set(small_world.config.serving.releases.glob("*"))
    with pytest.raises(ConfigError, match=said):
        recommend(small_world.config, "models:/recommender@champion", as_of, quiet)
    assert set(small_world.config.serving.releases.glob("*")) == before


def test_a_killed_job_goes_on_to_the_same_bytes(small_world, release):
    parts = sorted((release / "lists").glob("*.parquet"))
    assert len(parts) > 1
    whole = [path.read_bytes() for path in parts]
    manifest = json.loads((release / "manifest.json").read_text())
    (release / "manifest.json").unlink()  # as if killed before the last part was written
    parts[-1].unlink()
    again = recommend(small_world.config, "models:/recommender@champion", None, quiet)
    assert again == release
    assert [path.read_bytes() for path in sorted((release / "lists").glob("*.parquet"))] == whole
    assert json.loads((release / "manifest.json").read_text()) == manifest


def test_a_batch_equals_one_by_one(small_world, recommender, prepared):
    moment = prepared.windows.test_end
    method, snapshot = at_moment(
        recommender, prepared, moment, small_world.folder / "run/embeddings"
    )
    log = prepared.bucket(0)
    together = look(method, snapshot, log, log.users, np.full(len(log.users), moment))
    ranked = (recommender.ranker, recommender.heads, 10)
    lists = make_lists(method, snapshot, together, *ranked)
    for row in range(0, len(log.users), 7):
        alone = look(method, snapshot, log, log.users[row : row + 1], np.array([moment]))
        one, same = make_lists(method, snapshot, alone, *ranked), lists.request == row
        np.testing.assert_array_equal(one.item, lists.item[same])
        np.testing.assert_allclose(one.score, lists.score[same], atol=1e-9)
        np.testing.assert_allclose(one.probability, lists.probability[same], atol=1e-9)
    assert len(np.unique(lists.probability)) > 10


def test_a_training_row_equals_the_serving_row(small_world, recommender, prepared):
    """Same user, item, moment: learning over windows and serving at a moment agree to the bit."""
    windows, config = prepared.windows, small_world.config
    every_row = lambda number, request, grade, shown: np.arange(len(request))  # noqa: E731
    moment = windows.test + config.state.every_days * DAY  # a moment when training rolls the state
    embeddings = small_world.folder / "run/embeddings"
    method, snapshot = at_moment(recommender, prepared, moment, embeddings)
    fitted = Fitted(moment, snapshot.texts, snapshot.related)
    names = {"full": recommender.card.features}
    requests = [part.take(np.flatnonzero(part.moment == moment))
                for part in window_requests(prepared, "test")]  # fmt: skip
    assert sum(len(part) for part in requests) > 3
    learned = ranker_rows(prepared, method, fitted, requests, windows.span("test"), config.state,
                          names, {"full": every_row})["full"]  # fmt: skip
    served = []
    for bucket, part in enumerate(requests):
        if len(part):
            block = look(method, snapshot, prepared.bucket(bucket), part.user, part.moment)
            served.append(table_of(method, snapshot, block, names["full"]))
    np.testing.assert_array_equal(np.concatenate(served), learned.table)


def above_chance(ranker, rows):
    """NDCG@10 of a ranker less that of a random order, expected; mean over requests."""
    found = []
    ends = np.cumsum(rows.group)
    score = ranker.predict(rows.table)
    for start, end in zip(ends - rows.group, ends, strict=True):
        gain, places = 2.0 ** rows.grade[start:end] - 1, np.arange(end - start)
        discount = np.where(places < 10, 1 / np.log2(places + 2), 0)
        order = np.argsort(-score[start:end], kind="stable")
        chance = gain.sum() * discount.mean()
        found.append((gain[order] @ discount - chance) / (-np.sort(-gain) @ discount))
    return np.mean(found)


def test_with_labels_shuffled_inside_each_request_the_ranker_is_no_better_than_chance(
    small_world, recommender, prepared
):
    """Rows as in training, of valid to learn from and of test to measure on."""
    windows, config = prepared.windows, small_world.config
    embeddings = small_world.folder / "run/embeddings"
    method, snapshot = at_moment(recommender, prepared, windows.valid, embeddings)
    fitted = Fitted(windows.valid, snapshot.texts, snapshot.related)
    names = {"full": recommender.card.features}
    rows, new = (
        ranker_rows(prepared, method, fitted, window_requests(prepared, window, shown=True),
                    windows.span(window), config.state, names,
                    samplers(names, config.ranker, (0, 20)))["full"]
        for window in ("valid", "test")
    )  # fmt: skip
    request = np.repeat(np.arange(len(rows.group)), rows.group)
    chances = np.random.default_rng(0).random((16, len(request)))
    true, *shuffled = (
        above_chance(refit_ranker([replace(rows, grade=rows.grade[order])], names["full"],
                                  config.ranker, 0, 20), new)
        for order in (np.arange(len(request)), *(np.lexsort((one, request)) for one in chances))
    )  # fmt: skip
    margin = 2.13 * np.std(shuffled, ddof=1) / 4  # t of 15 degrees, over the root of 16
    assert abs(np.mean(shuffled)) < margin < 0.1 < true


def test_events_after_the_moment_change_no_list(small_world, prepared, recommender):
    """The batch job as of a moment, on a log that goes on and on one that ends there."""
    moment = prepared.windows.test
    embeddings = small_world.folder / "run/embeddings"
    method, snapshot = at_moment(recommender, prepared, moment, embeddings)
    log = concat(prepared.logs())
    moments = np.full(len(log.users), moment)
    tables = [
        table_of(method, snapshot, look(method, snapshot, some, log.users, moments),
                 recommender.card.features)
        for some in (log, log.before(moment))
    ]  # fmt: skip
    np.testing.assert_array_equal(*tables)


def test_sentence_transformers_gives_the_same_vectors(small_world, recommender, tmp_path):
    from sentence_transformers import SentenceTransformer

    _, folder = tracking.find_model(small_world.config, "models:/recommender@champion")
    texts = ["red rose seeds. garden", "A <b>bold</b> claim, 100 % true", "", "x" * 4000]
    theirs = SentenceTransformer(str(folder / "encoder"), device="cpu").encode(texts)
    ours = moved_vectors(recommender.encoder.encode(texts), recommender.head)
    # ours are in bfloat16 where the processor multiplies it: three digits
    near = 5e-3 if has_bfloat16(recommender.encoder.device) else 1e-5
    np.testing.assert_allclose(theirs, ours, atol=near)
    assert load_file(folder / "encoder/2_Dense/model.safetensors")["linear.weight"].any()


def test_a_fine_tuned_encoder_is_where_the_next_run_starts(small_world, prepared, tmp_path):
    from pipelines.train import train

    _, folder = tracking.find_model(small_world.config, small_world.trained.model_uri)
    encoder = small_world.config.encoder.model_copy(update={"model": str(folder / "encoder")})
    config = small_world.config.model_copy(update={"run_dir": tmp_path / "run", "encoder": encoder})
    notes: list[str] = []
    trained = train(config, lambda task, done, total, note: notes.append(note))
    assert any("careful: encoder.model was fitted on events" in note for note in notes)
    again = tracking.find_model(config, trained.model_uri)[1]
    texts, tuned = distinct_texts(prepared.items().text)[0], []
    for model in (folder, again):
        cache, end = config.run_dir / "embeddings", prepared.windows.test_end
        _, snapshot = at_moment(load_model(model), prepared, end, cache)
        own = load_encoder(encoder.model_copy(update={"model": str(model / "encoder")}))
        np.testing.assert_allclose(own.encode(texts), snapshot.texts.tuned, atol=1e-5)
        tuned.append(snapshot.texts.tuned)
    np.testing.assert_allclose(snapshot.texts.frozen, tuned[0], atol=1e-5)
    assert np.abs(tuned[1] - tuned[0]).max() > 1e-3  # and went on from there


def test_the_model_holds_no_pickle(small_world):
    """Neither its folder nor what MLflow lays around it: text, safetensors, Parquet, our code."""
    _, folder = tracking.find_model(small_world.config, "models:/recommender@champion")
    endings = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert endings <= {".json", ".txt", ".safetensors", ".md", ".parquet"}
    around = [path for path in folder.parents[1].rglob("*") if path.is_file()]
    assert {"MLmodel", "requirements.txt", "pyfunc.py"} <= {path.name for path in around}
    assert {path.suffix for path in around} - endings <= {"", ".yaml", ".py", ".html"}


def test_the_second_run_encodes_nothing_and_gives_the_same_model(small_world, tmp_path):
    from pipelines.train import train

    seen: list[tuple[str, int]] = []
    run_dir = tmp_path / "run"
    shutil.copytree(small_world.config.run_dir / "embeddings", run_dir / "embeddings")
    parts = {path.name for path in (run_dir / "embeddings").rglob("*.parquet")}
    config = small_world.config.model_copy(update={"run_dir": run_dir})
    again = train(config, lambda task, done, total, note: seen.append((task, done)))
    first, second = small_world.trained.report, again.report
    assert second["models"] == first["models"]
    assert second["encoder"]["curve"] == first["encoder"]["curve"]
    assert {path.name for path in (run_dir / "embeddings").rglob("*.parquet")} == parts


def test_the_refit_of_the_ranker_comes_after_valid_and_before_test(small_world, tmp_path):
    """Without it valid says the same and test does not; the new ranker has as many trees."""
    ranker = small_world.config.ranker.model_copy(update={"refit": False})
    config = small_world.config.model_copy(update={"ranker": ranker, "run_dir": tmp_path / "run"})
    before = train(config, quiet).report
    after = small_world.trained.report
    assert (before["ranker"]["refit"], after["ranker"]["refit"]) == (False, True)
    assert before["ranker"]["trees"] == after["ranker"]["trees"]
    for model, same in (("full", False), ("ranker_without_text", False), ("ease", True)):
        one, other = before["models"][model], after["models"][model]
        assert one["valid"] == other["valid"]
        assert (one["test"] == other["test"]) == same


def test_with_values_0_and_1_an_item_is_worth_its_probability(small_world, tmp_path):
    """The blend orders what is measured on test and what is served; valid is the ranker's still."""
    ranker = small_world.config.ranker.model_copy(update={"values": (0.0, 1.0)})
    serving = small_world.config.serving.model_copy(update={"releases": tmp_path / "releases"})
    update = {"ranker": ranker, "serving": serving, "run_dir": tmp_path / "run"}
    config = small_world.config.model_copy(update=update)
    report = train(config, quiet).report
    lists = read_lists(recommend(config, "models:/recommender@champion", None, quiet))
    np.testing.assert_array_equal(lists["score"], lists["probability"])
    assert (lists.groupby("user_id")["score"].diff().dropna() <= 0).all()
    before = small_world.trained.report
    assert report["ranker"]["values"] == [0.0, 1.0] and before["ranker"]["values"] == []
    for window, same in (("valid", True), ("test", False)):
        one, other = (some["models"]["full"][window] for some in (report, before))
        assert (one == other) == same
    assert report["calibration"] == before["calibration"]


def test_settings_that_the_data_cannot_serve_are_refused_before_anything_is_learned(
    small_world, tmp_path
):
    told: list[str] = []
    for setting, said in (({"monotone": {"pair_evnts": 1}}, "did you mean 'pair_events'"),
                          ({"weight_by": "value"}, "the events have no such column")):  # fmt: skip
        ranker = small_world.config.ranker.model_copy(update=setting)
        config = small_world.config.model_copy(update={"ranker": ranker, "run_dir": tmp_path})
        with pytest.raises(ConfigError, match=said):
            train(config, lambda task, *_: told.append(task))
    assert set(told) == {"prepare"}


def test_a_log_with_lists_is_corrected_for_position(small_world, settings_in, tmp_path):
    """Each purchase comes with four other items of its list, which were shown and not taken."""
    events = pd.read_parquet(small_world.folder / "events.parquet")
    items = pd.read_parquet(small_world.folder / "items.parquet")
    rng = np.random.default_rng(0)
    lists = pd.concat([events] * 4, ignore_index=True).assign(event_type="shown")
    lists["item_id"] = rng.choice(items["item_id"], len(lists))
    lists["position"] = rng.integers(1, 6, len(lists))
    events["position"] = np.minimum(rng.geometric(0.5, len(events)), 5)
    pd.concat([events, lists]).to_parquet(tmp_path / "events.parquet")
    shutil.copy(small_world.folder / "items.parquet", tmp_path)
    rules = ["data.event_types.purchase={grade=1}", "data.event_types.shown={grade=0}"]
    config = load_toml(RunConfig, None, [*settings_in(tmp_path), *rules, "training.max_epochs=0"])
    report = train(config, quiet).report
    assert report["ranker"]["position_bias"]
    assert not small_world.trained.report["ranker"]["position_bias"]
    models = report["models"]
    assert models["full"]["test"]["ndcg_at_10"] > models["popularity"]["test"]["ndcg_at_10"]


def test_rewriting_the_test_window_changes_no_model(small_world, recommender, tmp_path):
    """Learned from scratch with other items in the test window: the same encoder and ranker."""
    windows = open_prepared(small_world.config.run_dir / "prepared").windows
    events = pd.read_parquet(small_world.folder / "events.parquet")
    late = (events["timestamp"] >= pd.Timestamp(windows.test * 1000, tz="UTC")).to_numpy()
    assert 50 < late.sum() < len(events) / 2
    shuffled = np.random.default_rng(0).permutation(events["item_id"].to_numpy()[late])
    events.loc[late, "item_id"] = shuffled
    events.to_parquet(tmp_path / "events.parquet")
    data = small_world.config.data
    source = data.events[0].model_copy(update={"path": str(tmp_path / "events.parquet")})
    data = data.model_copy(update={"events": (source,)})
    update = {"data": data, "run_dir": tmp_path / "run"}
    config = small_world.config.model_copy(update=update)
    trained = train(config, quiet)
    _, folder = tracking.find_model(config, "models:/recommender@champion")
    model = load_model(folder)
    assert model.ranker.to_text() == recommender.ranker.to_text()
    assert torch.equal(model.head, recommender.head)
    for one, other in zip(model.heads.models, recommender.heads.models, strict=True):
        assert one.to_text() == other.to_text()
    for one, other in zip(model.heads.maps, recommender.heads.maps, strict=True):
        np.testing.assert_array_equal(one.raw, other.raw)
        np.testing.assert_array_equal(one.probability, other.probability)
    for name, metrics in small_world.trained.report["models"].items():
        assert trained.report["models"][name]["valid"] == metrics["valid"]
    one, other = trained.report["models"], small_world.trained.report["models"]
    assert one["full"]["test"] != other["full"]["test"]  # the rewriting is there
    one, other = trained.report["calibration"], small_world.trained.report["calibration"]
    assert one["at_least_1"]["test"] != other["at_least_1"]["test"]


def test_run_publishes_the_lists_of_the_champion(small_world, settings_in, tmp_path):
    """The new model has not passed the gate, so readers get the one that did before."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(small_world.config.run_dir / "mlflow.db", run)
    shutil.copytree(small_world.config.run_dir / "embeddings", run / "embeddings")
    for table in ("events.parquet", "items.parquet"):
        shutil.copy(small_world.folder / table, tmp_path)
    settings = [*settings_in(tmp_path), "seed=5"]
    command = [sys.executable, "-m", "recsys.cli", "run"]
    command += [word for one in settings for word in ("--set", one)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "challenger models:/recommender/2" in done.stdout
    [gates] = [line for line in done.stdout.splitlines() if line.startswith("gates: ")]
    assert re.match(r"gates: [6-9] passed, skipped: .*users lost", gates)
    with open_reader(tmp_path / "store") as reader:
        published = reader.release()
    assert (published.model.name, published.model.version) == ("recommender", "1")
    users = pd.read_parquet(tmp_path / "events.parquet")["user_id"]
    assert published.counts.users == users.nunique()
