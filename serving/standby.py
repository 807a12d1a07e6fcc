"""Reads a store for the event loop: gathered, bounded in time, and with something to fall back on.

Lists that are asked for while a read is under way are read together by the next one, in a thread,
so that the loop waits for no disk and no server. A read that fails or takes longer than its bound
is answered with the last known fallback list, marked. From then on the store is left alone but for
one look at a time, and the first good look ends it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

from serving.errors import NoReleaseError, ServingError, StoreUnreachableError
from serving.lists import Answer
from serving.manifest import Manifest
from serving.stores import Answers, Fallback, Reader

ResultT = TypeVar("ResultT")
GATHERED = 64  # lists in one read at most
THREADS = 4  # for what is gathered, for looking, and two for calls for many
LIST_S = 0.001  # a call for many may take so much longer for each list


class Found(NamedTuple):
    """Lists of one release, and how far they can be trusted."""

    release: Manifest
    lists: list[Answer]
    stale_s: float  # another release may have been current for so long
    failure: str  # empty, or why these are the last known fallback list


class Asked(NamedTuple):
    """One list that somebody waits for."""

    user_id: str
    k: int | None
    found: asyncio.Future[Found]


class StandbyReader:
    """A reader that never keeps its event loop waiting."""

    def __init__(self, reader: Reader, timeout_s: float, poll_s: float) -> None:
        self._reader, self._timeout_s, self._poll_s = reader, timeout_s, poll_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._asked: list[Asked] = []
        self._tasks: set[asyncio.Task[None]] = set()  # a loop alone does not keep its tasks
        self._is_reading = False
        self._look_now = asyncio.Event()
        self._known: Fallback | None = None
        self._known_at = 0.0  # monotonic seconds
        self._failure: Exception | None = None

    def start(self) -> None:
        """Look at the store from now on, inside the event loop that reads."""
        self._run(self._watch())

    def close(self) -> None:
        """Stop looking and let go of the store."""
        for task in self._tasks:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._reader.close()

    @property
    def known(self) -> Fallback | None:
        """The release last seen and its fallback list; None before the first one."""
        return self._known

    @property
    def failure(self) -> str:
        """Why the store is left alone; empty if it can be read."""
        return "" if self._failure is None else str(self._failure)

    @property
    def stale_s(self) -> float:
        """For so long another release than the known one may have been current."""
        since = 0.0 if self._failure is None else time.monotonic() - self._known_at
        return round(self._reader.stale_s + since, 3)

    async def read(self, user_id: str, k: int | None) -> Found:
        """Read one list, together with those that others ask for now.

        Raises:
            ServingError: there was never a release to answer from.
        """
        if self._failure is not None and self._known is not None:
            return self._instead([user_id], k, self._failure)
        asked = Asked(user_id, k, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        if not self._is_reading:
            self._is_reading = True
            self._run(self._read_gathered())
        return await asked.found

    async def read_many(self, user_ids: Sequence[str | int], k: int | None) -> Found:
        """Read many lists, all of one release; raises as `read` does."""
        if self._failure is not None and self._known is not None:
            return self._instead(user_ids, k, self._failure)
        bound_s = self._timeout_s + LIST_S * len(user_ids)
        try:
            answers = await self._bounded(partial(self._reader.read, user_ids, k), bound_s)
        except ServingError as error:
            self._failed(error)
            return self._instead(user_ids, k, error)
        return self._good(answers)

    async def _read_gathered(self) -> None:
        """Read for all who wait, until nobody does."""
        while self._asked:
            asked, self._asked = self._asked[:GATHERED], self._asked[GATHERED:]
            found: Sequence[Answers | Exception]
            try:
                job = partial(_read_together, self._reader, asked)
                found = await self._bounded(job, self._timeout_s)
            except ServingError as error:
                self._failed(error)
                found = [error] * len(asked)
            for one, answers in zip(asked, found, strict=True):
                if not one.found.done():  # whoever asked may be gone
                    self._deliver(one, answers)
        self._is_reading = False

    def _deliver(self, one: Asked, answers: Answers | Exception) -> None:
        if isinstance(answers, Answers):
            one.found.set_result(self._good(answers))
        elif self._known is None:
            one.found.set_exception(answers)
        else:
            one.found.set_result(self._instead([one.user_id], one.k, answers))

    def _good(self, answers: Answers) -> Found:
        known = self._known
        if known is None or known.release.release_id != answers.release.release_id:
            self._look_now.set()  # its fallback list is not known yet
        return Found(*answers, self._reader.stale_s, "")

    def _instead(self, user_ids: Sequence[str | int], k: int | None, why: Exception) -> Found:
        """Answer with the last known fallback list."""
        if self._known is None:
            raise why
        lists = [Answer(user_id, True, self._known.items[:k]) for user_id in user_ids]
        return Found(self._known.release, lists, self.stale_s, str(why))

    def _failed(self, error: Exception) -> None:
        self._failure = error
        self._look_now.set()

    async def _watch(self) -> None:
        """Look now and then, at once when something failed; one look at a time, however long."""
        loop = asyncio.get_running_loop()
        while True:
            self._look_now.clear()
            try:
                known = await loop.run_in_executor(self._threads, _in_words, self._reader.fallback)
            except ServingError as error:
                self._failure = error
            else:
                self._known, self._known_at, self._failure = known, time.monotonic(), None
            timer = loop.call_later(self._poll_s, self._look_now.set)
            await self._look_now.wait()
            timer.cancel()

    async def _bounded(self, job: Callable[[], ResultT], bound_s: float) -> ResultT:
        """Run a job in a thread; do not wait for it longer than its bound."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, _in_words, job)
        await asyncio.wait([running], timeout=bound_s)
        if not running.done():
            running.add_done_callback(_forget)
            raise StoreUnreachableError(f"the store did not answer within {bound_s:g} s")
        return running.result()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _read_together(reader: Reader, asked: Sequence[Asked]) -> list[Answers | ServingError]:
    """Read lists in one call; if one of them is damaged, each in a call of its own."""
    longest = None if any(one.k is None for one in asked) else max(one.k or 0 for one in asked)
    try:
        release, lists = reader.read([one.user_id for one in asked], longest)
    except (NoReleaseError, StoreUnreachableError):
        raise
    except ServingError as error:
        alone = len(asked) == 1
        return [error] if alone else [_read_together(reader, [one])[0] for one in asked]
    return [
        Answers(release, [answer._replace(items=answer.items[: one.k])])
        for one, answer in zip(asked, lists, strict=True)
    ]


def _in_words(job: Callable[[], ResultT]) -> ResultT:
    """Run a job of the store's; raise whatever happens in it as a ServingError."""
    try:
        return job()
    except ServingError:
        raise
    except Exception as error:  # a fault in a store must end neither who waits nor who watches
        logging.getLogger(__name__).exception("the store failed in a way of its own")
        raise ServingError(f"the store failed: {type(error).__name__}: {error}") from error


def _forget(running: asyncio.Future[Any]) -> None:
    """Take note of what became of a job that nobody waits for any more."""
    if not running.cancelled():
        running.exception()
