"""Publishing: the one way a release reaches the readers, through the gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from serving.comparison import compare
from serving.errors import GateError, ServingError, StoreUnreachableError
from serving.gates import NEVER_FORCED, Verdict, failed, judge
from serving.inspection import inspect
from serving.manifest import Forced, Manifest
from serving.publications import Publication, record, who
from serving.release import open_release
from serving.settings import GateConfig
from serving.stores import open_reader, open_store, shown


@dataclass(frozen=True)
class Published:
    """What `publish` did."""

    release_id: str
    users: int
    switched: bool  # False: it was the current release already, nothing changed
    deleted: tuple[str, ...]  # releases too old to be kept in the store
    forced: Forced | None = None  # although these gates had failed
    recorded: bool = True  # False: the record beside the release could not be written


def publish(
    release_folder: Path,
    store: str | Path,
    keep: int = 7,
    gates: GateConfig | None = None,
    reason: str | None = None,
    show: Callable[[Sequence[Verdict]], None] = lambda verdicts: None,
) -> Published:
    """Judge a sealed release, load it beside the current one, and switch to it.

    A failed gate, a crash or an error on the way leaves the readers with the release they had;
    doing it again goes on where it stopped. What is current already is not judged again.

    Args:
        release_folder: a sealed release.
        store: a folder, made if it is not there, or the address of a Redis server.
        keep: how many earlier releases stay in the store to roll back to.
        gates: what the release must be like; None = the defaults.
        reason: why to publish although gates fail; it goes into the store's copy of the manifest
            and, with every publish, into `publications.jsonl` beside the release. None = do not.
        show: called once with all verdicts, before anything is loaded.

    Raises:
        GateError: a gate failed, and there is no reason or it is one that no reason excuses.
        ServingError: the release is unfinished or damaged, or someone else is publishing.
    """
    now = datetime.now(UTC)
    with closing(open_store(store)) as opened, opened.publishing():
        manifest, forced, verdicts = open_release(release_folder), None, tuple[Verdict, ...]()
        if _current(store) == manifest.release_id:
            manifest = opened.load_release(release_folder)  # refuses another one of that name
        else:
            manifest, verdicts = judge_release(release_folder, store, gates or GateConfig(), now)
            show(verdicts)
            forced = _excused(verdicts, reason, manifest.release_id, now)
            opened.load_release(
                release_folder, verified=manifest.model_copy(update={"forced": forced})
            )
        switched = opened.switch(manifest.release_id)
        recorded = not switched or record(release_folder, Publication(
            release_id=manifest.release_id, store=shown(store), at=now.isoformat(), by=who(),
            forced=forced, verdicts=tuple(one.line for one in verdicts),
        ))  # fmt: skip
        deleted = opened.prune(keep)
    return Published(manifest.release_id, manifest.counts.users, switched, tuple(deleted), forced,
                     recorded)  # fmt: skip


def judge_release(
    release_folder: Path, store: str | Path, gates: GateConfig, now: datetime
) -> tuple[Manifest, tuple[Verdict, ...]]:
    """Say of each gate whether a release passes; nothing is changed.

    Raises:
        UnfinishedReleaseError: the folder has no manifest.
        DamagedReleaseError: its manifest cannot be read.
        StoreUnreachableError: the store is a server that does not answer.
    """
    found = inspect(release_folder)
    if found.statistics is None:
        return found.manifest, judge(found, gates, "its lists cannot be read", now)
    with open_reader(store) as reader:
        compared = compare(release_folder, found.statistics.lists, reader, gates.overlap_users)
    return found.manifest, judge(found, gates, compared, now)


def refuse_failed(verdicts: Sequence[Verdict], release_id: str) -> None:
    """End in an error if a gate failed.

    Raises:
        GateError: which gates failed, and what to do.
    """
    if failed(verdicts):
        raise _refusal(verdicts, release_id)


def _refusal(verdicts: Sequence[Verdict], release_id: str) -> GateError:
    wrong = failed(verdicts)
    hopeless = [one for one in wrong if one.gate in NEVER_FORCED]
    what = (f"{hopeless[0].found}; no reason excuses that" if hopeless
            else "put it right, or publish with --force --reason 'why'")  # fmt: skip
    return GateError(
        f"release {release_id} is not published, readers keep what they have: {len(wrong)} of "
        f"{len(verdicts)} gates failed ({', '.join(one.gate for one in wrong)}); {what}"
    )


def _excused(
    verdicts: Sequence[Verdict], reason: str | None, release_id: str, now: datetime
) -> Forced | None:
    """Return what to write down of a forced publish; None if every gate passed."""
    wrong = failed(verdicts)
    if not wrong:
        return None
    if reason is None or any(one.gate in NEVER_FORCED for one in wrong):
        raise _refusal(verdicts, release_id)
    return Forced(
        reason=reason, by=who(), at=now.isoformat(), failed=tuple(one.line for one in wrong)
    )


def _current(store: str | Path) -> str | None:
    """Return the id of the current release; None if there is none that can be read."""
    try:
        with open_reader(store) as reader:
            return reader.release().release_id
    except StoreUnreachableError:
        raise
    except ServingError:
        return None
