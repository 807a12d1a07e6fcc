"""The benchmarks run on any folder with two tables, and say what they claim to say."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from benchmarks.curve import result
from benchmarks.joins import CANDIDATES, FEATURES, LEAST, LISTED, compared
from benchmarks.look import known
from benchmarks.pandas_lists import tables_of
from benchmarks.quality import stages_table
from benchmarks.scale import START, shop, some_models
from benchmarks.variants import usual
from pipelines.config import changed
from pipelines.prepare import prepare
from pipelines.recommender import Method
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from recsys.candidates import CandidateConfig
from recsys.dataset import DAY
from recsys.encoder import has_bfloat16
from recsys.schema import DataConfig

pytestmark = pytest.mark.slow


def point(after, seconds, ndcg):
    return {"after": after, "seconds": seconds, "ndcg_at_10": ndcg}


def bench(module, data, out, *more):
    command = [sys.executable, "-m", f"benchmarks.{module}", "--data", str(data), "--protocol",
               "time", "--json", str(out), "--set", "encoder.max_tokens=16", *more]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, json.loads(out.read_text()) if done.returncode == 0 else None


def test_the_encoder_benchmark_tells_text_from_shuffled_text(small_world, tmp_path):
    done, report = bench("encoder", small_world.folder, tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    for part in ("test", "unseen", "shuffled"):
        assert part in done.stdout
        value, low, high = report[part]["models"]["tuned_encoder"]
        assert 0 <= low <= value <= high <= 1
        assert report[part]["ratio"][0] == pytest.approx(
            value / report[part]["models"]["frozen_encoder"][0]
        )
    tuned = {part: report[part]["models"]["tuned_encoder"][0] for part in ("test", "shuffled")}
    assert tuned["test"] > tuned["shuffled"]
    assert report["run"]["command"].startswith("python -m benchmarks.encoder")


def test_the_ablation_measures_each_variant_beside_the_frozen_encoder(small_world, tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.ablation", "--data", str(small_world.folder),
               "--protocol", "time", "--json", str(out), "--variants", "aligned", "aligned, head",
               "--set", "encoder.max_tokens=16"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report.keys() == {"frozen", "aligned", "aligned, head", "run"}
    assert [len(report[name]["curve"]) for name in ("frozen", "aligned")] == [1, 2]
    assert len(report["aligned, head"]["curve"]) > 3
    assert report["frozen"]["kept"] == "frozen" and report["aligned"]["kept"] == "aligned"
    values = [report[name][what] for name in ("frozen", "aligned") for what in ("seen", "unseen")]
    assert all(0 < value <= 1 for value in values)
    assert report["aligned"]["seen"] != report["frozen"]["seen"]


def test_variants_are_measured_beside_the_defaults_on_the_same_requests(small_world, tmp_path):
    few = ["--set", "training.max_epochs=0", "--users", "20", "--set", "ranker.max_trees=20"]
    fewer = " ".join(f"candidates.{name}=2" for name in CandidateConfig().quotas)
    done, report = bench("variants", small_world.folder, tmp_path / "out.json", "--variant",
                         fewer, "features.off=['item_price']", *few)  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, small, without = report["variants"]
    assert first["name"] == "as it is" and first["difference"] == [0.0, 0.0, 0.0]
    assert small["recall"] < first["recall"] and small["rows"] < first["rows"]
    assert (without["recall"], without["rows"]) == (first["recall"], first["rows"])
    for one in (small, without):
        assert one["difference"][0] == pytest.approx(one["ndcg_at_10"] - first["ndcg_at_10"])
        assert one["difference"][1] <= one["difference"][0] <= one["difference"][2]
        assert one["time_over_first"] > 0 and one["name"][:8] in done.stdout


def test_every_usual_variant_is_a_config_that_differs():
    found = [changed(RunConfig(), changes) for changes in usual().values() if changes]
    different = {one.model_dump_json() for one in [RunConfig(), *found]}
    assert len(different) == 1 + len(found)


def test_looking_is_timed_on_any_prepared_folder(small_world):
    command = [sys.executable, "-m", "benchmarks.look", "--prepared",
               str(small_world.config.run_dir / "prepared"), "--requests", "20"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "48 items, 20 requests" in done.stdout and "item cosine and EASE" in done.stdout
    done = subprocess.run([*command[:4], "nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "nowhere" in done.stderr and "Traceback" not in done.stderr


def test_the_race_has_both_curves_and_says_who_was_first(small_world, tmp_path):
    done, report = bench("race", small_world.folder, tmp_path / "out.json", "--minutes", "0.1",
                         "--every", "0.05", "--png", str(tmp_path / "out.png"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    near = 1e-2 if has_bfloat16(torch.device("cpu")) else 1e-3  # of the 48 texts' frozen vectors
    for side in ("ours", "sentence-transformers"):
        assert side in done.stdout
        seconds = [point["seconds"] for point in report[side]]
        assert len(seconds) > 1 and seconds == sorted(set(seconds))
        assert all(0 <= point["ndcg_at_10"] <= 1 for point in report[side])
        assert report[side][0]["ndcg_at_10"] == pytest.approx(report["frozen"], abs=near)
    assert "train, theirs" in done.stderr and "loss" in done.stderr
    best, passed = report["best_of_theirs"], report["ours_passed"]
    if passed is None:
        assert "ours never was better" in report["words"] and report["ratio"] is None
    else:
        assert passed["ndcg_at_10"] > best["ndcg_at_10"]
        assert report["ratio"] == pytest.approx(passed["seconds"] / best["seconds"])
    assert (tmp_path / "out.png").stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", "out.png"}


def test_their_best_point_counts_even_when_it_is_worse_than_frozen():
    mine = [point("frozen encode", 10, 0.2), point("alignment", 12, 0.3)]
    found = result(
        mine, [point("loading", 1, 0.2), point("step 9", 50, 0.25), point("end", 99, 0.24)]
    )
    assert found["best_of_theirs"]["seconds"] == 50 and found["ratio"] == pytest.approx(12 / 50)
    assert not any("never" in words for words in found["words"])
    found = result(mine, [point("loading", 1, 0.2), point("step 9", 50, 0.1)])
    assert found["ours_passed"]["after"] == "frozen encode" and found["ratio"] == pytest.approx(0.2)
    assert any("never beat the frozen encoder" in words for words in found["words"])
    found = result(mine, [point("loading", 1, 0.2), point("step 9", 50, 0.3)])
    assert found["ours_passed"] is None and "ours never was better" in found["words"]


def test_the_race_without_sentence_transformers_is_refused_in_words(small_world):
    code = ("import runpy, sys; sys.modules['sentence_transformers'] = None; "
            "runpy.run_module('benchmarks.race', run_name='__main__', alter_sys=True)")  # fmt: skip
    command = [sys.executable, "-c", code, "--data", str(small_world.folder), "--protocol", "time"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "pip install" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_folder_without_tables_is_refused_in_words(tmp_path):
    done, _ = bench("encoder", tmp_path, tmp_path / "out.json")
    assert done.returncode == 2
    assert "events.parquet" in done.stderr and "Traceback" not in done.stderr


def test_going_on_is_measured_beside_learning_anew(small_world, tmp_path):
    done, report = bench("continual", small_world.folder, tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    ways = report["ways"]
    assert list(ways) == ["the first model as it is", "on from it", "on from it, nothing replayed",
                          "anew"]  # fmt: skip
    assert all(0 < value <= 1 for later, old, _, _ in ways.values() for value in (later, old))
    assert ways["on from it"][:2] != ways["the first model as it is"][:2]
    assert all(way in done.stdout for way in ways)


def test_fewer_candidates_are_timed_beside_their_quality(small_world, tmp_path):
    done, report = bench("speed", small_world.folder, tmp_path / "out.json", "--users", "20",
                         "--rounds", "1", "--requests", "60", "--quotas", "0.1", "1",
                         "--set", "ranker.min_rows_in_leaf=5")  # fmt: skip
    assert done.returncode == 0, done.stderr
    few, all_, one_pass = report["points"]
    assert 0 < few["rows"] < all_["rows"] <= 48  # items
    assert one_pass["rows"] == all_["rows"] and one_pass["trees"] == all_["trees"]
    assert [point["first_pass"] for point in report["points"]] == [0.2, 0.2, 1.0]
    for point in report["points"]:
        assert 0 < point["ndcg_at_10"] <= 1 and point["trees"] >= 1
        assert all(point[part] > 0 for part in ("look", "describe", "score", "over_reference"))
        assert f"{point['users_per_second']:.0f}" in done.stdout


def test_counts_are_those_of_polars(tmp_path):
    command = [sys.executable, "-m", "benchmarks.asof", "--events", "30000", "--requests", "5000",
               "--keys", "50", "3000", "--rounds", "1", "--json", str(tmp_path / "a")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    points = json.loads((tmp_path / "a").read_text())["points"]
    assert [(point["keys"], point["equal"]) for point in points] == [(50, 1.0), (3000, 1.0)]
    for point in points:
        week, month, quarter = point["counted"]
        assert 0 < week < month < quarter
        assert point["ratio"] == pytest.approx(point["polars_s"] / point["ours_s"])


def rich_shop(folder):
    """Prepare a shop with all that is looked at: shown items, prices, kinds of items, offers."""
    rng = np.random.default_rng(0)
    events, items = shop(150, 240, 20)
    events = events.filter(pa.array(rng.random(len(events)) < 0.8))
    kinds = rng.choice(["shown", "click", "buy"], len(events), p=[0.2, 0.4, 0.4])
    events = events.append_column("event_type", pa.array(kinds))
    events = events.append_column("price", pa.array(rng.lognormal(2, 1, len(events))))
    for name in ("category", "brand"):
        kind = np.where(rng.random(len(items)) < 0.2, None, rng.integers(0, 9, len(items)))
        items = items.append_column(name, pa.array(kind.tolist(), pa.int64()).cast(pa.string()))
    ends = START + np.where(rng.random(len(items)) < 0.2, 100 * DAY, 900 * DAY)
    items = items.append_column("available_until", pa.array(ends, pa.timestamp("us", "UTC")))
    rules = {"shown": {"grade": 0}, "click": {"grade": 1}, "buy": {"grade": 2}}
    return prepare(events, items, folder, DataConfig(event_types=rules), "time")


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_pandas_finds_the_same_candidates_and_features(tmp_path, exclude_seen):
    prepared = rich_shop(tmp_path / "prepared")
    few = CandidateConfig(**dict.fromkeys(("interest", "lexical", "item_cosine", "repeat"), 15))
    method = Method(prepared.items(), few, True, exclude_seen)
    snapshot, log = known(prepared, method, Stages()), prepared.bucket(0)
    tables = tables_of(method, snapshot, log, prepared.windows.test_end)
    ranker, _ = some_models(prepared, method, snapshot)
    same, alike, rows = compared(tables, log, log.users, ranker)
    assert min(same.values()) > 0.999, same
    assert len(alike) > 0.9 * len(log.users)
    rows_of = dict(zip(ranker.features, rows.T, strict=True))
    constant = {name for name, column in rows_of.items() if len(np.unique(column)) == 1}
    own = {"pair_events", "pair_back", "pair_idle_days", "pair_due", "repeat", "repeat_rank"}
    assert constant == (own if exclude_seen else set())
    other = tables_of(replace(method, exclude_seen=not exclude_seen), snapshot, log, tables.moment)
    same, _, _ = compared(replace(tables, events=other.events[::2]), log, log.users, ranker)
    assert same[CANDIDATES] < 0.9 and same[FEATURES] < 0.9  # half of the events: other lists


def test_lists_are_timed_beside_those_of_pandas(tmp_path):
    for table, name in zip(shop(150, 240, 20), ("events", "items"), strict=True):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    done, report = bench("joins", tmp_path, tmp_path / "out.json", "--users", "50", "--block", "30",
                         "--rounds", "1", "--requests", "100", "--set", "ranker.max_trees=30",
                         "--set", "ranker.min_rows_in_leaf=5")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert report["trees"] == 30 and all(report["same"][what] >= LEAST[what] for what in LEAST)
    assert report["ratio"] == pytest.approx(report["pandas_s"] / report["ours_s"])
    assert f"{1 / report['pandas_s']:.0f}" in done.stdout and LISTED in done.stdout


def test_each_number_of_users_is_listed_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "benchmarks.scale", "--sizes", "80", "160", "--items", "240",
               "--events", "15", "--bucket-rows", "700", "--json", str(tmp_path / "a")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    points = json.loads((tmp_path / "a").read_text())["points"]
    assert [(point["users"], point["rows"]) for point in points] == [(80, 80 * 20), (160, 160 * 20)]
    assert [point["buckets"] for point in points] == [2, 4]  # 80 * 15 / 700, 160 * 15 / 700
    for point in points:
        assert point["ms_a_user"] == pytest.approx(
            1000 * point["seconds"]["lists"] / point["users"]
        )
        assert point["lists_bytes"] == point["peak_memory_bytes"]["lists"] > 0
        assert f"{point['ms_a_user']:.2f}" in done.stdout


def test_the_batch_job_is_measured_beside_a_reference_and_what_it_finds_beside_exact(tmp_path):
    pytest.importorskip("faiss")
    command = [sys.executable, "-m", "benchmarks.batch", "--users", "90", "--items", "240",
               "--dense-items", "100", "--k", "5", "--json", str(tmp_path / "a")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [point] = json.loads((tmp_path / "a").read_text())["points"]
    assert (point["users"], point["listed"]) == (90, 90)
    assert point["over_reference"] == pytest.approx(point["lists_s"] / point["reference_s"])
    assert sum(point["shares"].values()) == pytest.approx(1)
    assert 0.95 < point["found"] <= 1
    for what in ("prepare_bytes", "state_bytes", "lists_bytes", "bytes_per_list"):
        assert point[what] > 0
    assert f"{point['over_reference']:.2f}" in done.stdout and "90 users, 240 items" in done.stdout


def test_catalogues_are_looked_at_both_ways(tmp_path):
    pytest.importorskip("faiss")
    command = [sys.executable, "-m", "benchmarks.catalogue", "--sizes", "600", "1500", "--users",
               "70", "--json", str(tmp_path / "a")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    points = json.loads((tmp_path / "a").read_text())["points"]
    assert [(point["items"], point["all_lists"]) for point in points] == [(600, 48), (1500, 77)]
    for point in points:  # 2 * 600**0.5, 2 * 1500**0.5
        assert 0.9 < point["found"] <= 1 and 0 < point["recall"] <= 1
        assert f"{point['scored_ms']:.2f}" in done.stdout
        assert f"{point['looked_up_ms']:.2f}" in done.stdout


def test_stages_are_printed_with_their_peaks_and_the_most_without_the_encoder():
    report = {"seconds": {"encoder": 2.0, "ranker rows": 3.5},
              "peak_memory_bytes": {"encoder": 3 * 2**30, "ranker rows": 2**30}}  # fmt: skip
    console = Console(width=80)
    with console.capture() as printed:
        console.print(stages_table(report))
    rows = [line.strip("│").split("│") for line in printed.get().splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["encoder", "2.0", "3.00"],
        ["ranker rows", "3.5", "1.00"],
        ["all", f"{2 + 3.5}", "3.00"],
        ["all but the encoder", "", "1.00"],
    ]


def test_lists_are_evaluated_whatever_their_number_by_every_metric(tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.metrics", "--requests", "300", "--items", "3000",
               "--dims", "8", "--json", str(out)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads(out.read_text())["values"]
    assert len(values) == 4 * 10
    for k in (5, 10, 20):
        assert values[f"recall_at_{k}"] <= values["recall_at_50"] <= values["hr_at_50"] <= 1
    # random vectors: at right angles on average
    assert values["intra_list_distance_at_50"] == pytest.approx(1, abs=0.05)
    assert "requests/s" in done.stdout


def test_the_read_api_is_measured_over_answers_that_are_right(tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.read_api", "--users", "300", "--seconds", "0.5",
               "--connections", "4", "--json", str(out),
               "--set", "serving.api.store_timeout_s=30"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text())
    assert min(found["requests"], found["looked_at"]) > 0
    assert (found["wrong"], found["degraded"], found["cut_off"]) == (0, 0, 0)
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"] <= found["max_ms"]
