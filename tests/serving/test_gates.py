"""Each gate stops the release that it is for, says so in words, and lets a good one through."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from serving.errors import GateError
from serving.gates import failed, in_brief
from serving.manifest import Reach
from serving.publish import judge_release, publish
from serving.release import part_path
from serving.settings import GateConfig
from serving.stores import open_reader

N_USERS, N_ITEMS = 100, 120
LAST_EVENT = datetime(2026, 8, 19, 22, tzinfo=UTC)
NOW = LAST_EVENT + timedelta(hours=12)
REACH = Reach(asked=N_USERS, active=80, active_listed=80, active_days=28,
              last_event=LAST_EVENT.isoformat())  # fmt: skip
LISTS = {f"u{user:02}": [f"i{(7 * user + 5 * place) % N_ITEMS:03}" for place in range(10)]
         for user in range(N_USERS)}  # fmt: skip
ITEMS = [f"i{item:03}" for item in range(N_ITEMS)]
CATALOGUE = pa.table({
    "item_id": [*ITEMS, *(f"never listed {at}" for at in range(30))],
    "category": [f"c{at % 4}" for at in range(N_ITEMS + 30)],
    "available": [True] * (N_ITEMS + 30),
})  # fmt: skip
OFF = CATALOGUE.set_column(2, "available", pa.array([at != 7 for at in range(N_ITEMS + 30)]))
ONE_KIND = CATALOGUE.set_column(1, "category", pa.array(["one"] * N_ITEMS + ["other"] * 30))
SHORT = LISTS | {f"u{user:02}": LISTS[f"u{user:02}"][:2] for user in range(6)}
SAME_FIRST = {user: ["i000", *(i for i in items if i != "i000")][:10]
              for user, items in LISTS.items()}  # fmt: skip
OTHERS = {user: [f"i{(int(item[1:]) + 1) % N_ITEMS:03}" for item in items]
          for user, items in LISTS.items()}  # fmt: skip
FEWER = {user: items for user, items in LISTS.items() if user < "u89"}
FEW_ITEMS = {user: [ITEMS[(at + place) % 20] for place in range(10)]
             for at, user in enumerate(LISTS)}  # fmt: skip

BAD = {  # gate -> (lists, what the batch job says, limits), if no limit is given the default
    "short lists": (SHORT, {}, {}),
    "one item": (SAME_FIRST, {}, {}),
    "active users": (LISTS, {"reach": REACH.model_copy(update={"active_listed": 75})}, {}),
    "items on offer": (LISTS, {"catalogue": OFF}, {}),
    "one category": (LISTS, {"catalogue": ONE_KIND}, {}),
    "overlap": (OTHERS, {}, {}),
    "users lost": (FEWER, {}, {"short_lists": 1}),
    "items lost": (FEW_ITEMS, {}, {"overlap": 0}),
    "age of data": (LISTS, {}, {"data_age_days": 0.4}),
}


@pytest.fixture
def good(unsealed, seal_lists):
    """Make a release: `good(name, lists, **known)`; nothing is wrong with it unless told."""

    def make(name, lists=LISTS, **known):
        folder = unsealed(name, lists, fallback=["i001", "i002"], parts=3)
        seal_lists(folder, **({"catalogue": CATALOGUE, "reach": REACH} | known))
        return folder

    return make


def states(folder, store, **limits):
    """Return gate -> state."""
    _, verdicts = judge_release(folder, store, GateConfig(**limits), NOW)
    return {one.gate: one.state for one in verdicts}


def content(folder):
    """Return the bytes of every file but locks, which hold nothing."""
    return {path: path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".lock"}  # fmt: skip


def test_a_good_release_passes_every_gate(good, store):
    publish(good("r1"), store)
    found = states(good("r2"), store, data_age_days=1)
    assert found.keys() == {"files", "duplicates", *BAD}
    assert set(found.values()) == {"pass"}


@pytest.mark.parametrize("gate", BAD)
def test_a_gate_stops_the_release_that_is_made_for_it(good, store, gate):
    lists, known, limits = BAD[gate]
    publish(good("r1"), store)
    before = content(store)
    bad = good("r2", lists, **known)
    found = states(bad, store, **limits)
    assert [one for one, state in found.items() if state == "FAIL"] == [gate]
    said = []
    limits |= {"data_age_days": 0.4} if gate == "age of data" else {}
    with pytest.raises(GateError, match=rf"r2 is not published.*\({gate}\).*--force --reason"):
        publish(bad, store, gates=GateConfig(**limits), show=said.extend)
    assert len(said) == len(found)  # all of them, not only the first that failed
    assert content(store) == before and len(before) == 2  # one release, one pointer
    with open_reader(store) as reader:
        assert reader.release().release_id == "r1"


def test_a_verdict_says_what_was_found_what_the_limit_is_and_what_to_do(good, store):
    _, verdicts = judge_release(good("r1", SHORT), store, GateConfig(), NOW)
    [wrong] = failed(verdicts)
    assert wrong.line == (
        "FAIL  short lists: 0.060, 6 of 100 lists have fewer than 5 items, 0 of them none; "
        "at most 0.05; look at candidates, availability and exclusions; gates.short_lists"
    )


def test_a_user_without_a_list_counts_as_short(good, store):
    asked = REACH.model_copy(update={"asked": N_USERS + 6})
    [wrong] = failed(judge_release(good("r1", reach=asked), store, GateConfig(), NOW)[1])
    assert "0.057, 6 of 106 lists have fewer than 5 items, 6 of them none" in wrong.line


def test_a_list_is_not_short_for_having_the_k_items_that_were_asked_for(good, store):
    two = {user: items[:2] for user, items in LISTS.items()}
    assert states(good("r1", two), store)["short lists"] == "FAIL"
    folder = good("r2", two)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"k": 20', '"k": 2'))
    assert states(folder, store)["short lists"] == "pass"


@pytest.mark.parametrize("gate", ["files", "duplicates"])
def test_what_is_no_release_fails_and_no_reason_excuses_it(good, store, break_part, gate):
    publish(good("r1"), store)
    before, bad = content(store), good("r2")
    if gate == "files":
        part_path(bad, 1).write_bytes(part_path(bad, 1).read_bytes() + b"\0")
    else:
        twice = pa.array(["i000", *["i001"] * 2] + [f"x{at}" for at in range(337)])
        break_part(bad, lambda table: table.set_column(2, "item_id", twice))
    assert states(bad, store)[gate] == "FAIL"
    with pytest.raises(GateError, match=rf"{gate}.*no reason excuses that"):
        publish(bad, store, reason="it must go out")
    assert content(store) == before


def test_lists_that_cannot_be_read_fail_and_are_compared_with_nothing(good, store):
    publish(good("r1"), store)
    bad = good("r2")
    part_path(bad, 1).write_bytes(b"PAR1")
    found = states(bad, store)
    assert (found["files"], found["overlap"], found["active users"]) == ("FAIL", "skip", "pass")


def test_a_first_publish_compares_nothing_and_says_so(good, store):
    _, verdicts = judge_release(good("r1"), store, GateConfig(), NOW)
    skipped = {one.gate: one.found for one in verdicts if one.state == "skip"}
    why = "first publish, nothing to compare with"
    assert skipped.pop("age of data").endswith("no limit, gates.data_age_days is 0")
    assert skipped == dict.fromkeys(["overlap", "users lost", "items lost"], why)
    assert not store.exists()  # nothing is made by looking


def test_where_the_current_release_is_damaged_nothing_is_compared(good, store):
    publish(good("r1"), store)
    (store / "r1.sqlite").write_bytes(b"no database")
    _, verdicts = judge_release(good("r2"), store, GateConfig(), NOW)
    assert (
        "the current release cannot be read" in {one.gate: one for one in verdicts}["overlap"].found
    )
    assert publish(good("r3"), store).switched


def test_of_few_users_no_share_is_judged(good, store):
    few = {user: ["i000"] for user in list(LISTS)[:49]}
    reach = REACH.model_copy(update={"asked": 49, "active": 49, "active_listed": 0})
    publish(good("r0", few, reach=reach), store)
    found = states(good("r1", few, reach=reach), store)
    assert {gate for gate, state in found.items() if state == "skip"} == {
        "short lists", "one item", "active users", "one category", "overlap", "users lost",
        "items lost", "age of data",
    }  # fmt: skip
    assert states(good("r2", few, reach=reach), store, least_users=49)["one item"] == "FAIL"


def test_a_job_that_reached_few_of_many_active_users_is_stopped_however_few_lists_it_made(
    good, store
):
    few = {user: LISTS[user] for user in list(LISTS)[:10]}
    reach = REACH.model_copy(update={"active": 1000, "active_listed": 10, "asked": 10})
    assert states(good("r1", few, reach=reach), store)["active users"] == "FAIL"
    publish(good("r2"), store)
    assert states(good("r3", few), store)["users lost"] == "FAIL"


def test_where_lists_cannot_differ_nothing_is_said_of_one_item(good, store):
    rows = CATALOGUE.slice(0, 99)  # of ten times as many items as in a list one is missing
    _, verdicts = judge_release(good("r1", SAME_FIRST, catalogue=rows), store, GateConfig(), NOW)
    [one_item] = [one for one in verdicts if one.gate == "one item"]
    assert one_item.state == "skip"
    assert one_item.found == "99 items are too few for lists of 10 to differ"


def test_where_all_items_are_of_one_category_nothing_is_said_of_it(good, store):
    most = ["one"] * (N_ITEMS + 29) + ["other"]
    mostly = CATALOGUE.set_column(1, "category", pa.array(most))
    assert states(good("r1", catalogue=mostly), store)["one category"] == "skip"


def test_what_the_manifest_does_not_say_is_skipped(sealed, store):
    found = states(sealed("r1", LISTS), store)
    silent = {"active users", "items on offer", "one category", "age of data"}
    assert {gate for gate, state in found.items() if state == "skip"} > silent


def test_a_release_of_version_2_is_judged_by_its_files(good, store):
    folder = good("r1", SHORT)
    path = folder / "manifest.json"
    text = path.read_text().replace('"schema_version": 3', '"schema_version": 2')
    start = text.index('  "statistics": {')
    path.write_text(text[:start].rstrip().removesuffix(",") + "}")
    found = states(folder, store)
    assert (found["short lists"], found["files"], found["one category"]) == ("FAIL", "pass", "skip")


def test_in_brief_is_how_many_passed_and_what_failed(good, store):
    _, verdicts = judge_release(good("r1", SHORT), store, GateConfig(), NOW)
    line, wrong = in_brief(verdicts)
    assert line == "gates: 6 passed, skipped: overlap, users lost, items lost, age of data"
    assert wrong.startswith("FAIL  short lists")
