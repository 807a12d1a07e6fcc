"""What every request passes before it is answered: limits, keys, ids, time, and what is kept of it.

An ASGI middleware in front of FastAPI. The one request that products send thousands of times a
second, the list of one user, is answered right here; whatever is unusual about it (a wrong `k`, for
example) is left to the same route in FastAPI, which answers with the same function.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serving.access import Key, key_name
from serving.errors import ServingError
from serving.monitoring import Call, Monitor
from serving.replies import NOSNIFF, REQUEST_HEADER, Reply, problem
from serving.settings import ApiConfig

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Recommend = Callable[[Call, str, int | None, bytes | None], Awaitable[Reply]]

BEFORE, BEHIND = "/v1/users/", "/recommendations"
LIST_ROUTE = f"{BEFORE}{{user_id:path}}{BEHIND}"
GOOD_K = re.compile(rb"(?:k=([1-9]\d{0,2}|1000))?")
REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
WITHOUT_KEY = ("/health", "/ready", "/openapi.json")
CLOSE = (b"connection", b"close")
SOON = (b"retry-after", b"1")


class Entrance:
    """The middleware; `recommend` answers with the list of one user."""

    def __init__(
        self,
        app: App,
        settings: ApiConfig,
        keys: tuple[Key, ...],
        monitor: Monitor,
        recommend: Recommend,
    ) -> None:
        self._app, self._settings, self._keys = app, settings, keys
        self._monitor, self._recommend = monitor, recommend
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        asked = headers.get(b"x-request-id", b"")
        request_id = asked.decode() if REQUEST_ID.fullmatch(asked) else secrets.token_hex(8)
        call = scope["call"] = Call(request_id, scope["method"])
        status = 500
        self._at_work += 1
        try:
            reply = self._refused(scope, headers, call) or await self._quick(scope, headers, call)
            if reply is None:
                status = await self._through(scope, receive, send, call)
            else:
                status = reply.status
                await _send(send, reply, request_id)
        finally:
            self._at_work -= 1
            self._monitor.done(call, status, time.perf_counter() - began)

    def _refused(self, scope: Scope, headers: dict[bytes, bytes], call: Call) -> Reply | None:
        """Say why a request goes no further, before its body is read."""
        limits = self._settings
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        size += len(scope["raw_path"]) + len(scope["query_string"])
        if size > limits.max_head_bytes or len(scope["headers"]) > limits.max_headers:
            return problem(431, f"expected at most {limits.max_head_bytes} bytes of headers and "
                                f"{limits.max_headers} of them", CLOSE)  # fmt: skip
        if scope["path"] in WITHOUT_KEY:
            return None
        if self._at_work > limits.max_requests:
            return problem(503, "too many requests at the same time; try again", SOON)
        if self._keys:
            scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
            name = key_name(self._keys, key.strip())
            if name is None or scheme.lower() != b"bearer":
                return problem(401, "expected Authorization: Bearer and a known API key",
                               (b"www-authenticate", b"Bearer"))  # fmt: skip
            call.key = name
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limits.max_body_bytes:
            return self._too_large()
        return None

    async def _quick(self, scope: Scope, headers: dict[bytes, bytes], call: Call) -> Reply | None:
        """Answer with the list of one user, if nothing is unusual about the request."""
        path: str = scope["path"]
        usual = path.startswith(BEFORE) and path.endswith(BEHIND) and call.method == "GET"
        k = GOOD_K.fullmatch(scope["query_string"]) if usual else None
        if k is None or len(path) < len(BEFORE) + len(BEHIND):
            return None
        call.route = LIST_ROUTE
        user_id = path[len(BEFORE) : -len(BEHIND)]
        number = int(k[1]) if k[1] else None
        try:
            return await self._recommend(call, user_id, number, headers.get(b"if-none-match"))
        except ServingError as error:
            return problem(503, str(error), SOON)

    async def _through(self, scope: Scope, receive: Receive, send: Send, call: Call) -> int:
        """Let FastAPI answer, with the whole body at hand; return the status."""
        status = 500

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_always(call.request_id)]
            await send(message)

        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                body = await self._body(receive) if call.method != "GET" else b""
        except TimeoutError:
            late = problem(408, "the body did not come in time", CLOSE)
            await _send(send, late, call.request_id)
            return late.status
        if body is None:
            await _send(send, self._too_large(), call.request_id)
            return 413
        await self._app(scope, _replay(body, receive), noted)
        call.route = getattr(scope.get("route"), "path", "other")
        return status

    async def _body(self, receive: Receive) -> bytes | None:
        """Read the body; None if it is too large."""
        body = bytearray()
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._settings.max_body_bytes:
                return None
        return bytes(body)

    def _too_large(self) -> Reply:
        limit = self._settings.max_body_bytes
        return problem(413, f"expected a body of at most {limit} bytes", CLOSE)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body once, then what else comes."""
    waiting = [body]

    async def again() -> MutableMapping[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


def _always(request_id: str) -> tuple[tuple[bytes, bytes], ...]:
    return ((REQUEST_HEADER.lower().encode(), request_id.encode()), NOSNIFF)


async def _send(send: Send, reply: Reply, request_id: str) -> None:
    length = () if reply.status == 304 else ((b"content-length", b"%d" % len(reply.body)),)
    headers = [*reply.headers, *length, *_always(request_id)]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
