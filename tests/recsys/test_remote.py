"""A place elsewhere gives what was brought there, whole; what goes wrong there is said in words."""

import logging
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from recsys import remote
from recsys.errors import RemoteError
from recsys.remote import Place, RemoteFile, open_place

ROOT = Path(__file__).parents[2]
SEND = """
import sys
from pathlib import Path
from recsys.remote import open_place
open_place(sys.argv[1]).send(Path(sys.argv[2]), "large")
"""
LARGE = bytes(range(256)) * (21 << 12)  # 21 MiB: several parts for S3, several reads


@pytest.fixture(params=["s3", "file"])
def place(request, tmp_path) -> Place:
    """A folder of each kind, not made yet."""
    if request.param == "file":
        return open_place((tmp_path / "away" / "in").as_uri())
    return open_place(request.getfixturevalue("bucket").uri("away/in"))


def send(place, tmp_path, name, content):
    (tmp_path / "source").write_bytes(content)
    return place.send(tmp_path / "source", name)


@pytest.mark.parametrize("content", [b"x", LARGE])
def test_what_was_sent_comes_back(place, tmp_path, content):
    assert place.names() == [] and place.version("a/b.bin") is None
    version = send(place, tmp_path, "a/b.bin", content)
    assert place.version("a/b.bin") == version
    assert place.names() == ["a"] and place.files() == [RemoteFile("a/b.bin", len(content))]
    assert (place.name, place.below("a").name) == ("in", "a")
    pieces = []
    assert place.below("a").fetch("b.bin", tmp_path / "new/here", pieces.append) == version
    assert (tmp_path / "new/here").read_bytes() == content == place.read("a/b.bin")
    assert sum(pieces) == len(content) and len(pieces) == -(-len(content) // remote.CHUNK)
    place.delete("a/b.bin")
    assert place.version("a/b.bin") is None


def test_another_content_of_the_same_size_is_another_version(place, tmp_path):
    assert send(place, tmp_path, "a", b"one") != send(place, tmp_path, "a", b"two")


def test_a_place_may_be_one_file(place, tmp_path):
    send(place, tmp_path, "a", b"one")
    [file] = place.below("a").files()
    assert file == RemoteFile("", 3)
    place.below("a").fetch(file.name, tmp_path / "b", lambda n: None)
    assert (tmp_path / "b").read_bytes() == b"one"


def test_a_large_file_whose_sender_is_killed_is_not_seen(bucket, tmp_path, caplog):
    caplog.set_level(logging.INFO, "werkzeug")
    (tmp_path / "large").write_bytes(LARGE)
    command = [sys.executable, "-c", SEND, bucket.uri("a"), tmp_path / "large"]
    sender = subprocess.Popen(command, cwd=ROOT)

    class Kill(logging.Handler):
        def emit(self, record):
            if "partNumber=1" in record.getMessage():
                sender.kill()

    killer = Kill()
    logging.getLogger("werkzeug").addHandler(killer)
    try:
        assert sender.wait() == -signal.SIGKILL
    finally:
        logging.getLogger("werkzeug").removeHandler(killer)
    assert len(bucket.client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]) == 1
    assert bucket.objects() == [] and open_place(bucket.uri("a")).version("large") is None
    subprocess.run(command, cwd=ROOT, check=True)
    assert bucket.get("a/large") == LARGE


def test_a_file_that_changes_while_it_is_fetched_is_refused(place, tmp_path):
    send(place, tmp_path, "a", LARGE)
    with pytest.raises(RemoteError, match=r"/a: it was changed while it was fetched"):
        place.fetch("a", tmp_path / "b", lambda n: send(place, tmp_path, "a", LARGE[::-1]))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s4://key:hidden@b/a", "s4://b/a: unknown kind of place; known are s3://, gs://"),
        ("s3://key:hidden@b/a?regoin=x", "s3://b/a: unknown option regoin; known are endpoint"),
        ("s3://key:hidden@/a", "s3:///a: write s3://BUCKET/FOLDER or s3://KEY:SECRET@BUCKET"),
        ("s3://key:hid/den@b/a", "s3://b/a: write s3://BUCKET/FOLDER or .* in a secret / is %2F"),
        ("s3://key@b/a", "s3://b/a: write s3://BUCKET/FOLDER"),
        ("s3://key:hidden@b/a?scheme=x&region=y", "s3://b/a: scheme = 'x', expected http or https"),
        ("gs://key:hidden@b c/a", "gs://b c/a: Cannot parse URI: 'gs://b c/a.*' due to syntax"),
    ],
)
def test_an_address_that_cannot_be_understood_is_said_without_its_secret(address, said):
    with pytest.raises(RemoteError, match=said) as error:
        open_place(address)
    assert "hid" not in str(error.value) and "den" not in str(error.value)


def test_server_and_keys_may_be_in_the_environment(bucket, tmp_path, monkeypatch):
    send(open_place(bucket.uri("a")), tmp_path, "b", b"one")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.secret)
    url = f"http://127.0.0.1:{bucket.port}/"
    assert open_place(f"s3://{bucket.name}/a?endpoint_override={url}").read("b") == b"one"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    assert open_place(f"s3://{bucket.name}/a").read("b") == b"one"


def test_what_is_not_there_is_said(bucket, tmp_path):
    nothing = open_place(bucket.uri("none"))
    missing = open_place(bucket.uri("a").replace(bucket.name, "no-such-bucket"))
    said = "there is no such file, folder or bucket; check the address"
    for look, where in [
        (nothing.files, nothing.shown),
        (lambda: nothing.read("x"), "none/x"),
        (missing.files, "s3://no-such-bucket/a"),
        (lambda: send(missing, tmp_path, "b", b"x"), "no-such-bucket/a/b"),
        (lambda: send(missing, tmp_path, "b", LARGE), "no-such-bucket/a/b"),
    ]:
        with pytest.raises(RemoteError, match=f"{where}: {said}"):
            look()


@pytest.fixture
def strict(s3_server):
    """Let the server ask who is there; it knows nobody."""

    def after(count):
        address = f"http://127.0.0.1:{s3_server[0]}/moto-api/reset-auth"
        httpx.post(address, content=count).raise_for_status()

    after(b"0")
    yield
    after(b"inf")


def test_who_is_refused_is_told_what_to_give(bucket, tmp_path, strict):
    place = open_place(bucket.uri("a"))
    for look in (place.files, lambda: place.read("x"), lambda: send(place, tmp_path, "b", b"x")):
        with pytest.raises(RemoteError, match=r"refused \(\w+\); give credentials that may .*AWS_"):
            look()


def test_a_server_that_is_away_or_silent_is_said_in_bounded_time(bucket, monkeypatch):
    monkeypatch.setattr(remote, "SILENT_S", 1.0)
    monkeypatch.setattr(remote, "TRIES", 1)
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        for listens in (False, True):
            if listens:
                silent.listen(5)
            place = open_place(bucket.uri("a", port=silent.getsockname()[1]))
            with pytest.raises(RemoteError, match=r"/a: does not answer \(.*check address and"):
                place.files()
