"""The API over a real server: always an answer, of one release, and in words when there is none."""

import importlib
import socket
import subprocess
import sys
import time
from collections import Counter
from itertools import product
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from serving.access import load_keys, new_key
from serving.api import create_app, serve
from serving.client import RecommendationClient
from serving.errors import ServingError
from serving.publish import publish
from serving.settings import ApiConfig, ServingConfig
from serving.stores import open_store

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "pandas", "numpy", "scipy", "lightgbm", "mlflow", "duckdb",
         "recsys", "features", "pipelines")  # fmt: skip


def test_an_answer_says_everything_about_itself(sealed, store, url):
    publish(sealed("r1", lists={"a/b": ["x", 'y"']}), store)
    reply = httpx.get(f"{url}/v1/users/a%2Fb/recommendations?k=2")
    assert (reply.status_code, reply.headers["X-Release-Id"]) == (200, "r1")
    request_id = reply.headers["X-Request-Id"]
    assert reply.json() == {
        "user_id": "a/b", "is_fallback": False, "degraded": False, "release_id": "r1",
        "model": "recsys/3", "as_of": "2026-08-20T00:00:00Z", "stale_s": 0.0,
        "attribution_id": f"r1~own~{request_id}",
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
    alive, ready = httpx.get(f"{url}/health"), httpx.get(f"{url}/ready")
    assert (alive.status_code, ready.status_code, ready.json()["ready"]) == (200, 503, False)
    publish(sealed("r1"), store)
    alive, ready = httpx.get(f"{url}/health"), httpx.get(f"{url}/ready")
    assert alive.json() == ready.json() == {
        "ready": True, "release_id": "r1", "detail": "ready", "degraded": False,
    }  # fmt: skip
    assert ready.status_code == 200


def test_a_running_server_follows_publish_and_rollback(sealed, store, url):
    read = []
    for change in (lambda: publish(sealed("r1"), store), lambda: publish(sealed("r2"), store),
                   lambda: open_store(store).rollback()):  # fmt: skip
        change()
        read.append(httpx.get(f"{url}/v1/release").json()["release_id"])
    assert read == ["r1", "r2", "r1"]


def test_the_schema_describes_every_answer(store):
    schema = create_app(ServingConfig(store=str(store))).openapi()
    refused = {"401", "431", "503"}
    expected = {
        ("/v1/users/{user_id}/recommendations", "get"): {"200", "304", "422"} | refused,
        ("/v1/recommendations", "post"): {"200", "400", "408", "413", "422"} | refused,
        ("/v1/release", "get"): {"200"} | refused,
        ("/metrics", "get"): {"200"} | refused,
        ("/health", "get"): {"200", "431"},
        ("/ready", "get"): {"200", "431", "503"},
    }
    found = {(path, method): operation["responses"]
             for path, methods in schema["paths"].items()
             for method, operation in methods.items()}  # fmt: skip
    assert {route: set(answers) for route, answers in found.items()} == expected
    for (path, _), answers in found.items():
        for status, answer in answers.items():
            content = answer.get("content", {}).get("application/json", {})
            assert "$ref" in content.get("schema", {}) or status == "304" or path == "/metrics"
        if path.startswith("/v1"):
            assert "X-Release-Id" in answers["200"]["headers"]
    locked = {path for path, methods in schema["paths"].items()
              if all("security" in operation for operation in methods.values())}  # fmt: skip
    assert locked == set(schema["paths"]) - {"/health", "/ready"}


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
serve(serving.settings.ServingConfig(store={str(store)!r}, port={port}))
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
        return client.ready().ready
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
            serve(ServingConfig(store=str(tmp_path), port=port))


def test_whatever_may_be_asked_is_answered_as_described(sealed, store, serving_of):
    publish(sealed("r1", lists={"ann": ["i1"], "1": ["i2"]}), store)
    key, entry = new_key("schemathesis")
    api = ApiConfig(store_timeout_s=30, log="none")
    with serving_of(ServingConfig(store=str(store), api=api), load_keys(None, entry)) as url:
        description = schemathesis.openapi.from_url(f"{url}/openapi.json")
        header = {"Authorization": f"Bearer {key}"}
        statuses = Counter()
        operations = [found.ok() for found in description.get_all_operations()]
        for operation, mode in product(operations, GenerationMode):
            if mode.is_negative and not operation.path.endswith("recommendations"):
                continue  # where there is nothing to say there is nothing wrong to say

            @given(case=operation.as_strategy(generation_mode=mode))
            @hypothesis_settings(max_examples=25, derandomize=True, deadline=None, database=None,
                                 suppress_health_check=list(HealthCheck))  # fmt: skip
            def ask(case):
                reply = case.call(base_url=url, headers=header)
                # a parameter that nobody knows is left alone: proxies add their own
                case.validate_response(reply, excluded_checks=[negative_data_rejection])
                statuses[reply.status_code] += 1

            ask()
    assert statuses[200] > 20 and statuses[422] > 5, statuses  # neither side was empty


def test_a_redis_that_is_killed_leaves_the_last_known_list_until_it_is_back(
    sealed, own_redis, serving_of
):
    place = f"unix://{own_redis.socket}?pointer_s=0"
    publish(sealed("r1"), place)
    api = ApiConfig(store_timeout_s=30, store_poll_s=0.02, log="none")
    with serving_of(ServingConfig(store=place, api=api)) as url, httpx.Client() as client:
        path = f"{url}/v1/users/ann/recommendations"

        def until(degraded):
            reply = client.get(path)
            while reply.json()["degraded"] is not degraded:
                assert reply.status_code == 200
                reply = client.get(path)
            return reply.json()

        before = until(degraded=False)
        own_redis.kill()
        gone = client.get(path).json()
        many = client.post(f"{url}/v1/recommendations", json={"user_ids": ["ann", "bob"]}).json()
        for answer in [gone, *many["answers"]]:
            assert (answer["is_fallback"], answer["degraded"]) == (True, True)
            assert [item["item_id"] for item in answer["items"]] == ["i9", "i1"]
            assert answer["attribution_id"].startswith("r1~degraded~")
        assert client.get(f"{url}/ready").json()["degraded"] is True
        own_redis.start()
        back = until(degraded=False)
    assert [item["item_id"] for item in before["items"]] == ["i1", "i2", "i3"]
    assert (back["items"], back["stale_s"]) == (before["items"], 0.0)
