"""The job makes what it was asked, goes on after a kill, and says why it begins anew."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import remote
from recsys.errors import ConfigError, RemoteError
from recsys.remote import open_place
from serving.batch import recommend
from serving.inspection import verify
from serving.transfer import fetch_release

pytestmark = pytest.mark.slow
CHAMPION = "models:/recommender@champion"
DAYS = 7


class Killed(Exception):
    """Stands for a kill in the middle of the job."""


@pytest.fixture
def made(small_world, tmp_path):
    """Make a release with other settings: (folder, {task: note}); `until` users, then a kill."""

    def make(until=10**9, address="", **batch):
        said = {}

        def show(task, done, total, note):
            said[task] = note
            if task == "make lists" and done >= until:
                raise Killed

        config = small_world.config
        places = {"releases": tmp_path / "releases", "remote": address}
        serving = config.serving.model_copy(update=places | {"k": batch.pop("k", 10)})
        settings = {"serving": serving, "batch": config.batch.model_copy(update=batch)}
        return recommend(config.model_copy(update=settings), CHAMPION, None, show), said

    return make


def content(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.parquet")}


def lists_in(folder):
    parts = sorted((folder / "lists").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(path) for path in parts]).to_pandas()


def test_a_killed_job_goes_on_to_the_same_bytes_and_trusts_no_part_that_was_changed(made, tmp_path):
    whole, said = made()
    assert "release" not in said
    expected, manifest = content(whole), json.loads((whole / "manifest.json").read_text())
    assert len(manifest["files"]) > 3
    whole.rename(tmp_path / "whole")
    with pytest.raises(Killed):
        made(until=60)  # all lists of the last part are made, it is not written
    [folder] = (tmp_path / "releases").iterdir()
    parts = sorted((folder / "lists").iterdir())
    assert len(parts) == 2  # of three
    parts[0].write_bytes(parts[0].read_bytes()[:-9])
    kept = parts[1].stat().st_mtime_ns
    again, said = made()
    assert again == folder and content(again) == expected
    assert parts[1].stat().st_mtime_ns == kept
    assert said["release"] == (
        f"{folder.name} was begun and goes on; 1 of 3 parts are done, "
        "1 not as their records say and made again"
    )
    verify(again)
    resumed = json.loads((again / "manifest.json").read_text())
    for one in (resumed, manifest):
        del one["created_at"], one["release_id"]
    assert resumed == manifest


def test_another_k_begins_anew_and_says_so(made, tmp_path):
    with pytest.raises(Killed):
        made(until=1)
    [unfinished] = (tmp_path / "releases").iterdir()
    folder, said = made(k=7)
    assert folder.exists() and not (unfinished / "manifest.json").exists()
    assert f"{unfinished.name} stays unfinished: " in said["release"]
    assert "k was 10, is 7" in said["release"]


def test_a_job_that_could_not_send_only_sends_when_it_is_run_again(
    made, bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(remote, "TRIES", 1)
    with pytest.raises(
        RemoteError, match=r"does not answer .* waits here: 'recsys send 2026.* goes"
    ):
        made(address=bucket.uri("lists", port=9))
    [folder] = (tmp_path / "releases").iterdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    again, said = made(address=bucket.uri("lists"))
    assert again == folder and before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")} == before
    assert said["release"] == (
        f"{folder.name} is sealed and only to be sent; 3 of 3 parts are done"
    )
    there = fetch_release(
        open_place(bucket.uri(f"lists/{folder.name}")), tmp_path / "there", lambda *_: None
    )
    assert content(there) == content(folder) and verify(there) == verify(folder)
    assert made(address=bucket.uri("lists"))[0] != folder
    assert len({key.split("/")[1] for key in bucket.objects()}) == 2


def test_only_who_was_active_gets_a_list(made, small_world):
    folder, said = made(users="active", active_days=DAYS)
    assert said["make lists"] == "users looked through"
    events = pd.read_parquet(small_world.folder / "events.parquet")
    since = events["timestamp"].max().ceil("D") - pd.Timedelta(days=DAYS)
    active = set(events.loc[events["timestamp"] >= since, "user_id"])
    assert 0 < len(active) < events["user_id"].nunique()
    assert set(lists_in(folder)["user_id"]) == active
    manifest = verify(folder)
    assert manifest.reach.asked == manifest.counts.users == len(active)


@pytest.mark.parametrize("name", ["users.csv", "users.parquet", "users.txt"])
def test_only_who_is_named_gets_a_list_and_ids_that_nobody_has_are_counted(made, tmp_path, name):
    named, nobody = ["u/3", "u/5", "u/8"], ["u/x", "u/y"]
    table, path = pd.DataFrame({"user_id": [*named, *nobody, "u/3"]}), tmp_path / name
    if name.endswith(".parquet"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, header=name.endswith(".csv"))
    folder, said = made(users=str(path))
    assert set(lists_in(folder)["user_id"]) == set(named)
    assert said["batch.users"] == "careful: 2 of its ids are not in the data"


def test_a_file_of_nobody_or_without_ids_is_refused(made, tmp_path):
    for name, content, said in (
        ("nobody.txt", "u/x\nu/y\n", "names 2 users and the events know none of them"),
        ("other.csv", "name\nu/1\n", "no column user_id \\(it has name\\)"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=f"batch.users: .*{said}"):
            made(users=str(tmp_path / name))
    assert not (tmp_path / "releases").exists()


def test_what_is_excluded_is_never_listed_and_lists_stay_full(made, tmp_path):
    out = [f"i{at:02d}" for at in range(20)]
    (tmp_path / "out.txt").write_text("\n".join([*out, "gone"]))
    folder, said = made(exclude=str(tmp_path / "out.txt"))
    lists, manifest = lists_in(folder), verify(folder)
    fallback = pq.read_table(folder / "fallback.parquet")["item_id"].to_pylist()
    assert not lists["item_id"].isin(out).any() and not set(fallback) & set(out)
    assert (lists.groupby("user_id").size() == 10).all() and manifest.counts.users == 60
    assert said["batch.exclude"] == "careful: 1 of its ids are not in the data"
    (tmp_path / "out.txt").write_text("\n".join(f"i{at:02d}" for at in range(48)))
    with pytest.raises(ConfigError, match="names every item, so nothing can be listed"):
        made(exclude=str(tmp_path / "out.txt"))
