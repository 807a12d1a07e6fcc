"""The door to Redis: what the address of a store says, connections, a claim, errors in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import sleep
from typing import Any
from urllib.parse import parse_qsl, urlencode

from pydantic import BaseModel, Field, ValidationError

from serving.errors import ServingError, StoreBusyError, StoreUnreachableError
from serving.manifest import words

try:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as NoConnectionError
    from redis.exceptions import LockError, RedisError, WatchError
    from redis.exceptions import TimeoutError as TooLateError
    from redis.lock import Lock
    from redis.retry import Retry
except ImportError as error:
    raise ServingError(
        f"{error}; a store in Redis needs: pip install 'recsys-text[redis]'"
    ) from error

EXTENSIONS = 5  # of a claim, in the time that it lasts without


class RedisPlace(BaseModel, frozen=True, extra="forbid"):
    """A server, and the options that stand behind `?` in the address of a store."""

    url: str  # for the Redis client
    shown: str  # the address without a password
    prefix: str = Field("recsys", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")  # of every key
    pointer_s: float = Field(1.0, ge=0, le=60)  # a reader may be so far behind a switch
    claim_s: float = Field(10.0, ge=0.5, le=600)  # a dead publisher is waited for so long
    kept_days: float = Field(14.0, gt=0, le=3650)  # a superseded release lives so long at most

    def key(self, name: str) -> str:
        """Name a key of the store."""
        return f"{self.prefix}:{name}"

    def release_keys(self, release_id: str, n_shards: int = 0) -> list[str]:
        """Name the keys of a release: its own, then those of its shards."""
        own = self.key(f"release:{release_id}")
        return [own, *(f"{own}:{n}" for n in range(n_shards))]


def read_place(address: str, shown: str) -> RedisPlace:
    """Understand redis://[user:password@]host:port/db?prefix=shop&pointer_s=1.

    Args:
        address: also rediss:// for TLS, and unix:///path/to/socket?db=0.
        shown: the address as it may be printed.

    Raises:
        ServingError: an option is unknown or out of its range.
    """
    url, _, query = address.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if "db" in options:
        url += "?" + urlencode({"db": options.pop("db")})
    try:
        return RedisPlace.model_validate(options | {"url": url, "shown": shown})
    except ValidationError as error:
        raise ServingError(
            f"{shown}: {words(error)}; the options are prefix, pointer_s, claim_s and kept_days"
        ) from error


def connected(place: RedisPlace, timeout_s: float, retries: int) -> Any:
    """Return a `Redis` that connects at its first command; threads may share it.

    It answers with bytes; its types would have it be bytes or text.

    Raises:
        ServingError: the address cannot be understood.
    """
    try:
        return Redis.from_url(
            place.url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), retries),
        )  # fmt: skip
    except ValueError as error:
        raise ServingError(f"{place.shown}: {error}; write redis://host:6379/0") from error


def eviction_policy(place: RedisPlace) -> str:
    """Return what the server does when its memory is full, like "noeviction".

    Raises:
        ServingError: it does not answer, or refuses.
    """
    with in_words(place), connected(place, 2.0, 0) as redis:
        return str(redis.info("memory")["maxmemory_policy"])


@contextmanager
def in_words(place: RedisPlace) -> Iterator[None]:
    """Say what goes wrong with the server in our errors.

    Raises:
        StoreUnreachableError: it does not answer.
        StoreBusyError: someone else switched in the same moment.
        ServingError: it refuses.
    """
    try:
        yield
    except (NoConnectionError, TooLateError) as error:
        raise StoreUnreachableError(
            f"{place.shown} does not answer ({error}); is Redis running there?"
        ) from error
    except WatchError as error:
        raise StoreBusyError(
            f"another process is at work in {place.shown} (switch); try again"
        ) from error
    except RedisError as error:
        raise ServingError(f"{place.shown} refuses: {error}") from error


@contextmanager
def claimed(redis: Any, place: RedisPlace) -> Iterator[Callable[[], None]]:
    """Be the only publisher while the block lasts; who dies in it loses the claim in `claim_s`.

    Yields:
        What raises StoreBusyError if the claim was lost: call it before anything that must not
        happen twice.

    Raises:
        StoreBusyError: another publisher is at work.
    """
    claim = Lock(redis, place.key("publishing"), timeout=place.claim_s, blocking=False,
                 thread_local=False)  # fmt: skip
    with in_words(place):
        _win(claim, redis, place)
    done = Event()
    extending = Thread(target=_extend, args=(claim, done, place.claim_s), daemon=True)
    extending.start()

    def still_ours() -> None:
        if not claim.owned():
            raise StoreBusyError(
                f"{place.shown}: the claim of this publisher ended, as the server did not hear of "
                "it for too long; nothing was switched, publish again"
            )

    try:
        yield still_ours
    finally:
        done.set()
        extending.join()
        with suppress(LockError, RedisError):  # it ends by itself
            claim.release()


def _win(claim: Lock, redis: Any, place: RedisPlace) -> None:
    """Get the claim. One that is not extended any more is a dead publisher's: wait for its end."""
    left = 0
    while not claim.acquire():
        now = redis.pttl(place.key("publishing"))
        if now > left > 0:
            raise StoreBusyError(
                f"another process is at work in {place.shown} (publish); wait until it is done, "
                "try again"
            )
        left = now
        sleep(place.claim_s / EXTENSIONS / 4)


def _extend(claim: Lock, done: Event, claim_s: float) -> None:
    while not done.wait(claim_s / EXTENSIONS):
        try:
            claim.reacquire()
        except LockError:
            return  # lost: the publisher finds out
        except RedisError:
            continue  # unreachable: so it does
