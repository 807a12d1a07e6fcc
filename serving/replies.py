"""What the read API answers, as bytes: written once for whoever sends them.

A list is written without a pydantic model for each item, which would take longer than reading it;
a test holds these bytes against the models of `serving.client`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel
from pydantic_core import to_json

from serving.attribution import Kind, attribution_id
from serving.client import Problem
from serving.lists import Answer
from serving.manifest import Manifest
from serving.standby import Found

JSON = (b"content-type", b"application/json")
NOSNIFF = (b"x-content-type-options", b"nosniff")
RELEASE_HEADER = "X-Release-Id"
REQUEST_HEADER = "X-Request-Id"


class Reply(NamedTuple):
    """One HTTP answer."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


def list_reply(found: Found, request_id: str, if_none_match: bytes | None) -> Reply:
    """Answer with one user's list; 304 if whoever asks has it already."""
    etag = etag_of(found)
    headers = (*_about(found.release), (b"etag", etag), (b"cache-control", b"private, no-cache"))
    if if_none_match is not None and _matches(if_none_match, etag):
        return Reply(304, headers, b"")
    return Reply(200, (JSON, *headers), _written(found, found.lists[0], request_id, None))


def lists_reply(found: Found, request_id: str) -> Reply:
    """Answer with many users' lists."""
    written = [
        _written(found, answer, request_id, place) for place, answer in enumerate(found.lists)
    ]
    body = b'{"answers":[' + b",".join(written) + b"]}"
    return Reply(200, (JSON, *_about(found.release)), body)


def model_reply(model: BaseModel, release: Manifest | None = None, status: int = 200) -> Reply:
    """Answer with a model of `serving.client`."""
    about = _about(release) if release else ((b"cache-control", b"no-store"),)
    return Reply(status, (JSON, *about), model.model_dump_json().encode())


def problem(status: int, detail: str, *headers: tuple[bytes, bytes]) -> Reply:
    """Refuse, in words."""
    return model_reply(Problem(detail=detail), None, status)._replace(
        headers=(JSON, (b"cache-control", b"no-store"), *headers)
    )


def kind_of(found: Found, answer: Answer) -> Kind:
    """Say what kind of list an answer is."""
    if found.failure:
        return "degraded"
    return "fallback" if answer.is_fallback else "own"


def etag_of(found: Found) -> bytes:
    """Name what the list of a URL depends on: the release, and whether it could be read."""
    return f'W/"{found.release.release_id}{"~degraded" if found.failure else ""}"'.encode()


def _matches(if_none_match: bytes, etag: bytes) -> bool:
    asked = [one.strip().removeprefix(b"W/") for one in if_none_match.split(b",")]
    return b"*" in asked or etag.removeprefix(b"W/") in asked


def _about(release: Manifest) -> tuple[tuple[bytes, bytes], ...]:
    return ((RELEASE_HEADER.lower().encode(), release.release_id.encode()),)


def _written(found: Found, answer: Answer, request_id: str, place: int | None) -> bytes:
    """Write one answer as JSON, in the order of the fields of `Recommendations`."""
    kind = kind_of(found, answer)
    return to_json(
        {
            "user_id": answer.user_id,
            "is_fallback": answer.is_fallback,
            "degraded": kind == "degraded",
            "release_id": found.release.release_id,
            "model": found.release.model.label,
            "as_of": found.release.as_of,
            "stale_s": found.stale_s,
            "attribution_id": attribution_id(found.release.release_id, kind, request_id, place),
            "items": [
                {
                    "rank": rank,
                    "item_id": item_id,
                    "score": score,
                    "probability": probability,
                    "source": source,
                    "reason": reason,
                    "drivers": drivers,
                }
                for rank, item_id, score, probability, source, reason, drivers in answer.items
            ],
        }
    )
