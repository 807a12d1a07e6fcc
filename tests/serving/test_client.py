"""The client gets what the store holds, and says in words what went wrong."""

import http.server
import socket
import threading
import time
from contextlib import suppress

import pytest

from serving.client import Health, RecommendationClient
from serving.errors import ServingError
from serving.publish import publish
from serving.stores import open_reader

IDS = [
    "ann",
    "a/b",
    "a//b/",
    "..",
    ".",
    "",
    "a b+c",
    "100%",
    "%2F",
    "?k=1#x",
    "用户 ü",
    "\N{ROCKET}",
]


@pytest.fixture
def client(url):
    with RecommendationClient(url) as client:
        yield client


def test_every_id_finds_its_own_list(sealed, store, client):
    publish(sealed("r1", lists={user: [f"for {user!r}", user] for user in IDS}), store)
    one_by_one = [client.recommend(user) for user in IDS]
    assert [answer.user_id for answer in one_by_one] == IDS
    assert [[item.item_id for item in answer.items] for answer in one_by_one] == [
        [f"for {user!r}", user] for user in IDS
    ]
    many = client.recommend_many(IDS)
    assert [like(answer) for answer in many] == [like(answer) for answer in one_by_one]


def like(answer):
    """Return an answer without what is of the request."""
    return answer.model_copy(update={"attribution_id": ""})


def test_the_answer_is_the_one_of_the_store(sealed, store, client):
    publish(sealed("r1", lists={7: [1, 2, 3], 8: [2]}, fallback=[9]), store)
    with open_reader(store) as reader:
        expected = reader.read([7, 8, 9], 2).lists
    found = client.recommend_many([7, 8, 9], k=2)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.user_id, ours.is_fallback) == (theirs.user_id, theirs.is_fallback)
        assert [tuple(item.model_dump().values()) for item in ours.items] == theirs.items
        assert (ours.release_id, ours.model) == ("r1", "recsys/3")
        assert client.recommend(ours.user_id, k=2).items == ours.items


def test_the_release_is_told_with_its_lineage(sealed, store, client):
    publish(sealed("r1"), store)
    release = client.release()
    assert (release.release_id, release.model_uri, release.users) == ("r1", "models:/recsys/3", 3)
    assert release.metrics == {"test/ndcg_at_10": 0.0709} and release.forced is None
    assert client.ready() == Health(ready=True, release_id="r1", detail="ready")
    assert client.health() == client.ready()


def test_a_release_that_was_forced_says_why(sealed, store, client):
    short = {f"u{user:02}": ["i1"] for user in range(60)}
    publish(sealed("r1", short), store, reason="only one thing is for sale")
    assert client.release().forced == "only one thing is for sale"


def test_not_ready_is_an_answer_and_no_list_is_an_error(client):
    assert client.ready().ready is False
    assert client.health().ready is False
    for ask in (lambda: client.recommend("ann"), client.release, lambda: client.recommend_many([])):
        with pytest.raises(ServingError, match="HTTP 503, no release is published"):
            ask()


def test_a_refused_question_says_why(sealed, store, client):
    publish(sealed("r1"), store)
    with pytest.raises(ServingError, match=r"HTTP 422.*less than or equal to 1000"):
        client.recommend("ann", k=1001)
    with pytest.raises(ServingError, match=r"HTTP 422.*at most 1000"):
        client.recommend_many(["ann"] * 1001)


def test_nobody_there_is_said_in_words():
    with (
        RecommendationClient("http://127.0.0.1:9") as client,
        pytest.raises(ServingError, match=r"127\.0\.0\.1:9/v1/release: .*is the read API running"),
    ):
        client.release()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>a proxy says hello</html>", "not an answer of the read API"),
        (502, b"<html>bad gateway</html>", "HTTP 502, <html>bad gateway"),
        (500, b"", "HTTP 500, without a word"),
        (200, None, "no answer within 0.1 s"),
    ],
)
def test_a_strange_server_is_said_in_words(status, body, words):
    class Strange(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if body is None:
                time.sleep(0.3)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Strange) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        timeout_s = 0.1 if body is None else 2.0
        with RecommendationClient(url, timeout_s=timeout_s, retries=0) as client, \
                pytest.raises(ServingError, match=words):  # fmt: skip
            client.release()
        thread.join()


@pytest.fixture
def scripted():
    """Make a server that answers by a script: bytes, or None to hang up."""
    servers = []

    def make(*script):
        listening = socket.create_server(("127.0.0.1", 0))
        asked = []

        def answer():
            for reply in script:
                connection, _ = listening.accept()
                with connection:
                    asked.append(connection.recv(65536))
                    if reply:
                        connection.sendall(reply)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        servers.append((listening, thread))
        return f"http://127.0.0.1:{listening.getsockname()[1]}", asked

    yield make
    for listening, thread in servers:
        listening.close()
        thread.join(5)


def reply_of(status, body):
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


HEALTHY = reply_of("200 OK", b'{"ready": true, "release_id": "r1", "detail": "ready"}')


def test_what_failed_on_the_way_is_asked_again(scripted):
    url, asked = scripted(None, reply_of("503 Service Unavailable", b"{}"), HEALTHY)
    with RecommendationClient(url, timeout_s=30, retries=2) as client:
        assert client.health().ready
    assert len(asked) == 3


def test_no_more_often_than_allowed_and_never_what_was_refused(scripted):
    url, asked = scripted(*[reply_of("503 Service Unavailable", b'{"detail": "busy"}')] * 2)
    with (RecommendationClient(url, timeout_s=30, retries=1) as client,
          pytest.raises(ServingError, match="HTTP 503, busy")):  # fmt: skip
        client.release()
    url, refused = scripted(reply_of("401 Unauthorized", b'{"detail": "no key"}'), HEALTHY)
    with (RecommendationClient(url, timeout_s=30, retries=1) as client,
          pytest.raises(ServingError, match="HTTP 401, no key")):  # fmt: skip
        client.release()
    assert (len(asked), len(refused)) == (2, 1)


def test_an_answer_that_drips_is_too_late():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip():
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
                while True:
                    connection.sendall(b" ")
                    time.sleep(0.01)

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with (RecommendationClient(url, timeout_s=0.3) as client,
              pytest.raises(ServingError, match="no answer within 0.3 s")):  # fmt: skip
            client.release()
        thread.join()


def test_the_key_is_sent(scripted):
    url, asked = scripted(HEALTHY)
    with RecommendationClient(url, api_key="rk_secret") as client:
        client.health()
    assert b"authorization: bearer rk_secret" in asked[0].lower()
