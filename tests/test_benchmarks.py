"""The benchmarks run on any folder with two tables, and say what they claim to say."""

import json
import subprocess
import sys

import pytest

from benchmarks.curve import result

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
    for side in ("ours", "sentence-transformers"):
        assert side in done.stdout
        seconds = [point["seconds"] for point in report[side]]
        assert len(seconds) > 1 and seconds == sorted(set(seconds))
        assert all(0 <= point["ndcg_at_10"] <= 1 for point in report[side])
        assert report[side][0]["ndcg_at_10"] == pytest.approx(report["frozen"], abs=1e-3)
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
    few, all_ = report["points"]
    assert 0 < few["rows"] < all_["rows"] <= 48  # items
    for point in (few, all_):
        assert 0 < point["ndcg_at_10"] <= 1 and point["trees"] >= 1
        assert all(point[part] > 0 for part in ("look", "describe", "score", "over_reference"))
        assert f"{point['users_per_second']:.0f}" in done.stdout
