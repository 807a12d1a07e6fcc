"""What a run keeps of every request says the same as its report."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.measure import evaluate_model
from pipelines.results import open_results
from recsys.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(small_world):
    return open_results(small_world.trained.folder)


def test_the_mean_over_requests_is_what_the_report_says(small_world, results):
    models, checked = small_world.trained.report["models"], 0
    for window, about in results.manifest.windows.items():
        for model in about.models if window != "unseen_catalogue" else ():
            table = results.table("requests", window=window, model=model)
            assert len(table) == about.requests
            for metric in results.manifest.metrics:
                mean = np.nanmean(table[metric].to_numpy().astype(float))
                assert mean == pytest.approx(models[model][window][metric], abs=1e-6)
                checked += 1
    assert checked >= 2 * 8 * 5


def test_metrics_can_be_counted_again_from_lists_and_what_was_taken(results):
    """Hits within ten: the listed items that were taken, over all that were taken."""
    lists = results.table("lists", window="test", model="full").to_pandas()
    taken = results.table("relevant", window="test").to_pandas()
    assert lists["rank"].max() == 10 and len(taken) > 20
    hit = taken.merge(lists[lists["rank"] <= 10], on=["request_id", "item_id"])
    found = results.table("requests", window="test", model="full").to_pandas()
    assert sorted(hit["request_id"].unique()) == found["request_id"][found["hr_at_10"] > 0].tolist()


def test_every_item_that_is_named_has_its_title(results):
    items = results.table("items").to_pandas().set_index("item_id")
    named = set(results.table("lists")["item_id"].to_pylist())
    named |= set(results.table("relevant")["item_id"].to_pylist())
    assert named == set(items.index) and items["title"].str.len().min() > 3


def test_a_reader_takes_only_the_rows_it_asks_for(results):
    groups = pq.ParquetFile(results.folder / "requests.parquet").num_row_groups
    assert groups == sum(len(window.models) for window in results.manifest.windows.values())
    table = results.table("requests", ["request_id", "ndcg_at_10"], window="valid", model="ease")
    assert table.column_names == ["request_id", "ndcg_at_10"]
    assert len(table) == results.manifest.windows["valid"].requests


def test_the_same_model_measured_again_has_the_same_results(small_world, results):
    config, trained = small_world.config, small_world.trained
    before = set((config.run_dir / "reports").iterdir())
    report = evaluate_model(config, trained.model_uri, lambda *_: None)
    [folder] = set((config.run_dir / "reports").iterdir()) - before
    again = open_results(folder)
    one, two = (some.manifest.windows["test"].fingerprint for some in (results, again))
    assert one == two == report["requests"]["fingerprint"]["test"]
    assert json.loads((folder / "report.json").read_text())["model"] == trained.model_uri
    columns = [*results.manifest.metrics, "history_events", "category", "popularity"]
    tables = [some.table("requests", columns, window="test", model="full")
              for some in (results, again)]  # fmt: skip
    assert tables[0].equals(tables[1])


def test_a_folder_without_results_is_refused_in_words(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no results of requests .*'recsys evaluate"):
        open_results(tmp_path)
    (tmp_path / "results.json").write_text('{"version": 1}')
    with pytest.raises(ConfigError, match="damaged, or written by another version"):
        open_results(tmp_path)
