"""Metrics count what was answered, and the log says it without saying who asked."""

import hashlib
import hmac
import json
from datetime import UTC, datetime

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.access import load_keys, new_key
from serving.api import create_app
from serving.errors import ServingError
from serving.publish import publish
from serving.settings import ApiConfig, ServingConfig

LOG_KEY = "a secret of the log"
HASHED = hmac.new(LOG_KEY.encode(), b"ann", hashlib.sha256).hexdigest()[:16]
LIST = "/v1/users/{user_id:path}/recommendations"


def samples(url, **header):
    """Return (name, labels) -> value of all metrics."""
    page = httpx.get(f"{url}/metrics", headers=header)
    assert page.headers["content-type"].startswith("text/plain; version=")
    return {(sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page.text)
            for sample in family.samples}  # fmt: skip


def value(found, name, **labels):
    return found[name, frozenset(labels.items())]


def test_metrics_count_requests_lists_and_time(sealed, store, url):
    publish(sealed("r1"), store)
    for user in ("ann", "bob", "nobody"):
        httpx.get(f"{url}/v1/users/{user}/recommendations")
    httpx.get(f"{url}/v1/users/ann/recommendations?k=0")
    httpx.post(f"{url}/v1/recommendations", json={"user_ids": ["ann", "x", "y"]})
    for path in ("a", "b", "c/d"):
        httpx.get(f"{url}/{path}")
    found = samples(url)
    asked = {"method": "GET", "route": LIST}
    assert value(found, "recsys_requests_total", **asked, status="200") == 3
    assert value(found, "recsys_requests_total", **asked, status="422") == 1
    assert value(found, "recsys_requests_total", method="POST", route="/v1/recommendations",
                 status="200") == 1  # fmt: skip
    assert value(found, "recsys_requests_total", method="GET", route="other", status="404") == 3
    kinds = ("own", "fallback", "degraded")
    lists = {kind: value(found, "recsys_lists_total", kind=kind) for kind in kinds}
    assert lists == {"own": 2 + 1, "fallback": 1 + 2, "degraded": 0}
    assert value(found, "recsys_request_seconds_count", route=LIST) == 4
    assert value(found, "recsys_request_seconds_bucket", route=LIST, le="+Inf") == 4


def test_metrics_tell_how_old_the_release_is_and_whether_the_store_can_be_read(
    sealed, store, serving_of
):
    api = ApiConfig(store_timeout_s=30, store_poll_s=0.02, log="none")
    with serving_of(ServingConfig(store=str(store), api=api)) as url:
        empty = samples(url)
        publish(sealed("r1"), store)
        httpx.get(f"{url}/v1/release")
        found = samples(url)
        while not value(found, "recsys_store_up"):
            found = samples(url)
        store.rename(store.with_name("away"))
        gone = samples(url)
        while value(gone, "recsys_store_up"):
            gone = samples(url)
        assert httpx.get(f"{url}/ready").json()["degraded"] is True
        answer = httpx.get(f"{url}/v1/users/ann/recommendations").json()
        assert (answer["is_fallback"], answer["degraded"], answer["stale_s"] > 0) == (True,) * 3
        assert value(samples(url), "recsys_lists_total", kind="degraded") == 1
    assert (value(empty, "recsys_store_up"), value(empty, "recsys_release_as_of_seconds")) == (0, 0)
    as_of, created = datetime(2026, 8, 20, tzinfo=UTC), datetime(2026, 8, 20, 3, tzinfo=UTC)
    for page in (found, gone):
        assert value(page, "recsys_release_as_of_seconds") == as_of.timestamp()
        assert value(page, "recsys_release_created_seconds") == created.timestamp()
        assert value(page, "recsys_release_info", release_id="r1", model="recsys/3") == 1
    assert value(gone, "recsys_stale_seconds") > value(found, "recsys_stale_seconds") == 0


@pytest.mark.parametrize(
    ("log_users", "users"),
    [("no", None), ("plain", ["ann"]), ("hashed", [HASHED])],
)
def test_a_request_is_a_line_that_names_the_user_only_if_asked(
    sealed, store, serving_of, capfd, log_users, users
):
    publish(sealed("r1"), store)
    key, entry = new_key("web")
    api = ApiConfig(store_timeout_s=30, log_users=log_users)
    log_key = LOG_KEY if log_users == "hashed" else ""
    with serving_of(ServingConfig(store=str(store), api=api), load_keys(None, entry),
                    log_key) as url:  # fmt: skip
        header = {"Authorization": f"Bearer {key}", "X-Request-Id": "page-7"}
        httpx.get(f"{url}/v1/users/ann/recommendations?k=1", headers=header)
        httpx.get(f"{url}/v1/users/ann/recommendations?k=1")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    good, refused = (line for line in lines if line["message"] == "request")
    told = {name: good[name] for name in ("level", "request_id", "method", "route", "status", "key",
                                          "release_id", "lists", "attribution_id")}  # fmt: skip
    assert told == {
        "level": "info", "request_id": "page-7", "method": "GET", "route": LIST, "status": 200,
        "key": "web", "release_id": "r1", "lists": {"own": 1}, "attribution_id": "r1~own~page-7",
    }  # fmt: skip
    assert good["ms"] > 0 and datetime.fromisoformat(good["time"]).tzinfo == UTC
    assert (refused["status"], "key" in refused, "users" in refused) == (401, False, False)
    assert good.get("users") == users
    assert key not in json.dumps(lines) and (users == ["ann"] or "ann" not in json.dumps(lines))


@pytest.mark.parametrize(
    ("log", "statuses"), [("all", [200, 422]), ("failed", [422]), ("none", [])]
)
def test_the_config_says_which_requests_are_written_down(
    sealed, store, serving_of, capfd, log, statuses
):
    publish(sealed("r1"), store)
    api = ApiConfig(store_timeout_s=30, log=log)
    with serving_of(ServingConfig(store=str(store), api=api)) as url:
        for k in (1, 0):
            httpx.get(f"{url}/v1/users/ann/recommendations?k={k}")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["status"] for line in lines if line["message"] == "request"] == statuses


def test_ids_are_not_hashed_without_a_secret(store):
    settings = ServingConfig(store=str(store), api=ApiConfig(log_users="hashed"))
    for log_key in ("", "too short"):
        with pytest.raises(ServingError, match="needs RECSYS_LOG_KEY in the environment"):
            create_app(settings, log_key=log_key)
