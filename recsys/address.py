"""An address of a place that is no folder here: a URI, which may hold credentials.

Configs are logged, fingerprinted and shown as JSON. An `Address` in them loses there what nobody
may read: the user, the password, and everything behind `?`.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import PlainSerializer

URI = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://")
SECRET = re.compile(r"(?<=://)(?:\S*:\S*@|[^/\s@]*@)")  # a password may hold any sign unescaped


def is_elsewhere(path: str) -> bool:
    """Whether a path names a place that is not in the file system of this machine."""
    return URI.match(path) is not None


def without_secrets(text: str) -> str:
    """Take user and password out of all URIs in a text."""
    return SECRET.sub("", text)


def shown(address: str) -> str:
    """Return an address as it may be printed: without user, password and options; a path as it is.

    >>> shown("s3://key:secret@shop/events?endpoint_override=localhost:9000")
    's3://shop/events'
    """
    is_uri = "://" in address
    return without_secrets(address).partition("?")[0] if is_uri else address


Address = Annotated[str, PlainSerializer(shown, when_used="json")]
