"""The benchmarks run on any folder with two tables, and say what they claim to say."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def bench(module, data, out):
    command = [sys.executable, "-m", f"benchmarks.{module}", "--data", str(data), "--protocol",
               "time", "--json", str(out), "--set", "encoder.max_tokens=16"]  # fmt: skip
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
    assert all(0 < value < 1 for value in values) and len(set(values)) == 4


def test_looking_is_timed_on_any_prepared_folder(small_world):
    command = [sys.executable, "-m", "benchmarks.look", "--prepared",
               str(small_world.config.run_dir / "prepared"), "--requests", "20"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "48 items, 20 requests" in done.stdout and "item cosine" in done.stdout
    done = subprocess.run([*command[:4], "nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "nowhere" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_without_tables_is_refused_in_words(tmp_path):
    done, _ = bench("encoder", tmp_path, tmp_path / "out.json")
    assert done.returncode == 2
    assert "events.parquet" in done.stderr and "Traceback" not in done.stderr
