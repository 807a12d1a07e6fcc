"""What a product backend imports: the answers of the read API, and a client that asks for them.

The models are the wire format: `serving.api` answers with these same ones. Reading needs nothing
but httpx and pydantic.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from serving.errors import ServingError


class RecommendedItem(BaseModel, frozen=True, json_schema_serialization_defaults_required=True):
    """One place in a list."""

    rank: int  # from 1
    item_id: int | str
    score: float
    probability: float | None = None  # that the user takes it next; None in the fallback list
    source: str
    reason: str
    drivers: str = ""  # what raised its score most, like "text, history"


class Recommendations(BaseModel, frozen=True, json_schema_serialization_defaults_required=True):
    """The list of one user, and where it came from."""

    user_id: int | str  # as it was asked for; from a path it is always text
    is_fallback: bool  # the list for everyone: the user is unknown to this release, or degraded
    degraded: bool = False  # the store cannot be read: the last known list for everyone
    release_id: str
    model: str  # name/version in the registry
    as_of: str  # UTC; the list knows events strictly before this moment
    stale_s: float = 0.0  # another release may have been current for so long
    attribution_id: str = ""  # to log with what is shown and clicked; see serving.attribution
    items: list[RecommendedItem]


class ManyRecommendations(BaseModel, frozen=True):
    """One answer per user, in the order asked, all of one release."""

    answers: list[Recommendations]


class CurrentRelease(BaseModel, frozen=True, json_schema_serialization_defaults_required=True):
    """The release that is being read."""

    release_id: str
    created_at: str
    as_of: str
    model: str  # name/version in the registry
    model_uri: str
    run_id: str
    data_fingerprint: str
    config_fingerprint: str
    code_commit: str
    k: int  # no list is longer
    users: int  # with a list of their own
    items_listed: int
    metrics: dict[str, float]
    forced: str | None = None  # why it was published although gates had failed; null: none had
    stale_s: float = 0.0  # another release may have been current for so long
    degraded: bool = False  # the store cannot be read: this is what was current then


class Health(BaseModel, frozen=True, json_schema_serialization_defaults_required=True):
    """Whether the service can answer, and if it cannot, why."""

    ready: bool
    release_id: str | None
    detail: str
    degraded: bool = False  # it answers with the last known list for everyone


class Problem(BaseModel, frozen=True):
    """Why there is no answer."""

    detail: str


PASSING = (502, 503, 504)  # may be over a moment later
PAUSE_S = 0.02  # before the first retry; twice as long before the next
ReplyT = TypeVar("ReplyT", bound=BaseModel)


class RecommendationClient:
    """Reads recommendations over HTTP; one client may be shared by threads.

    Every question only reads, so one that failed on the way is asked again: `retries` times, and
    never beyond `timeout_s` in all. Every call raises ServingError, in words, if there is no answer
    or it is not a good one.
    """

    def __init__(
        self, base_url: str, timeout_s: float = 2.0, retries: int = 2, api_key: str = ""
    ) -> None:
        self._base_url, self._timeout_s, self._retries = base_url.rstrip("/"), timeout_s, retries
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=base_url, timeout=timeout_s, headers=headers)

    def recommend(self, user_id: str | int, k: int | None = None) -> Recommendations:
        """Ask for the best `k` items of a user (without `k`: the whole list)."""
        # every character is quoted, and dots too: "/", ".." and "" must stay what they are
        quoted = quote(str(user_id), safe="").replace(".", "%2E")
        path = f"/v1/users/{quoted}/recommendations"
        return self._ask(Recommendations, "GET", path, params={} if k is None else {"k": k})

    def recommend_many(
        self, user_ids: Sequence[str | int], k: int | None = None
    ) -> list[Recommendations]:
        """Ask for up to 1000 users at once: answers in the order asked, all of one release."""
        body = {"user_ids": list(user_ids), "k": k}
        return self._ask(ManyRecommendations, "POST", "/v1/recommendations", json=body).answers

    def release(self) -> CurrentRelease:
        """Ask which release is being read."""
        return self._ask(CurrentRelease, "GET", "/v1/release")

    def ready(self) -> Health:
        """Ask whether the service can answer with lists; that it cannot is an answer too."""
        return self._ask(Health, "GET", "/ready", good=(200, 503))

    def health(self) -> Health:
        """Ask whether the service is alive, and how it is."""
        return self._ask(Health, "GET", "/health")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> RecommendationClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self,
        reply: type[ReplyT],
        method: str,
        path: str,
        *,
        params: Mapping[str, int] | None = None,
        json: object = None,
        good: tuple[int, ...] = (200,),
    ) -> ReplyT:
        where = f"{method} {self._base_url}{path}"
        request = self._http.build_request(method, path, params=params, json=json)
        response = self._answered(request, where, good)
        if response.status_code not in good:
            raise ServingError(f"{where}: HTTP {response.status_code}, {_detail(response)}")
        try:
            return reply.model_validate_json(response.content)
        except ValidationError as error:
            raise ServingError(f"{where}: not an answer of the read API: {error}") from error

    def _answered(
        self, request: httpx.Request, where: str, good: tuple[int, ...]
    ) -> httpx.Response:
        """Ask until there is an answer worth having, or no time or no retry is left."""
        until = time.monotonic() + self._timeout_s
        attempt = 0
        while True:
            try:
                response = self._send(request, until)
                if response.status_code in good or response.status_code not in PASSING:
                    return response
                failure = ServingError(f"{where}: HTTP {response.status_code}, {_detail(response)}")
            except httpx.TimeoutException as error:
                raise ServingError(f"{where}: no answer within {self._timeout_s} s") from error
            except httpx.HTTPError as error:
                failure = ServingError(f"{where}: {error}; is the read API running there?")
            pause_s = PAUSE_S * 2**attempt * random.uniform(0.5, 1)
            if attempt == self._retries or time.monotonic() + pause_s >= until:
                raise failure
            time.sleep(pause_s)
            attempt += 1

    def _send(self, request: httpx.Request, until: float) -> httpx.Response:
        """Ask once; the whole answer must be here in time, not only its first bytes."""
        left_s = max(until - time.monotonic(), 0.001)
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), left_s)
        response = self._http.send(request, stream=True)
        try:
            content = bytearray()
            for piece in response.iter_bytes():
                content += piece
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("the answer came too slowly", request=request)
        finally:
            response.close()
        return httpx.Response(response.status_code, content=bytes(content), request=request)


def _detail(response: httpx.Response) -> Any:
    """Find the words of a refused request."""
    try:
        return json.loads(response.content)["detail"]
    except (ValueError, TypeError, KeyError):
        return response.text[:200] or "without a word"
