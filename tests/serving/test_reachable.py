"""Each finding says what is there or what to do, and nothing is made or changed by looking."""

from pathlib import Path

import pytest
import redis

from serving.publish import publish
from serving.reachable import eviction, of_serving, published, readable, sendable, writable
from serving.settings import ServingConfig


def test_a_place_that_cannot_be_written_is_told_and_none_is_made(tmp_path):
    assert writable("store", tmp_path / "new").said.endswith("will be made")
    assert list(tmp_path.iterdir()) == []
    found = writable("store", Path("/proc/nowhere"))
    assert not found.is_ok and found.said.startswith("/proc: ")


def test_what_is_published_is_told(sealed, store):
    assert published(store).said.startswith("nothing yet")
    release = sealed()
    publish(release, store)
    assert published(store).said.startswith(f"{release.name} by ")
    (store / "current.json").write_text("{")
    assert not published(store).is_ok


def test_tables_elsewhere_are_counted_or_what_is_wrong_is_told(bucket):
    bucket.put("events/a", b"x" * (3 << 20))
    bucket.put("events/b", b"")
    found = readable("data", bucket.uri("events"))
    assert found.line == (
        f"ok data         s3://{bucket.name}/events can be read; 2 files, 3.0 MiB"
    )
    for path in ("none", "events/c"):
        found = readable("data", bucket.uri(path))
        assert not found.is_ok and "there is no such file, folder or bucket" in found.said
    assert not readable("data", "s4://nowhere").is_ok


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_a_place_to_send_to_is_tried_and_left_as_it_was(bucket, tmp_path, kind):
    (tmp_path / "away").mkdir()
    address = bucket.uri("away") if kind == "s3" else (tmp_path / "away").as_uri()
    found = sendable("remote", address)
    assert found.is_ok and found.said.endswith("away can be written to")
    assert bucket.secret not in found.said and "endpoint" not in found.said
    assert [key for key in bucket.objects() if not key.endswith("/")] == []  # S3 keeps the folder
    assert list((tmp_path / "away").iterdir()) == []
    missing = sendable("remote", bucket.uri("away").replace(bucket.name, "no-such-bucket"))
    assert not missing.is_ok and "there is no such file, folder or bucket" in missing.said


@pytest.mark.parametrize(
    ("policy", "is_ok"),
    [("noeviction", True), ("volatile-ttl", True), ("volatile-lru", True), ("allkeys-lru", False),
     ("allkeys-random", False)],
)  # fmt: skip
def test_a_server_that_may_take_lists_away_is_told(running_redis, policy, is_ok):
    client = redis.Redis(unix_socket_path=str(running_redis.socket))
    client.config_set("maxmemory-policy", policy)
    try:
        found = eviction(f"unix://{running_redis.socket}?prefix=x")
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
    assert found.is_ok == is_ok and policy in found.said
    assert is_ok or "set noeviction" in found.said


def test_all_places_of_serving_are_looked_at(running_redis, bucket, tmp_path):
    folders = ServingConfig(releases=tmp_path, store=str(tmp_path / "store"))
    assert [one.name for one in of_serving(folders)] == ["releases", "store", "published"]
    store = f"unix://{running_redis.socket}?prefix={tmp_path.name}"
    places = ServingConfig(releases=tmp_path, remote=bucket.uri("away"), store=store)
    names = [one.name for one in of_serving(places)]
    assert names == ["releases", "remote", "published", "eviction"]
    away = ServingConfig(releases=tmp_path, store=f"unix://{tmp_path}/none.sock")
    assert [one.is_ok for one in of_serving(away)] == [True, False]
