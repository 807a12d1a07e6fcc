"""At the other place there is a whole release or none, and it comes back byte for byte."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from recsys import remote
from recsys.errors import RemoteError
from recsys.remote import open_place
from serving.errors import (
    DamagedReleaseError,
    NoReleaseError,
    ServingError,
    UnfinishedReleaseError,
)
from serving.transfer import SENT, fetch_release, is_sent, meant_release, send_release

ROOT = Path(__file__).parents[2]
FILES = ["fallback.parquet", "lists/part-00000.parquet", "lists/part-00001.parquet",
         "lists/part-00002.parquet", "manifest.json"]  # fmt: skip
SEND = """
import os, signal, sys
from pathlib import Path
from recsys.remote import open_place
from serving.transfer import send_release
calls = []
def show(*step):
    calls.append(step)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
send_release(Path(sys.argv[1]), open_place(sys.argv[2]), show)
"""


class Killed(Exception):
    """Stands for a kill in the middle."""


def quiet(*step):
    """Show nothing."""


def dying(calls):
    """Return a show that stops the work at the so manieth call."""
    left = [calls]

    def show(*step):
        left[0] -= 1
        if not left[0]:
            raise Killed

    return show


@pytest.fixture
def release(sealed):
    return sealed("r1", parts=3)


@pytest.fixture(params=["s3", "file"])
def away(request, tmp_path):
    """A place of releases of each kind, not made yet."""
    if request.param == "file":
        return open_place((tmp_path / "away").as_uri())
    return open_place(request.getfixturevalue("bucket").uri("away"))


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file() and path.name != SENT}  # fmt: skip


def held(place):
    return {file.name: place.read(file.name) for file in place.files()}


def test_a_release_that_went_there_and_came_back_is_the_same(release, away, tmp_path):
    place = away.below("r1")
    assert not is_sent(release, place)
    send_release(release, place, quiet)
    assert is_sent(release, place) and not is_sent(release, away.below("r2"))
    assert held(place) == content(release) and sorted(content(release)) == FILES
    there = fetch_release(place, tmp_path / "there", quiet)
    assert there == tmp_path / "there" / "r1" and content(there) == content(release)
    before = {path: path.stat().st_mtime_ns for path in there.rglob("*")}
    assert fetch_release(place, tmp_path / "there", quiet) == there
    assert {path: path.stat().st_mtime_ns for path in there.rglob("*")} == before


@pytest.mark.parametrize("calls", range(1, len(FILES)))
def test_an_upload_killed_at_any_file_is_no_release_there_and_goes_on(
    release, bucket, requests_of, calls
):
    place = open_place(bucket.uri("away/r1"))
    command = [sys.executable, "-c", SEND, release, bucket.uri("away/r1"), str(calls)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert bucket.objects() == [f"away/r1/{name}" for name in FILES[:calls]]
    with pytest.raises(UnfinishedReleaseError, match=r"r1 has no manifest.json"):
        fetch_release(place, release.parent / "there", quiet)
    with pytest.raises(NoReleaseError):
        meant_release(None, release.parent / "there", open_place(bucket.uri("away")), quiet)
    assert not (release.parent / "there").exists()
    before = {name: place.version(name) for name in FILES[:calls]}
    requests_of("PUT")
    send_release(release, place, quiet)
    assert requests_of("PUT") == [f"away/r1/{name}" for name in FILES[calls:]]
    assert held(place) == content(release)
    assert {name: place.version(name) for name in FILES[:calls]} == before


def test_what_is_there_is_not_sent_again_unless_it_was_changed_there(release, bucket, requests_of):
    place = open_place(bucket.uri("away/r1"))
    send_release(release, place, quiet)
    assert sorted(requests_of("PUT")) == [f"away/r1/{name}" for name in FILES]
    said = []
    send_release(release, place, lambda *step: said.append(step[-1]))
    assert requests_of("PUT") == [] and said == ["bytes, all of them there already"]
    key = "away/r1/lists/part-00001.parquet"
    bucket.put(key, bucket.get(key)[::-1])
    requests_of("PUT")
    send_release(release, place, quiet)
    assert requests_of("PUT") == [key] and held(place) == content(release)
    (release / SENT).write_text((release / SENT).read_text()[:-9] + '\n["cut')
    send_release(release, place, quiet)
    assert held(place) == content(release)


def test_the_second_fetch_moves_no_lists(release, bucket, tmp_path, requests_of):
    place = open_place(bucket.uri("away/r1"))
    send_release(release, place, quiet)
    requests_of("GET")
    fetch_release(place, tmp_path / "there", quiet)
    assert sorted(requests_of("GET")) == [f"away/r1/{name}" for name in FILES]
    fetch_release(place, tmp_path / "there", quiet)
    assert requests_of("GET") == ["away/r1/manifest.json"]


@pytest.mark.parametrize("calls", range(1, len(FILES)))
def test_a_fetch_killed_at_any_file_is_no_release_here_and_goes_on(
    release, bucket, tmp_path, requests_of, calls
):
    place, there = open_place(bucket.uri("away/r1")), tmp_path / "there"
    send_release(release, place, quiet)
    with pytest.raises(Killed):
        fetch_release(place, there, dying(calls))
    assert sorted(content(there / "r1")) == FILES[: calls - 1]
    (there / "r1" / ".fallback.parquet.1.tmp").write_bytes(b"of a killed one")
    requests_of("GET")
    assert content(fetch_release(place, there, quiet)) == content(release)
    assert len(requests_of("GET")) == len(FILES) - (calls - 1)


@pytest.mark.parametrize("name", FILES)
def test_what_is_damaged_there_is_refused_by_its_name(release, bucket, tmp_path, name):
    place = open_place(bucket.uri("away/r1"))
    send_release(release, place, quiet)
    bucket.put(f"away/r1/{name}", bucket.get(f"away/r1/{name}")[::-1])
    with pytest.raises(DamagedReleaseError, match=rf"away/r1/{name}"):
        fetch_release(place, tmp_path / "there", quiet)
    assert not (tmp_path / "there/r1/manifest.json").exists()
    assert not (tmp_path / "there/r1" / name).exists()


def test_what_is_missing_there_is_said_by_its_name(release, bucket, tmp_path):
    place = open_place(bucket.uri("away/r1"))
    send_release(release, place, quiet)
    bucket.client.delete_object(Bucket=bucket.name, Key="away/r1/fallback.parquet")
    with pytest.raises(RemoteError, match=r"away/r1/fallback.parquet: there is no such file"):
        fetch_release(place, tmp_path / "there", quiet)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"release_id": "r2"}, "is of release 'r2'"), ({"path": "../../x"}, "is of ../../x")],
)
def test_a_manifest_that_leads_elsewhere_is_refused(release, bucket, tmp_path, change, said):
    place = open_place(bucket.uri("away/r1"))
    send_release(release, place, quiet)
    manifest = json.loads(bucket.get("away/r1/manifest.json"))
    if path := change.pop("path", None):
        manifest["files"][0]["path"] = path
    bucket.put("away/r1/manifest.json", json.dumps(manifest | change).encode())
    with pytest.raises(DamagedReleaseError, match=said):
        fetch_release(place, tmp_path / "there", quiet)
    assert not (tmp_path / "there").exists()


def test_two_releases_of_one_name_are_not_mixed(release, sealed, away, tmp_path):
    send_release(release, away.below("r1"), quiet)
    release.rename(tmp_path / "first")
    other = sealed("r1", {"dan": ["i1"]}, parts=1)
    with pytest.raises(ServingError, match="two releases of one name; delete one"):
        send_release(other, away.below("r1"), quiet)
    with pytest.raises(ServingError, match="two releases of one name; delete one"):
        fetch_release(away.below("r1"), other.parent, quiet)
    assert held(away.below("r1")) == content(tmp_path / "first")


def test_an_unfinished_job_and_a_damaged_release_are_left_alone(release, away, tmp_path):
    send_release(release, away.below("r1"), quiet)
    (tmp_path / "there/r1").mkdir(parents=True)
    (tmp_path / "there/r1/plan.json").write_text("{}")
    with pytest.raises(ServingError, match=r"r1 was begun by recsys recommend and is not sealed"):
        fetch_release(away.below("r1"), tmp_path / "there", quiet)
    part = release / FILES[1]
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(DamagedReleaseError, match=r"part-00000.parquet was changed after"):
        send_release(release, away.below("r2"), quiet)
    assert away.below("r2").names() == ["fallback.parquet"]


def test_the_newest_release_is_meant_wherever_it_is(sealed, away, tmp_path):
    releases = [sealed(name) for name in ("r1", "r2", "r3")]
    for one in releases:
        send_release(one, away.below(one.name), quiet)
    there = tmp_path / "there"
    meant = [meant_release(name, there, away, quiet) for name in ("r1", None, None)]
    assert [one.name for one in meant] == ["r1", "r3", "r3"]
    assert sorted(path.name for path in there.iterdir()) == ["r1", "r3"]
    newer = sealed("r4")
    assert meant_release(None, newer.parent, away, quiet) == newer
    assert meant_release(str(newer), there, away, quiet) == newer
    assert meant_release("r4", newer.parent, away, quiet) == newer
    with pytest.raises(UnfinishedReleaseError, match=r"r5 has no manifest.json"):
        meant_release("r5", there, away, quiet)
    with pytest.raises(
        NoReleaseError, match="no sealed release, neither in .*none nor at .*none; recsys rec"
    ):
        meant_release(None, tmp_path / "none", away.below("none"), quiet)


def test_a_connection_that_is_lost_leaves_no_release_and_the_next_try_ends_it(
    release, bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(remote, "TRIES", 1)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    port = server.get_host_and_port()[1]
    bucket.client.create_bucket(Bucket="lost")  # servers of one process have the same buckets
    place = open_place(f"s3://k:s@lost/r1?scheme=http&endpoint_override=127.0.0.1:{port}")

    def lose(task, done, total, note):
        server.stop()

    with pytest.raises(RemoteError, match=r"r1/lists/part-00000.parquet: does not answer"):
        send_release(release, place, lose)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    server.start()
    assert [file.name for file in place.files()] == FILES[:1]
    send_release(release, place, quiet)
    with pytest.raises(RemoteError, match=r"does not answer"):
        fetch_release(place, tmp_path / "there", lose)
    assert "manifest.json" not in content(tmp_path / "there" / "r1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    server.start()
    assert content(fetch_release(place, tmp_path / "there", quiet)) == content(release)
    server.stop()
