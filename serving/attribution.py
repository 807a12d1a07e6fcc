"""The id in each answer that leads from a click back to the list, the release and the model.

    <release_id>~<kind>~<request_id>        one user's list
    <release_id>~<kind>~<request_id>.<n>    the n-th user of a call for many, from 0

Log it with what was shown and with what was clicked. It needs no look-up: the release names its
model in its manifest, and holds nothing about the user. The same request id is in the API's log.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from serving.errors import ServingError

Kind = Literal["own", "fallback", "degraded"]
PATTERN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)~(own|fallback|degraded)~([A-Za-z0-9_-]{1,64})(?:\.(0|[1-9][0-9]{0,3}))?"
)


class Attribution(NamedTuple):
    """What an attribution id says."""

    release_id: str
    kind: Kind  # degraded: the last known fallback list, as the store could not be read
    request_id: str  # as in X-Request-Id and the log of the API
    place: int | None  # of the user in a call for many, from 0


def attribution_id(release_id: str, kind: Kind, request_id: str, place: int | None = None) -> str:
    """Write the id of one answer."""
    return f"{release_id}~{kind}~{request_id}" + ("" if place is None else f".{place}")


def parse_attribution(text: str) -> Attribution:
    """Understand an attribution id that came back with a click.

    Raises:
        ServingError: it is none.
    """
    found = PATTERN.fullmatch(text)
    if found is None:
        raise ServingError(
            f"{text[:200]!r}: no attribution id; expected <release_id>~own~<request_id>, as it is "
            "in attribution_id of an answer"
        )
    release_id, kind, request_id, place = found.groups()
    kinds: dict[str, Kind] = {"own": "own", "fallback": "fallback", "degraded": "degraded"}
    return Attribution(release_id, kinds[kind], request_id, None if place is None else int(place))
