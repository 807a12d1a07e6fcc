"""Listening on a port: uvicorn, with bounds on who connects and how slowly, and a quiet end.

uvicorn bounds neither the size of a head that never ends nor the time that a request may take to
arrive. `Connection` does, and closes what stays beyond either.
"""

from __future__ import annotations

import asyncio
import json
import logging
import logging.config
import math
import signal
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from types import FrameType
from typing import Any, Literal

from serving.errors import ServingError
from serving.replies import problem
from serving.settings import ApiConfig

try:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as error:
    raise ServingError(f"{error}; the read API needs: pip install 'recsys-text[serve]'") from error

LOGGING = {  # what uvicorn and others say, a JSON object a line as well
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "serving.listening.JsonLine"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
SAID = logging.getLogger("recsys.serve")


def bind(host: str, port: int) -> socket.socket:
    """Take a place to listen at.

    Raises:
        ServingError: nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise ServingError(
            f"cannot listen on {host}, port {port} ({error}); stop what does, or choose another "
            "place with --host and --port"
        ) from error
    # asyncio sets it only where the protocol is named; without it an answer waits 40 ms for an ACK
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def listen(
    app: Any, listening: socket.socket, settings: ApiConfig, drain: Callable[[], None]
) -> None:
    """Answer until the process is told to stop: by SIGTERM after `drain_s`, by SIGINT at once.

    Args:
        app: an ASGI application.
        listening: of `bind`.
        settings: bounds and times.
        drain: called when the process is told to stop, while requests are still answered.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # whoever does not read answers is let go of
        wait_ms = int(1000 * settings.request_timeout_s)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, wait_ms)
    logging.config.dictConfig(LOGGING)
    host, port = listening.getsockname()[:2]
    SAID.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    server_of(app, settings, drain).run([listening])


def server_of(app: Any, settings: ApiConfig, drain: Callable[[], None]) -> uvicorn.Server:
    """Make the server that `listen` runs."""
    config = uvicorn.Config(
        app,
        http=type("LimitedConnection", (Connection,), {"limits": settings}),
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=math.ceil(settings.request_timeout_s) + 1,
    )
    return Server(config, settings.drain_s, drain)


class Server(uvicorn.Server):
    """Told to stop, it says so first and goes on for a while: balancers must hear of it."""

    def __init__(self, config: uvicorn.Config, drain_s: float, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain_s, self._drain = drain_s, drain
        self._stop_at = math.inf  # monotonic seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: after `drain_s` for the first SIGTERM, else at once."""
        first = self._stop_at == math.inf
        super().handle_exit(sig, frame)
        self._drain()
        self._stop_at = time.monotonic()
        if first and sig == signal.SIGTERM and self._drain_s:
            self._stop_at += self._drain_s
            self.should_exit = False

    async def on_tick(self, counter: int) -> bool:
        """Stop when it is time."""
        if time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)


class Connection(HttpToolsProtocol):
    """One connection: a head has a size, a request has a time to arrive, and there is a number."""

    limits = ApiConfig()

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._where: Literal["idle", "head", "body"] = "idle"
        self._began = 0  # requests
        self._head_bytes = 0  # of a head that has not ended
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request, unless too many do."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, "too many connections; try again")

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; refuse a head that goes on and on."""
        if self._patience is None:
            self._wait()
        where, began = self._where, self._began
        super().data_received(data)
        if self._where == "head" and self._began - began <= (where == "idle"):  # all of one head
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.max_head_bytes:
                most = self.limits.max_head_bytes
                self._refuse(431, f"expected at most {most} bytes of headers")

    def on_message_begin(self) -> None:
        """Go on with the head."""
        self._where, self._head_bytes = "head", 0
        self._began += 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Go on with the body."""
        self._where = "body"
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is here; the next one has a time of its own."""
        self._where = "idle"
        self._stop_waiting()
        super().on_message_complete()

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self.limits.request_timeout_s, self._too_late)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _too_late(self) -> None:
        if self._where != "body":
            self._refuse(408, "the head of the request did not come in time")
        elif self.cycle.response_complete:
            self.transport.abort()
        else:  # whoever reads the body answers; if that fails too, it ends here
            self._patience = self.loop.call_later(
                self.limits.request_timeout_s, self.transport.abort
            )

    def _refuse(self, status: int, detail: str) -> None:
        """Answer in words and close; if another answer is under way, only close."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
            return
        reply = problem(status, detail, (b"connection", b"close"))
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        headers = (*reply.headers, (b"content-length", b"%d" % len(reply.body)))
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join([*lines, b"", reply.body]))
        self.transport.close()


class JsonLine(logging.Formatter):
    """Writes what is logged as a JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
