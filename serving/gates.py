"""The gates before a publish: what a release must be like before readers get it.

Each gate gives a verdict in words: what was found, what the limit is and, where it failed, what to
do. A release is judged by its files, by its manifest, and by what readers have now: the lists of a
sample of its users are compared with those that the store answers with.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from serving.comparison import TOP, Comparison
from serving.inspection import Inspection
from serving.manifest import Manifest, Reach
from serving.settings import GateConfig
from serving.statistics import Statistics

ROOM = 10  # times as many items as in a list, and lists have room to differ
NEVER_FORCED = ("files", "duplicates")  # what fails these is not a release


class Verdict(NamedTuple):
    """What a gate says."""

    gate: str
    state: Literal["pass", "skip", "FAIL"]
    found: str
    limit: str  # empty where it was skipped
    advice: str  # what to do; empty where there is nothing to do

    @property
    def line(self) -> str:
        """The verdict in one line."""
        said = f"{self.state}  {self.gate}: {self.found}"
        return said + "".join(f"; {more}" for more in (self.limit, self.advice) if more)


def judge(
    found: Inspection, config: GateConfig, compared: Comparison | str, now: datetime
) -> tuple[Verdict, ...]:
    """Say of each gate whether a release passes.

    Args:
        found: in the folder of the release.
        config: limits.
        compared: with what readers have now; in words why it is not.
        now: in UTC; the data is as old as its last event.
    """
    manifest = found.manifest
    lists = found.statistics or manifest.statistics  # those of the files, if they can be read
    sealed = manifest.statistics  # what only the batch job could know of the catalogue
    verdicts = [_files(found)]
    if lists is not None:
        verdicts += [_duplicates(lists), _short(lists, manifest, config)]
        verdicts += [_one_item(lists, manifest, config)]
    verdicts += [_active(manifest.reach, config), _offer(sealed, manifest, config)]
    verdicts += [_one_category(sealed, config)]
    if isinstance(compared, str):
        verdicts += [_skipped(gate, compared) for gate in ("overlap", "users lost", "items lost")]
    else:
        verdicts += [_overlap(compared, config), _users_lost(manifest, compared, config)]
        verdicts += [_items_lost(manifest, compared, config)]
    return (*verdicts, _age(manifest.reach, config, now))


def failed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts that stop a publish."""
    return [one for one in verdicts if one.state == "FAIL"]


def in_brief(verdicts: Sequence[Verdict]) -> list[str]:
    """Say how many gates passed, which did not judge, and all that failed."""
    passed = sum(one.state == "pass" for one in verdicts)
    skipped = ", ".join(one.gate for one in verdicts if one.state == "skip")
    said = f"gates: {passed} passed" + (f", skipped: {skipped}" if skipped else "")
    return [said, *(one.line for one in failed(verdicts))]


def _files(found: Inspection) -> Verdict:
    n = len(found.manifest.files)
    if not found.faults:
        return Verdict("files", "pass", f"{n} files are what the manifest says", "", "")
    said = f"{found.faults[0]}" + (f" (and {len(found.faults) - 1} more)"
                                   if len(found.faults) > 1 else "")  # fmt: skip
    return Verdict("files", "FAIL", said, "every byte and list as sealed", "")


def _duplicates(lists: Statistics) -> Verdict:
    return _most("duplicates", lists.duplicates, lists.rows, 0, 1,
                 "rows whose item the list has already",
                 "make a new release; recsys recommend makes none of these")  # fmt: skip


def _short(lists: Statistics, manifest: Manifest, config: GateConfig) -> Verdict:
    """Judge empty and short lists together: both leave a user with too little."""
    items = min(config.short_items, manifest.k)
    empty = 0 if manifest.reach is None else max(manifest.reach.asked - lists.lists, 0)
    short = empty + lists.short(items)
    return _most("short lists", short, lists.lists + empty, config.short_lists,
                 config.least_users, f"lists have fewer than {items} items, {empty:,} of them none",
                 "look at candidates, availability and exclusions; gates.short_lists")  # fmt: skip


def _one_item(lists: Statistics, manifest: Manifest, config: GateConfig) -> Verdict:
    top, longest = lists.top_item, max(lists.lengths, default=0)
    offer = manifest.statistics.offer if manifest.statistics else None
    items = offer.items if offer else manifest.counts.items_listed
    if items < ROOM * longest:
        return _skipped("one item", f"{items:,} items are too few for lists of {longest} to differ")
    return _most("one item", top.rows if top else 0, lists.lists, config.item_share,
                 config.least_users, f"lists hold item {top.name if top else '(none)'}",
                 "see if the model ranks at all; gates.item_share")  # fmt: skip


def _active(reach: Reach | None, config: GateConfig) -> Verdict:
    gate = "active users"
    if reach is None:
        return _skipped(gate, "the manifest does not say who is active")
    days = f"in {reach.active_days} days" if reach.active_days else "ever"
    what = f"users who took something {days} have a list of their own"
    return _least(gate, reach.active_listed, reach.active, config.active_coverage,
                  config.least_users, what,
                  "see whom recommend was told to make lists for; gates.active_coverage",
                  )  # fmt: skip


def _offer(sealed: Statistics | None, manifest: Manifest, config: GateConfig) -> Verdict:
    gate = "items on offer"
    if sealed is None or sealed.offer is None:
        return _skipped(gate, "the manifest does not say what was on offer")
    rows = sum(entry.rows for entry in manifest.files)  # with the fallback list
    return _most(gate, sealed.offer.unavailable_rows, rows, config.unavailable_rows, 1,
                 "rows are of items not on offer at the release's moment",
                 "correct available_from and available_until, recommend again; "
                 "gates.unavailable_rows")  # fmt: skip


def _one_category(sealed: Statistics | None, config: GateConfig) -> Verdict:
    gate = "one category"
    if sealed is None or sealed.offer is None:
        return _skipped(gate, "the manifest does not say what category an item has")
    top = sealed.offer.top_category
    if sealed.offer.categories < 2 or top is None:
        return _skipped(gate, f"the items are of {sealed.offer.categories} categories")
    if sealed.lists < config.least_users:
        return _too_few(gate, sealed.lists, config.least_users)
    if sealed.offer.top_category_items > config.category_share * sealed.offer.items:
        return _skipped(gate, f"most items on offer are of category {top.name} anyway")
    return _most(gate, top.rows, sealed.rows, config.category_share, 1,
                 f"rows are of category {top.name}",
                 "see if the category column is right; gates.category_share")  # fmt: skip


def _overlap(compared: Comparison, config: GateConfig) -> Verdict:
    gate = "overlap"
    if compared.both < config.least_users:
        return _too_few(gate, compared.both, config.least_users)
    found = (f"{compared.overlap:.3f} of the first {TOP} items are the same as in "
             f"{compared.current.release_id}, over {compared.both:,} users")  # fmt: skip
    return _verdict(gate, compared.overlap >= config.overlap, found,
                    f"at least {config.overlap:g}",
                    "see if ids, data or model changed; gates.overlap")  # fmt: skip


def _users_lost(manifest: Manifest, compared: Comparison, config: GateConfig) -> Verdict:
    before = compared.current.counts.users
    kept = manifest.counts.users * compared.both / compared.sampled if compared.sampled else 0
    lost = max(before - round(kept), 0)
    return _most("users lost", lost, before, config.users_lost, config.least_users,
                 f"users of {compared.current.release_id} have no list any more",
                 "see if events are missing; gates.users_lost")  # fmt: skip


def _items_lost(manifest: Manifest, compared: Comparison, config: GateConfig) -> Verdict:
    before, now = compared.current.counts.items_listed, manifest.counts.items_listed
    if compared.current.counts.users < config.least_users:
        return _too_few("items lost", compared.current.counts.users, config.least_users)
    return _most("items lost", max(before - now, 0), before, config.items_lost, 1,
                 f"fewer items in lists than in {compared.current.release_id}",
                 "see if the catalogue is whole; gates.items_lost")  # fmt: skip


def _age(reach: Reach | None, config: GateConfig, now: datetime) -> Verdict:
    gate = "age of data"
    if reach is None or reach.last_event is None:
        return _skipped(gate, "the manifest does not say when the last event was")
    days = (now - datetime.fromisoformat(reach.last_event)).total_seconds() / 86_400
    found = f"the last event is of {reach.last_event}, {days:.1f} days ago"
    if not config.data_age_days:
        return _skipped(gate, f"{found}; no limit, gates.data_age_days is 0")
    return _verdict(gate, days <= config.data_age_days, found,
                    f"at most {config.data_age_days:g} days",
                    "bring newer events and recommend again; gates.data_age_days")  # fmt: skip


def _most(
    gate: str, part: int, whole: int, most: float, few: int, what: str, advice: str
) -> Verdict:
    """Pass if `part` is at most a share of `whole`; skip if `whole` is fewer than `few`."""
    if whole < few:
        return _too_few(gate, whole, few)
    share = part / whole
    limit = f"at most {most:g}" if most else "none"
    return _verdict(gate, share <= most, _share(part, whole, what), limit, advice)


def _least(
    gate: str, part: int, whole: int, least: float, few: int, what: str, advice: str
) -> Verdict:
    """Pass if `part` is at least a share of `whole`; skip if `whole` is fewer than `few`."""
    if whole < few:
        return _too_few(gate, whole, few)
    passes = part / whole >= least
    return _verdict(gate, passes, _share(part, whole, what), f"at least {least:g}", advice)


def _share(part: int, whole: int, what: str) -> str:
    return f"{part / whole:.3f}, {part:,} of {whole:,} {what}"


def _verdict(gate: str, passes: bool, found: str, limit: str, advice: str) -> Verdict:
    return Verdict(gate, "pass" if passes else "FAIL", found, limit, "" if passes else advice)


def _skipped(gate: str, why: str) -> Verdict:
    return Verdict(gate, "skip", why, "", "")


def _too_few(gate: str, n: int, few: int) -> Verdict:
    return _skipped(gate, f"{n:,} are too few to judge, gates.least_users is {few:,}")
