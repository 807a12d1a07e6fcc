"""The end of the demo: the real read API in a process of its own, and its answers for people."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from rich.columns import Columns
from rich.markup import escape
from rich.table import Table

from pipelines.demo import NOBODY, households, last_bought, product_names
from pipelines.settings import RunConfig
from serving.client import RecommendationClient, Recommendations
from serving.errors import ServingError
from serving.stores import shown

START_S = 60.0  # how long to wait for the read API


def lists_over_http(folder: Path, config: Path, store: str) -> Iterator[Columns]:
    """Read three households' lists, and that of one nobody knows, as a product would.

    Args:
        folder: of `pipelines.demo.write_demo`.
        config: the run's config.
        store: with a release in it.

    Raises:
        ServingError: the read API does not answer.
    """
    with read_api(config, store) as client:
        for household in (*households(folder), NOBODY):
            yield list_beside_purchases(folder, client.recommend(household, k=10))


def how_to_go_on(settings: RunConfig, config: Path, release: Path) -> list[str]:
    """Say where everything is, and how to serve it for longer."""
    where = settings.serving
    user = households(config.parent)[0]
    return [
        f"run      {settings.run_dir}",
        f"MLflow   mlflow ui --backend-store-uri {settings.tracking_uri}",
        f"release  {release}",
        f"store    {shown(where.store)}",
        f"go on    recsys serve -c {config}",
        f"         curl 'http://{where.host}:{where.port}/v1/users/{user}/recommendations?k=5'",
    ]


@contextmanager
def read_api(config: Path, store: str | Path) -> Iterator[RecommendationClient]:
    """Serve a store on a free port of this machine for as long as the block lasts.

    Args:
        config: the run's config; what the server says goes to serve.log beside it.
        store: what to serve.

    Raises:
        ServingError: the server does not answer.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "recsys.cli", "serve", "--config", str(config),
               "--store", str(store), "--host", "127.0.0.1", "--port", port]  # fmt: skip
    log = config.with_name("serve.log")
    with (
        log.open("w") as said,
        subprocess.Popen(command, stdout=said, stderr=said) as server,
        RecommendationClient(f"http://127.0.0.1:{port}") as client,
    ):
        try:
            _wait(client, server, log)
            yield client
        finally:
            server.terminate()


def list_beside_purchases(folder: Path, answer: Recommendations, n_bought: int = 10) -> Columns:
    """Draw a household's list beside what it bought last before the list was made.

    Args:
        folder: of `pipelines.demo.write_demo`.
        answer: of the read API; its user_id is the text of a household.
        n_bought: how many purchases to show.
    """
    household = int(answer.user_id)
    as_of = datetime.fromisoformat(answer.as_of)
    bought = last_bought(folder, household, as_of, n_bought)
    wanted = {item for _, item in bought} | {int(item.item_id) for item in answer.items}
    names = product_names(folder, wanted)
    who = f"household {household}"
    known = "unknown, so the fallback list" if answer.is_fallback else f"by {answer.model}"
    listed = Table("rank", "product", "source", "reason", "score", title=f"{who}: {known}")
    for item in answer.items:
        name = names.get(int(item.item_id), str(item.item_id))
        listed.add_row(
            str(item.rank), escape(name), item.source, escape(item.reason), f"{item.score:.3f}"
        )
    past = Table("day", "product", title=f"{who} bought last")
    for day, code in bought:
        past.add_row(day, escape(names.get(code, str(code))))
    return Columns([past, listed] if bought else [listed])


def _wait(client: RecommendationClient, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers, however it feels."""
    until = time.monotonic() + START_S
    while True:
        try:
            client.health()
            return
        except ServingError:
            if server.poll() is not None or time.monotonic() > until:
                raise ServingError(f"the read API did not start; {log} says why") from None
            time.sleep(0.1)
