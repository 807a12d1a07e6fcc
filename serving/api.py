"""The read API over HTTP: one key, one round trip, always an answer, and which model made it.

FastAPI says what may be asked and what is answered; `serving.entrance` stands in front of it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, StrictInt, StrictStr

from serving.access import KEYS_VARIABLE, Key, load_keys, refuse_open_door
from serving.client import CurrentRelease, Health, ManyRecommendations, Problem, Recommendations
from serving.entrance import LIST_ROUTE, SOON, Entrance, Recommend
from serving.errors import ServingError
from serving.listening import bind, listen
from serving.monitoring import LOG_KEY_VARIABLE, Call, Monitor
from serving.replies import (
    RELEASE_HEADER,
    REQUEST_HEADER,
    Reply,
    list_reply,
    lists_reply,
    model_reply,
    problem,
)
from serving.settings import ServingConfig
from serving.standby import Found, StandbyReader
from serving.stores import open_reader

try:  # the only part of the reading side that the base install does not bring
    from fastapi import Depends, FastAPI, Header, Query, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from fastapi.security import HTTPBearer
except ImportError as error:
    raise ServingError(f"{error}; the read API needs: pip install 'recsys-text[serve]'") from error

MAX_USERS = 1000  # in one call
K = Annotated[int, Field(ge=1, le=1000, description="items; without it the whole list")]
ABOUT = """\
Personalized lists, read by user. Every answer is of one release, says which model made it, and has
an attribution id to log with what is shown and clicked. An unknown user gets the list for everyone,
marked `is_fallback`; so does everyone while the store cannot be read, marked `degraded`.
"""


def _is_text(user_id: str) -> str:
    user_id.encode()  # JSON can carry half a character, which no list is kept under
    return user_id


class UsersAsked(BaseModel, frozen=True, extra="forbid"):
    """Whose lists to read."""

    user_ids: list[StrictInt | Annotated[StrictStr, AfterValidator(_is_text)]] = Field(
        max_length=MAX_USERS
    )
    k: K | None = None


class Fault(BaseModel, frozen=True):
    """One thing that is wrong with a question."""

    loc: list[str | int]  # where
    msg: str
    type: str


class Faults(BaseModel, frozen=True):
    """What is wrong with a question."""

    detail: list[Fault]


def _header(meaning: str) -> dict[str, Any]:
    return {"description": meaning, "schema": {"type": "string"}}


def _refusal(model: type[BaseModel], meaning: str, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): _header(said) for name, said in headers.items()}
    return {"model": model, "description": meaning, "headers": named}


ABOUT_RELEASE = {
    RELEASE_HEADER: _header("the release that was read"),
    REQUEST_HEADER: _header("to find the request in the log; yours, if you sent one"),
}
ETAG = {"ETag": _header("of the release; send it as If-None-Match")}
Responses = dict[int | str, dict[str, Any]]
REFUSED_HEAD: Responses = {431: _refusal(Problem, "Too many or too long headers")}
REFUSED: Responses = {
    401: _refusal(Problem, "No known API key", WWW_Authenticate="Bearer"),
    503: _refusal(Problem, "No release yet, or too many requests", Retry_After="seconds"),
}
WRONG: Responses = {422: _refusal(Faults, "A question of another shape")}
BODY: Responses = {
    400: _refusal(Problem, "The body cannot be read"),
    408: _refusal(Problem, "The body came too slowly"),
    413: _refusal(Problem, "The body is too large"),
}
METRICS = REFUSED | REFUSED_HEAD | {200: {"content": {"text/plain": {}}}}
NOT_READY: Responses = {503: {"model": Health, "description": "Not ready"}}
RELEASE: Responses = {200: {"headers": ABOUT_RELEASE}} | REFUSED | REFUSED_HEAD
MANY_LISTS = RELEASE | BODY | WRONG
ONE_LIST = (
    RELEASE
    | WRONG
    | {
        200: {"headers": ABOUT_RELEASE | ETAG},
        304: {"description": "You have it already", "headers": ABOUT_RELEASE | ETAG},
    }
)
LOCKED = [Depends(HTTPBearer(auto_error=False, description="an API key, where there are any"))]


def serve(settings: ServingConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Answer over HTTP until the process is told to stop.

    Raises:
        ServingError: nothing can listen there, or everybody could ask.
    """
    keys = load_keys(settings.api.keys, environment.get(KEYS_VARIABLE, ""))
    refuse_open_door(settings.host, keys, settings.api.open)
    app = create_app(settings, keys, environment.get(LOG_KEY_VARIABLE, ""))
    with bind(settings.host, settings.port) as listening:
        listen(app, listening, settings.api, lambda: setattr(app.state, "stopping", True))


def create_app(settings: ServingConfig, keys: tuple[Key, ...] = (), log_key: str = "") -> FastAPI:
    """Build the API over a store; a release published later is read from the next call on.

    Args:
        settings: which store, which may be empty or missing still, and all limits.
        keys: who is let in; everybody if there are none.
        log_key: what user ids in the log are hashed with, if they are.

    Raises:
        ServingError: the address of the store cannot be understood.
    """
    standby = StandbyReader(
        open_reader(settings.store), settings.api.store_timeout_s, settings.api.store_poll_s
    )
    monitor = Monitor(settings.api, standby, sys.stderr.write, log_key)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        standby.start()
        yield
        standby.close()

    async def recommend(
        call: Call, user_id: str, k: int | None, if_none_match: bytes | None
    ) -> Reply:
        call.found = await standby.read(user_id, k)
        return list_reply(call.found, call.request_id, if_none_match)

    app = FastAPI(title="Recommendations", version="1", description=ABOUT, lifespan=lifespan,
                  docs_url=None, redoc_url=None)  # fmt: skip
    app.state.stopping = False
    app.add_middleware(Entrance, settings=settings.api, keys=keys, monitor=monitor,
                       recommend=recommend)  # fmt: skip
    _refuse_in_words(app)
    _add_lists(app, standby, recommend)
    _add_state(app, standby, monitor)
    return app


def _add_lists(app: FastAPI, standby: StandbyReader, recommend: Recommend) -> None:
    """Add the routes that lists are read by."""

    @app.get(LIST_ROUTE, dependencies=LOCKED, responses=ONE_LIST, response_model=Recommendations)
    async def get_recommendations(
        request: Request,
        user_id: str,
        k: Annotated[K | None, Query()] = None,
        if_none_match: Annotated[str | None, Header(description="an ETag of before")] = None,
    ) -> Response:
        """The list of one user; an unknown user gets the fallback list."""
        etag = None if if_none_match is None else if_none_match.encode()
        return _response(await recommend(request.scope["call"], user_id, k, etag))

    @app.post("/v1/recommendations", dependencies=LOCKED, responses=MANY_LISTS,
              response_model=ManyRecommendations)  # fmt: skip
    async def post_recommendations(asked: UsersAsked, request: Request) -> Response:
        """The lists of many users, in the order asked, all of one release."""
        call: Call = request.scope["call"]
        call.found = await standby.read_many(asked.user_ids, asked.k)
        return _response(await asyncio.to_thread(lists_reply, call.found, call.request_id))


def _add_state(app: FastAPI, standby: StandbyReader, monitor: Monitor) -> None:
    """Add the routes that tell how the service is."""

    @app.get("/v1/release", dependencies=LOCKED, responses=RELEASE, response_model=CurrentRelease)
    async def get_release() -> Response:
        """The release that is being read: its model, its data, its numbers."""
        found = await standby.read_many([], None)
        return _response(model_reply(_current(found), found.release))

    @app.get("/health", response_model=Health, responses=REFUSED_HEAD)
    async def get_health() -> Response:
        """200 while the process answers at all: for a liveness probe."""
        return _response(model_reply(await _health(app, standby)))

    @app.get("/ready", response_model=Health, responses=REFUSED_HEAD | NOT_READY)
    async def get_ready() -> Response:
        """200 if a release can be answered from, and the process was not told to stop."""
        health = await _health(app, standby)
        return _response(model_reply(health, status=200 if health.ready else 503))

    @app.get("/metrics", dependencies=LOCKED, response_class=Response, responses=METRICS)
    async def get_metrics() -> Response:
        """Prometheus metrics."""
        return Response(monitor.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _refuse_in_words(app: FastAPI) -> None:
    """Answer what cannot be answered with why."""

    @app.exception_handler(ServingError)
    async def unavailable(_: Request, error: ServingError) -> Response:
        return _response(problem(503, str(error), SOON))

    @app.exception_handler(RequestValidationError)
    async def refused(_: Request, error: RequestValidationError) -> Response:
        # without the input, which may be long or no text at all
        told = [{key: one[key] for key in ("loc", "msg", "type")} for one in error.errors()]
        return JSONResponse({"detail": told}, status_code=422)


def _response(reply: Reply) -> Response:
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return Response(reply.body, reply.status, headers)


async def _health(app: FastAPI, standby: StandbyReader) -> Health:
    if app.state.stopping:
        return Health(ready=False, release_id=None, detail="told to stop")
    try:
        found = await standby.read_many([], None)
    except ServingError as error:
        return Health(ready=False, release_id=None, detail=str(error))
    return Health(ready=True, release_id=found.release.release_id,
                  detail=found.failure or "ready", degraded=bool(found.failure))  # fmt: skip


def _current(found: Found) -> CurrentRelease:
    manifest = found.release
    same = manifest.model_dump(
        include={"release_id", "created_at", "as_of", "data_fingerprint", "config_fingerprint",
                 "code_commit", "k", "metrics"}
    )  # fmt: skip
    return CurrentRelease(
        **same,
        model=manifest.model.label,
        model_uri=manifest.model.uri,
        run_id=manifest.model.run_id,
        users=manifest.counts.users,
        items_listed=manifest.counts.items_listed,
        forced=manifest.forced.reason if manifest.forced else None,
        stale_s=found.stale_s,
        degraded=bool(found.failure),
    )
