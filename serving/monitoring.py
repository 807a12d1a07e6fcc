"""What the read API tells whoever watches it: Prometheus metrics, and a line of JSON for a request.

No line has a user id in it unless the config asks for that. The number of series is bounded: routes
are named by their pattern, never by what was asked.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import Counter as Tally
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from serving.attribution import Kind, attribution_id
from serving.errors import ServingError
from serving.replies import kind_of
from serving.settings import ApiConfig
from serving.standby import Found, StandbyReader

try:
    from prometheus_client import (
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        ProcessCollector,
        generate_latest,
    )
except ImportError as error:
    raise ServingError(f"{error}; the read API needs: pip install 'recsys-text[serve]'") from error

LOG_KEY_VARIABLE = "RECSYS_LOG_KEY"
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
REQUESTS = "Requests answered."
SECONDS = "From the head of a request to the end of its answer."
LISTS = (
    "Lists answered: a user's own, the fallback list, or degraded: the last known fallback list."
)
UP = "1 if the store can be read."
STALE = "For so long another release than the one read may have been current."
AS_OF = "Up to when the lists know events, in seconds since 1970; 0 without a release."
CREATED = "When the release was made, in seconds since 1970; 0 without a release."
INFO = "1 for the release that is read."
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")


@dataclass(slots=True)
class Call:
    """One request, and what becomes of it."""

    request_id: str
    method: str
    route: str = "other"
    key: str = ""  # the name of the API key
    found: Found | None = None


class Monitor:
    """The metrics and the log of one API."""

    def __init__(
        self,
        settings: ApiConfig,
        standby: StandbyReader,
        write: Callable[[str], object],
        log_key: str = "",
    ) -> None:
        """Make the metrics, each at 0.

        Args:
            settings: what to write down.
            standby: what the state of the store is taken from.
            write: takes a line of the log.
            log_key: what user ids are hashed with; at least 16 characters where they are.

        Raises:
            ServingError: user ids are to be hashed without a key.
        """
        if settings.log_users == "hashed" and len(log_key) < 16:
            raise ServingError(
                f'serving.api.log_users = "hashed" needs {LOG_KEY_VARIABLE} in the environment: a '
                "secret of 16 characters or more, or the hash of an id could be undone"
            )
        self._settings, self._standby = settings, standby
        self._write, self._log_key = write, log_key.encode()
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        asked = ["route", "method", "status"]
        self._requests = Counter("recsys_requests", REQUESTS, asked, registry=registry)
        self._seconds = Histogram(
            "recsys_request_seconds", SECONDS, ["route"], buckets=BUCKETS_S, registry=registry
        )
        self._lists = Counter("recsys_lists", LISTS, ["kind"], registry=registry)
        self._up = Gauge("recsys_store_up", UP, registry=registry)
        self._stale = Gauge("recsys_stale_seconds", STALE, registry=registry)
        self._as_of = Gauge("recsys_release_as_of_seconds", AS_OF, registry=registry)
        self._created = Gauge("recsys_release_created_seconds", CREATED, registry=registry)
        about = ["release_id", "model"]
        self._info = Gauge("recsys_release_info", INFO, about, registry=registry)
        for kind in ("own", "fallback", "degraded"):
            self._lists.labels(kind)

    def done(self, call: Call, status: int, seconds: float) -> None:
        """Write down a request that was answered."""
        method = call.method if call.method in METHODS else "other"
        self._requests.labels(call.route, method, status).inc()
        self._seconds.labels(call.route).observe(seconds)
        kinds = _kinds(call.found)
        for kind, count in kinds.items():
            self._lists.labels(kind).inc(count)
        wanted = self._settings.log
        if wanted == "all" or (wanted == "failed" and status >= 400):
            self._write(self._line(call, status, seconds, kinds))

    def page(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        known, failure = self._standby.known, self._standby.failure
        self._up.set(known is not None and not failure)
        self._stale.set(self._standby.stale_s)
        self._info.clear()
        if known is not None:
            release = known.release
            self._as_of.set(datetime.fromisoformat(release.as_of).timestamp())
            self._created.set(datetime.fromisoformat(release.created_at).timestamp())
            self._info.labels(release.release_id, release.model.label).set(1)
        return generate_latest(self._registry)

    def _line(self, call: Call, status: int, seconds: float, kinds: Tally[Kind]) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds"),
            "level": "error" if status >= 500 else "info",
            "message": "request",
            "request_id": call.request_id,
            "method": call.method,
            "route": call.route,
            "status": status,
            "ms": round(seconds * 1000, 2),
        }
        if call.key:
            line["key"] = call.key
        if call.found is not None:
            found, kind = call.found, next(iter(kinds), None)
            line |= {"release_id": found.release.release_id, "lists": dict(kinds)}
            if kind is not None and len(found.lists) == 1:
                line["attribution_id"] = attribution_id(
                    found.release.release_id, kind, call.request_id
                )
            if self._settings.log_users != "no":
                line["users"] = [self._user(answer.user_id) for answer in found.lists]
            if found.failure:
                line["failure"] = found.failure
        return json.dumps(line, ensure_ascii=False) + "\n"

    def _user(self, user_id: str | int) -> str | int:
        if self._settings.log_users == "plain":
            return user_id
        return hmac.new(self._log_key, str(user_id).encode(), hashlib.sha256).hexdigest()[:16]


def _kinds(found: Found | None) -> Tally[Kind]:
    """Count the lists of an answer by kind."""
    return Tally() if found is None else Tally(kind_of(found, one) for one in found.lists)
