"""Each finding says what is there or what to do, and nothing is made or changed by looking."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipelines.settings import RunConfig
from serving import doctor
from serving.doctor import (
    disk,
    elsewhere,
    encoder,
    packages,
    requirements,
    threads,
    tracking,
)

ROOT = Path(__file__).parents[2]


def by_name(asked):
    return {one.name: one for one in packages(asked)}


def test_everything_that_is_asked_for_is_looked_at():
    asked = requirements()
    assert any(one.startswith("httpx") for one in asked)
    assert any(one.startswith("torch") and 'extra == "train"' in one for one in asked)
    assert set(by_name(asked)) == {"packages", *(f"[{extra}]" for extra in doctor.NEEDED_FOR)}


@pytest.mark.parametrize(
    ("asked", "is_ok"),
    [
        ("numpy>=1.0", True),
        ("numpy>=1.0,<99", True),
        ("numpy[x] >= 1.0", True),
        ("numpy>=99", False),
        ("numpy>=1.0,<1.0.1", False),
    ],
)
def test_a_version_outside_what_is_asked_for_is_told(asked, is_ok):
    found = by_name([asked, f'{asked}; extra == "train"', f'{asked}; extra == "tune"'])
    assert [found[name].is_ok for name in ("packages", "[train]", "[tune]")] == [is_ok] * 3
    assert importlib.metadata.version("numpy") in found["[train]"].said
    assert is_ok or "pip install 'recsys-text[train]'" in found["[train]"].said


def test_a_version_is_compared_by_its_numbers():
    here = importlib.metadata.version("torch").partition("+")[0]  # 2.13.0+cpu is not below 2.13.0
    assert by_name([f"torch=={here}"])["packages"].is_ok
    assert by_name(["torch>=2.6"])["packages"].is_ok  # 2.13 is above 2.6


def test_what_is_not_installed_is_told_and_only_what_learns_is_missed():
    found = by_name([f'no-such-thing>=1; extra == "{extra}"' for extra in ("train", "serve")])
    assert not found["[train]"].is_ok and "not installed: no-such-thing;" in found["[train]"].said
    assert found["[serve]"].is_ok and "only needed for recsys serve" in found["[serve]"].said


def test_more_threads_than_cores_are_told(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = threads()
    finally:
        torch.set_num_threads(before)
    assert not found.is_ok and "torch 3" in found.said and "OMP_NUM_THREADS=1" in found.said


def test_an_encoder_that_is_not_here_is_told():
    assert encoder(RunConfig()).is_ok
    found = encoder(RunConfig.model_validate({"encoder": {"model": "./nowhere"}}))
    assert not found.is_ok and "cannot load './nowhere'" in found.said


def test_room_on_the_disk_is_looked_at_before_the_folder_is_there(tmp_path, monkeypatch):
    assert disk(tmp_path / "a" / "b").said.endswith(f"free in {tmp_path}")
    monkeypatch.setattr(doctor, "LEAST_DISK", 1 << 60)
    found = disk(tmp_path)
    assert not found.is_ok and "make room" in found.said


def settings_with(uri, tmp_path):
    return RunConfig.model_validate({"run_dir": str(tmp_path), "tracking": {"uri": uri}})


def test_a_tracking_server_that_does_not_answer_is_told(tmp_path):
    found = tracking(settings_with("http://127.0.0.1:9", tmp_path))
    assert not found.is_ok and "http://127.0.0.1:9 does not answer" in found.said


def test_a_password_of_the_tracking_server_is_not_told(tmp_path):
    found = tracking(settings_with("http://ann:secret@127.0.0.1:9", tmp_path))
    assert not found.is_ok and "http://127.0.0.1:9 does not answer" in found.said
    assert "secret" not in found.said


def test_a_tracking_store_is_not_made_by_looking_and_a_broken_one_is_told(tmp_path):
    found = tracking(settings_with("", tmp_path))
    assert found.is_ok and "made by the first training" in found.said
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mlflow.db").write_text("this is no database, and long enough to be one" * 100)
    found = tracking(settings_with("", tmp_path))
    assert not found.is_ok and "mlflow.db does not answer" in found.said


def test_tables_elsewhere_are_looked_at_and_those_here_are_not():
    data = {"events": ["s3://b/x", "s3://b/x", "here.csv"], "items": "file:///i.csv"}
    assert elsewhere(RunConfig.model_validate({"data": data})) == ["s3://b/x"]


def run_doctor(tmp_path, before="pass"):
    code = f"import sys; {before}; sys.argv = ['recsys', 'doctor', '--set', 'serving.store=s']\n"
    code += "from recsys import cli; cli.main()"
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True,
                          text=True, check=False)  # fmt: skip


def test_the_exit_code_says_whether_all_is_well_and_nothing_is_written(tmp_path):
    done = run_doctor(tmp_path)
    lines = done.stdout.splitlines()
    assert {line[:3] for line in lines} <= {"ok ", "NO "} and len(lines) >= 14
    assert done.returncode == any(line.startswith("NO") for line in lines), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_it_runs_on_the_base_install(tmp_path):
    learns = ("duckdb", "lightgbm", "mlflow", "numpy", "pandas", "torch", "transformers")
    done = run_doctor(tmp_path, f"sys.modules.update(dict.fromkeys({learns}))")
    names = [line[3:].split()[0] for line in done.stdout.splitlines()]
    assert names[:3] == ["python", "packages", "[train]"]
    assert names[-3:] == ["releases", "store", "published"] and "encoder" not in names
