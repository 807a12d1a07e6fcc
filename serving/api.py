"""The read API over HTTP: one key, one round trip, always an answer, and which model made it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, StrictInt, StrictStr

from serving.client import (
    CurrentRelease,
    Health,
    ManyRecommendations,
    Recommendations,
    RecommendedItem,
)
from serving.errors import ServingError
from serving.lists import Answer
from serving.manifest import Manifest
from serving.stores import open_reader

try:  # the only part of the reading side that the base install does not bring
    import uvicorn
    from fastapi import FastAPI, Query, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
except ImportError as error:
    raise ServingError(f"{error}; the read API needs: pip install 'recsys-text[serve]'") from error

MAX_USERS = 1000  # in one call
RELEASE_HEADER = "X-Release-Id"
K = Annotated[int, Field(ge=1, le=1000, description="items; without it the whole list")]


def _is_text(user_id: str) -> str:
    user_id.encode()  # JSON can carry half a character, which no list is kept under
    return user_id


class UsersAsked(BaseModel, frozen=True, extra="forbid"):
    """Whose lists to read."""

    user_ids: list[StrictInt | Annotated[StrictStr, AfterValidator(_is_text)]] = Field(
        max_length=MAX_USERS
    )
    k: K | None = None


class Problem(BaseModel, frozen=True):
    """Why there is no answer."""

    detail: str


ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {"headers": {RELEASE_HEADER: {"schema": {"type": "string"}}}},
    503: {"model": Problem, "description": "No release can be read"},
}


def create_app(store: str | Path) -> FastAPI:
    """Build the API over a store; a release published later is read from the next call on.

    Args:
        store: the place of a store of `serving.stores`; it may be empty or missing still.
    """
    reader = open_reader(store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        reader.close()

    app = FastAPI(title="Recommendations", version="1", lifespan=lifespan)

    @app.exception_handler(ServingError)
    async def unavailable(_: Request, error: ServingError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=503)

    @app.exception_handler(RequestValidationError)
    async def refused(_: Request, error: RequestValidationError) -> JSONResponse:
        # without the input, which may be long or no text at all
        told = [{key: one[key] for key in ("loc", "msg", "type")} for one in error.errors()]
        return JSONResponse({"detail": told}, status_code=422)

    @app.get("/v1/users/{user_id:path}/recommendations", responses=ANSWERED)
    def recommend(
        user_id: str, response: Response, k: Annotated[K | None, Query()] = None
    ) -> Recommendations:
        """The list of one user; an unknown user gets the fallback list."""
        found = reader.read([user_id], k)
        response.headers[RELEASE_HEADER] = found.release.release_id
        return _recommendations(found.release, found.lists[0])

    @app.post("/v1/recommendations", responses=ANSWERED)
    def recommend_many(asked: UsersAsked, response: Response) -> ManyRecommendations:
        """The lists of many users, in the order asked, all of one release."""
        found = reader.read(asked.user_ids, asked.k)
        response.headers[RELEASE_HEADER] = found.release.release_id
        answers = [_recommendations(found.release, answer) for answer in found.lists]
        return ManyRecommendations(answers=answers)

    @app.get("/v1/release", responses=ANSWERED)
    def release(response: Response) -> CurrentRelease:
        """The release that is being read: its model, its data, its numbers."""
        manifest = reader.release()
        response.headers[RELEASE_HEADER] = manifest.release_id
        return _current(manifest)

    @app.get("/health", responses={503: {"model": Health, "description": "Not ready"}})
    def health(response: Response) -> Health:
        """Ready when a release can be read."""
        try:
            release_id = reader.release().release_id
        except ServingError as error:
            response.status_code = 503
            return Health(ready=False, release_id=None, detail=str(error))
        return Health(ready=True, release_id=release_id, detail="ready")

    return app


def serve(store: str | Path, host: str, port: int) -> None:
    """Answer over HTTP until the process is told to stop.

    Raises:
        ServingError: nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ServingError(
            f"cannot listen on {host}, port {port} ({error}); stop what does, or choose another "
            "place with --host and --port"
        ) from error
    listening.close()
    uvicorn.run(create_app(store), host=host, port=port, access_log=False)


def _recommendations(release: Manifest, answer: Answer) -> Recommendations:
    return Recommendations(
        user_id=answer.user_id,
        is_fallback=answer.is_fallback,
        release_id=release.release_id,
        model=release.model.label,
        as_of=release.as_of,
        items=[RecommendedItem(**item._asdict()) for item in answer.items],
    )


def _current(manifest: Manifest) -> CurrentRelease:
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
    )
