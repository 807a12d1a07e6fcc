"""The API over a real server: always an answer, of one release, and in words when there is none."""

import importlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from serving.api import create_app, serve
from serving.client import RecommendationClient
from serving.errors import ServingError
from serving.publish import publish
from serving.stores import open_store

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "pandas", "numpy", "scipy", "lightgbm", "mlflow", "duckdb",
         "recsys", "features", "pipelines")  # fmt: skip


def test_an_answer_says_everything_about_itself(sealed, store, url):
    publish(sealed("r1", lists={"a/b": ["x", 'y"']}), store)
    reply = httpx.get(f"{url}/v1/users/a%2Fb/recommendations?k=2")
    assert (reply.status_code, reply.headers["X-Release-Id"]) == (200, "r1")
    assert reply.json() == {
        "user_id": "a/b", "is_fallback": False, "release_id": "r1", "model": "recsys/3",
        "as_of": "2026-08-20T00:00:00Z",
        "items": [
            {"rank": 1, "item_id": "x", "score": 1.0, "probability": 0.1, "source": "text",
             "reason": "r1", "drivers": "text, item"},
            {"rank": 2, "item_id": 'y"', "score": 0.5, "source": "text",
             "probability": pytest.approx(0.05, rel=0.002),
             "reason": "r1", "drivers": "text, item"},
        ],
    }  # fmt: skip


def test_an_id_with_a_plain_slash_is_found_too(sealed, store, url):
    lists = {"a/b": ["x"], "a": ["y"], "a/recommendations": ["z"]}
    publish(sealed("r1", lists=lists), store)
    for user, (item,) in lists.items():
        reply = httpx.get(f"{url}/v1/users/{user}/recommendations").json()
        assert (reply["user_id"], reply["items"][0]["item_id"]) == (user, item)


def test_an_unknown_user_gets_the_fallback(sealed, store, url):
    publish(sealed("r1", fallback=["i9", "i1"]), store)
    reply = httpx.get(f"{url}/v1/users/nobody/recommendations").json()
    assert reply["is_fallback"] is True
    assert [item["item_id"] for item in reply["items"]] == ["i9", "i1"]
    assert [item["probability"] for item in reply["items"]] == [None, None]


def test_many_users_in_one_call_keep_order_type_and_release(sealed, store, url):
    publish(sealed("r1", lists={7: [1], 8: [2]}, fallback=[3]), store)
    reply = httpx.post(f"{url}/v1/recommendations", json={"user_ids": [8, "7", 9, 8]})
    assert reply.headers["X-Release-Id"] == "r1"
    found = [(one["user_id"], one["items"][0]["item_id"], one["is_fallback"])
             for one in reply.json()["answers"]]  # fmt: skip
    assert found == [(8, 2, False), ("7", 1, False), (9, 3, True), (8, 2, False)]


def test_k_outside_1_to_1000_is_refused(sealed, store, url):
    publish(sealed("r1"), store)
    codes = {}
    for k in (0, 1, 1000, 1001, -1):
        one = httpx.get(f"{url}/v1/users/ann/recommendations?k={k}")
        many = httpx.post(f"{url}/v1/recommendations", json={"user_ids": ["ann"], "k": k})
        codes[k] = (one.status_code, many.status_code)
    assert codes == {k: (200, 200) if k in (1, 1000) else (422, 422) for k in codes}


def test_a_body_of_another_shape_is_refused_without_repeating_it(sealed, store, url):
    publish(sealed("r1"), store)
    for body in (
        '{"user_ids": [1.5]}',
        '{"user_ids": [true]}',
        '{"user_ids": ["ann"], "top": 3}',
        '{"user_ids": ["\\ud800"]}',
        '{"user_ids": [' + ", ".join(["1"] * 1001) + "]}",
        "{",
    ):
        headers = {"Content-Type": "application/json"}
        reply = httpx.post(f"{url}/v1/recommendations", content=body, headers=headers)
        assert (reply.status_code, len(reply.content) < 500) == (422, True), body


def test_a_thousand_users_are_not_too_many(sealed, store, url):
    publish(sealed("r1"), store)
    body = {"user_ids": ["ann"] * 1000, "k": 1}
    assert len(httpx.post(f"{url}/v1/recommendations", json=body).json()["answers"]) == 1000


def test_before_the_first_release_every_door_says_so(sealed, store, url):
    doors = [("GET", "/v1/users/ann/recommendations"), ("POST", "/v1/recommendations"),
             ("GET", "/v1/release")]  # fmt: skip
    for method, path in doors:
        reply = httpx.request(
            method, url + path, json={"user_ids": []} if method == "POST" else None
        )
        assert reply.status_code == 503
        assert "no release is published" in reply.json()["detail"]
    reply = httpx.get(f"{url}/health")
    assert (reply.status_code, reply.json()["ready"]) == (503, False)
    publish(sealed("r1"), store)
    reply = httpx.get(f"{url}/health")
    assert (reply.status_code, reply.json()) == (
        200, {"ready": True, "release_id": "r1", "detail": "ready"},
    )  # fmt: skip


def test_a_running_server_follows_publish_and_rollback(sealed, store, url):
    read = []
    for change in (lambda: publish(sealed("r1"), store), lambda: publish(sealed("r2"), store),
                   lambda: open_store(store).rollback()):  # fmt: skip
        change()
        read.append(httpx.get(f"{url}/v1/release").json()["release_id"])
    assert read == ["r1", "r2", "r1"]


def test_the_schema_describes_every_answer(store):
    schema = create_app(store).openapi()
    assert set(schema["paths"]) == {
        "/v1/users/{user_id}/recommendations", "/v1/recommendations", "/v1/release", "/health",
    }  # fmt: skip
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            for status in ("200", "503"):
                content = operation["responses"][status]["content"]["application/json"]
                assert content["schema"]["$ref"], path
            if path != "/health":
                assert "X-Release-Id" in operation["responses"]["200"]["headers"]


def test_the_reading_side_runs_on_the_base_install_alone(sealed, store):
    folder = sealed("r1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"""
import sys
from pathlib import Path
for name in {HEAVY}:
    sys.modules[name] = None  # importing it now fails
import serving.client, serving.settings
from serving.api import serve
from serving.publish import publish
publish(Path({str(folder)!r}), Path({str(store)!r}))
serve(Path({str(store)!r}), "127.0.0.1", {port})
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        with RecommendationClient(f"http://127.0.0.1:{port}") as client:
            while process.poll() is None and not _is_ready(client):
                time.sleep(0.05)
            assert [item.item_id for item in client.recommend("bob").items] == ["i2"]
    finally:
        process.terminate()
        process.wait(10)


def _is_ready(client):
    try:
        return client.health().ready
    except ServingError:  # it does not listen yet
        return False


def test_without_its_extra_the_api_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "serving.api")
    with pytest.raises(ServingError, match=r"pip install 'recsys-text\[serve\]'"):
        importlib.import_module("serving.api")


def test_a_port_that_is_taken_is_refused_in_words(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"cannot listen on 127.0.0.1, port {port}"):
            serve(tmp_path, "127.0.0.1", port)
