"""What is let in, what is refused, and in which words: each over a real server."""

import http.client
import json
import re
import socket

import httpx
import pytest

from serving.access import load_keys, new_key
from serving.attribution import parse_attribution
from serving.publish import publish
from serving.settings import ApiConfig, ServingConfig
from serving.stores import open_reader

LISTS = {"ann": ["i1", "i2", "i3"], "bob": ["i2"], "cy/ü 7": ["i3", "i1"]}  # of `sealed`
PATIENT = {"store_timeout_s": 30.0, "log": "none"}


@pytest.fixture
def serve(store, serving_of):
    """Serve the store with other settings of the API: `with serve(keys, max_requests=1) as url`."""

    def make(keys=(), **api):
        settings = ServingConfig(store=str(store), api=ApiConfig(**(PATIENT | api)))
        return serving_of(settings, keys)

    return make


def test_with_keys_nobody_is_let_in_without_one(sealed, store, serve):
    publish(sealed("r1"), store)
    key, entry = new_key("web")
    with serve(load_keys(None, entry)) as url:
        doors = [("GET", "/v1/users/ann/recommendations"), ("GET", "/v1/release"),
                 ("POST", "/v1/recommendations"), ("GET", "/metrics"),
                 ("GET", "/nowhere")]  # fmt: skip
        for method, path in doors:
            body = {"json": {"user_ids": ["ann"]}} if method == "POST" else {}
            for header in ({}, {"Authorization": "Bearer rk_wrong"}, {"Authorization": key},
                           {"Authorization": f"Basic {key}"}):  # fmt: skip
                reply = httpx.request(method, url + path, headers=header, **body)
                assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
            good = {"Authorization": f"Bearer {key}"}
            reply = httpx.request(method, url + path, headers=good, **body)
            assert reply.status_code == (404 if path == "/nowhere" else 200)
        for path in ("/health", "/ready", "/openapi.json"):
            assert httpx.get(url + path).status_code == 200


def test_an_answer_leads_back_to_its_request_and_its_release(sealed, store, url):
    publish(sealed("r1"), store)
    path = f"{url}/v1/users/ann/recommendations"
    mine = httpx.get(path, headers={"X-Request-Id": "page-7_a"})
    assert mine.headers["x-request-id"] == "page-7_a"
    assert parse_attribution(mine.json()["attribution_id"])[:3] == ("r1", "own", "page-7_a")
    for strange in ("a b", "x" * 65, "a~b", 'a"b', "../a"):
        given = httpx.get(path, headers={"X-Request-Id": strange}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{16}", given)
    body = {"user_ids": ["nobody", "ann"]}
    many = httpx.post(f"{url}/v1/recommendations", json=body, headers={"X-Request-Id": "r"})
    found = [parse_attribution(one["attribution_id"]) for one in many.json()["answers"]]
    assert found == [("r1", "fallback", "r", 0), ("r1", "own", "r", 1)]


def test_what_is_known_already_is_not_sent_again_until_a_release_comes(sealed, store, url):
    publish(sealed("r0"), store)
    paths = ("/v1/users/ann/recommendations", "/v1/users/ann/recommendations?k=2&x=1")
    for number, path in enumerate(paths):
        first = httpx.get(url + path)
        known = {"If-None-Match": first.headers["etag"]}
        again = httpx.get(url + path, headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["x-release-id"] == f"r{number}"
        publish(sealed(f"r{number + 1}"), store)
        changed = httpx.get(url + path, headers=known)
        assert (changed.status_code, changed.headers["x-release-id"]) == (200, f"r{number + 1}")


def test_the_short_way_and_the_long_way_say_the_same(sealed, store, url):
    publish(sealed("r1"), store)
    for user in ("ann", "nobody", "cy%2F%C3%BC%207", "a/../b", "%00", "..%2F..", "'; DROP--"):
        for k in ("", "k=1", "k=1000"):
            path = f"{url}/v1/users/{user}/recommendations"
            header = {"X-Request-Id": "same"}
            short, long = (httpx.get(f"{path}?{query}", headers=header)
                           for query in (k, f"{k}&a=b"))  # fmt: skip
            assert short.status_code == long.status_code == 200
            assert short.content == long.content
            for replies in (short, long):
                replies.headers.pop("date")
            assert dict(short.headers) == dict(long.headers)


def test_a_body_is_refused_when_it_is_too_large_said_or_not(sealed, store, serve):
    publish(sealed("r1"), store)
    with serve(max_body_bytes=2000) as url:
        path = f"{url}/v1/recommendations"
        body = json.dumps({"user_ids": ["x" * 1900]}).encode()
        json_sent = {"Content-Type": "application/json"}
        assert httpx.post(path, content=body, headers=json_sent).status_code == 200
        for content in (body + b" " * 100, iter([body, b" " * 100])):
            reply = httpx.post(path, content=content, headers=json_sent)
            assert (reply.status_code, reply.headers["connection"]) == (413, "close")
            assert reply.json() == {"detail": "expected a body of at most 2000 bytes"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/json"),
        (b"user_ids=ann", "application/x-www-form-urlencoded"),
        (b"<users><user>ann</user></users>", "application/xml"),
        (b'{"user_ids": ["ann"]}', "text/plain"),
        (b'--x\r\nContent-Disposition: form-data; name="user_ids"\r\n\r\nann\r\n--x--\r\n',
         "multipart/form-data; boundary=x"),
        (b"\xff\xfe\x00", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"user_ids":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "application/json"),
        (b'{"user_ids": [1e999]}', "application/json"),
        (b'{"user_ids": [NaN]}', "application/json"),
        (b'{"user_ids": [' + b"9" * 5000 + b"]}", "application/json"),
        (b'{"user_ids": null}', "application/json"),
        (b'{"user_ids": {"a": 1}}', "application/json"),
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused(sealed, store, url, content, kind):
    publish(sealed("r1"), store)
    header = {"Content-Type": kind}
    reply = httpx.post(f"{url}/v1/recommendations", content=content, headers=header)
    assert reply.status_code in (400, 422), reply.text
    assert reply.json()["detail"] and len(reply.content) < 600


HOSTILE = [
    "../../../../etc/passwd", "..\\..\\windows\\win.ini", "/etc/passwd", "....//....//etc",
    "' OR '1'='1", "ann'; DROP TABLE lists; --", 'ann" UNION SELECT manifest FROM meta --',
    "ann\r\nSET current r0\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", "\x00", "ann\x00bob", "\n", "\r\n\r\n",
    "{{7*7}}", "${jndi:ldap://x}", "%2e%2e%2f", "%s%s%n", "*", "?", "[a-z]*", "ann:fallback",
    "\N{ROCKET}" * 50, "a" * 4000, "\u202eann", "current", "manifest", "r1",
]  # fmt: skip


def test_an_id_is_only_ever_an_id(sealed, place, serving_of):
    publish(sealed("r1", fallback=["i9"]), place)
    settings = ServingConfig(store=str(place), api=ApiConfig(**PATIENT))
    with serving_of(settings) as url, httpx.Client(base_url=url) as client:
        for user in HOSTILE:
            quoted = "".join(f"%{byte:02x}" for byte in user.encode())
            one = client.get(f"/v1/users/{quoted}/recommendations").json()
            assert (one["user_id"], one["is_fallback"], one["degraded"]) == (user, True, False)
            assert [item["item_id"] for item in one["items"]] == ["i9"]
        many = client.post("/v1/recommendations", json={"user_ids": HOSTILE}).json()["answers"]
        assert [(one["user_id"], one["is_fallback"], one["degraded"]) for one in many] == [
            (user, True, False) for user in HOSTILE
        ]
    with open_reader(place) as reader:  # and nothing was changed by it
        found = reader.read([*LISTS, "nobody"]).lists
    expected = [*LISTS.values(), ["i9"]]
    assert [[item.item_id for item in answer.items] for answer in found] == expected


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/v1/../../etc/passwd", "/v1/users/../../x", "/v1/users/recommendations",
     "/static/../serving/api.py", "//etc/passwd", "/.env", "/docs", "/redoc"],
)  # fmt: skip
def test_there_is_nothing_beside_the_routes(sealed, store, url, path):
    publish(sealed("r1"), store)
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("GET", path)
    assert connection.getresponse().status == 404
    connection.close()


def test_more_at_the_same_time_than_allowed_are_told_to_come_back(sealed, store, serve):
    publish(sealed("r1"), store)
    with serve(max_requests=1) as url, httpx.Client(base_url=url) as client:
        held = http_begun(url)  # its body is not all here
        reply = client.get("/v1/users/ann/recommendations")
        while reply.status_code == 200:  # it may not have begun yet
            reply = client.get("/v1/users/ann/recommendations")
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert client.get("/health").status_code == 200
        held.close()
        while client.get("/v1/users/ann/recommendations").status_code == 503:
            pass


def http_begun(url):
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(b"POST /v1/recommendations HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n"
                       b"content-type: application/json\r\n\r\n{")  # fmt: skip
    return connection
