"""Nothing bad gets in, and nothing odd is kept out: real files through the commands.

What is refused ends with exit code 2 and words, and leaves nothing half-written; what is taken is
kept whole or counted.
"""

import gzip
import sys
import uuid

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.lock import locked
from pipelines.prepare import prepare
from pipelines.prepared import open_prepared
from pipelines.profile import profile_inputs
from recsys import cli
from recsys.errors import RecsysError
from recsys.schema import DataConfig

DAY_ZERO = pd.Timestamp("2026-01-01", tz="UTC")


def shop(n=400, n_users=20, n_items=15):
    """Return (events, items): 100 days, every item taken by several."""
    rng = np.random.default_rng(3)
    events = pd.DataFrame({
        "user_id": [f"u{at}" for at in rng.integers(0, n_users, n)],
        "item_id": [f"i{at}" for at in rng.integers(0, n_items, n)],
        "timestamp": DAY_ZERO + pd.to_timedelta(rng.integers(0, 100 * 1440, n), unit="min"),
        "event_type": rng.choice(["view", "buy"], n),
    })  # fmt: skip
    items = pd.DataFrame({"item_id": [f"i{at}" for at in range(n_items)]})
    return events, items.assign(title="item " + items["item_id"], price=2.5)


@pytest.fixture
def recsys(monkeypatch, capsys, tmp_path):
    """Run a command on tables or files in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(command, events, items, *more):
        given = []
        for name, table in (("events", events), ("items", items)):
            if isinstance(table, pd.DataFrame):
                table.to_parquet(tmp_path / f"{name}.parquet")
                table = f"{name}.parquet"
            given += ["--set", f"data.{name}={table}"]
        rules = ["--set", "data.event_types.view.grade=1", "--set", "data.event_types.buy.grade=2"]
        arguments = [command, *given, *rules, "--set", "run_dir=run", *more]
        monkeypatch.setattr(sys, "argv", ["recsys", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err

    return run


# --- refused -------------------------------------------------------------------------------------


def half(path, content):
    path.write_bytes(content[: len(content) // 2])
    return path


def no_file(events, items, folder):
    return folder / "nowhere.csv", items


def empty_file(events, items, folder):
    (folder / "empty.csv").touch()
    return folder / "empty.csv", items


def header_alone(events, items, folder):
    events[:0].to_csv(folder / "header.csv", index=False)
    return folder / "header.csv", items


def half_a_parquet_file(events, items, folder):
    return half(folder / "half.parquet", events.to_parquet()), items


def half_a_zipped_file(events, items, folder):
    content = gzip.compress(events.sample(frac=40, replace=True).to_csv(index=False).encode())
    return half(folder / "half.csv.gz", content), items


def empty_folder(events, items, folder):
    (folder / "log").mkdir()
    return folder / "log", items


def binary_called_csv(events, items, folder):
    (folder / "t.csv").write_bytes(b"\x00\xff\xfe\x00" * 100)
    return folder / "t.csv", items


def no_title(events, items, folder):
    return events, items.drop(columns="title")


def float_ids(events, items, folder):
    return events.assign(user_id=np.arange(len(events)) / 2), items


def null_ids(events, items, folder):
    return events.assign(user_id=events["user_id"].where(events.index > 5)), items


def words_as_times(events, items, folder):
    return events.assign(timestamp="next week"), items


def mixed_times(events, items, folder):
    seconds = (events["timestamp"].astype("int64") // 10**6).map(str)
    return events.assign(
        timestamp=events["timestamp"].map(str).where(events.index > 9, seconds)
    ), items


def seconds_as_nanoseconds(events, items, folder):
    seconds = events["timestamp"].astype("datetime64[s, UTC]").astype("int64")
    return events.assign(timestamp=pd.to_datetime(seconds, utc=True)), items


def next_century(events, items, folder):
    late = events["timestamp"].where(events.index > 2, pd.Timestamp("2126-01-01", tz="UTC"))
    return events.assign(timestamp=late), items


def one_id_two_titles(events, items, folder):
    return events, pd.concat([items, items[:1].assign(title="other")])


def one_user(events, items, folder):
    return events.assign(user_id="u"), items


def one_item(events, items, folder):
    return events.assign(item_id="i0"), items[:1]


def three_days(events, items, folder):
    return events[events["timestamp"] < DAY_ZERO + pd.Timedelta(days=3)], items


def one_day_and_a_bit(events, items, folder):
    days = np.minimum(np.arange(len(events)), 4)
    return events.assign(timestamp=DAY_ZERO + pd.to_timedelta(days, unit="D")), items


def types_unknown(events, items, folder):
    return events.assign(event_type="stare"), items


def prices_in_words(events, items, folder):
    return events, items.assign(price="cheap")


REFUSED = {
    no_file: "cannot be read (there is no such file or folder)",
    empty_file: "cannot be read",
    header_alone: "has no rows",
    half_a_parquet_file: "cannot be read",
    half_a_zipped_file: "cannot be read",
    empty_folder: "cannot be read (found no file",
    binary_called_csv: "cannot be read",
    no_title: "column title: is missing",
    float_ids: "column user_id: has the wrong type",
    null_ids: "column user_id: has no id in 6 rows",
    words_as_times: "column timestamp: cannot be parsed in 400 rows (e.g. next week)",
    mixed_times: "column timestamp: cannot be parsed in 10 rows",
    seconds_as_nanoseconds: "column timestamp: lies in 1970",
    next_century: "column timestamp: is in the future in 3 rows (e.g. 2126-01-01 00:00:00)",
    one_id_two_titles: "column item_id: has other contents for the same id in 1 row (e.g. i0)",
    one_user: "column user_id: has fewer than 2 different ids",
    one_item: "column item_id: has fewer than 2 different ids",
    three_days: "has fewer than 4 days with events that count (3 found)",
    one_day_and_a_bit: "5 days with events are too few to cut four windows",
    types_unknown: "has types without a grade in 400 rows (e.g. stare)",
    prices_in_words: "column price: cannot be parsed in 15 rows (e.g. cheap)",
}


@pytest.mark.parametrize("command", ["validate", "prepare"])
@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_is_wrong_is_refused_in_words_and_leaves_nothing(recsys, tmp_path, make, command):
    events, items = make(*shop(), tmp_path)
    code, out, err = recsys(command, events, items)
    assert (code, out) == (2, "") and "Traceback" not in err
    assert REFUSED[make] in err, err
    assert {path.name for path in tmp_path.glob("run/*")} <= {".lock"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recommend", "--k", "0"], "serving.k: found 0, expected greater than or equal to 1"),
        (["recommend", "--k", "1001"], "serving.k: found 1001"),
        (["recommend", "--model", "models:/nobody/1"], "models:/nobody/1: no such model in"),
        (["train", "--from", "models:/nobody/1"], "models:/nobody/1: no such model in"),
        (["train", "--set", "split.share=0.5"], "split.share: found 0.5, expected less than 0.3"),
        (["train", "--set", 'ranker.weight_by="value"'], "the events have no such column"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused(recsys, tmp_path, arguments, said):
    code, _, err = recsys(arguments[0], *shop(), *arguments[1:])
    assert code == 2 and said in err and "Traceback" not in err


@pytest.mark.parametrize("command", ["evaluate", "recommend"])
def test_a_model_is_looked_for_before_anything_is_made(recsys, tmp_path, command):
    code, _, err = recsys(command, *shop())
    assert code == 2 and "models:/recommender@champion: no such model in" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["prepare", "train", "evaluate", "recommend"])
def test_a_folder_in_use_is_refused_and_left_alone(recsys, tmp_path, command):
    with locked(tmp_path / "run"):
        (tmp_path / "run" / "mlflow.db").touch()  # evaluate and recommend ask for a store first
        code, _, err = recsys(command, *shop())
        assert code == 2 and "run is in use by another run (process" in err
        assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock", "mlflow.db"}
    assert recsys("prepare", *shop())[0] == 0


# --- taken ---------------------------------------------------------------------------------------


def taken(recsys, tmp_path, events, items):
    """Validate and prepare: what the report says, and what was prepared."""
    code, out, err = recsys("validate", events, items)
    assert code == 0, err
    assert recsys("prepare", events, items)[0] == 0
    return out, open_prepared(tmp_path / "run" / "prepared")


@pytest.mark.parametrize(
    "name",
    [
        lambda at: at,
        lambda at: str(uuid.UUID(int=at)),
        lambda at: f"a/b/{at}",
        lambda at: f"{at} with spaces",
        lambda at: f"ключ-{at}-鍵-🔑",
        lambda at: f'it\'s "{at}"; --',
    ],
    ids=["integer", "uuid", "slash", "spaces", "unicode", "quotes"],
)
def test_ids_of_any_kind_arrive_as_they_were(recsys, tmp_path, name):
    events, items = shop()
    for table, column in ((events, "user_id"), (events, "item_id"), (items, "item_id")):
        table[column] = [name(int(one[1:])) for one in table[column]]
    _, prepared = taken(recsys, tmp_path, events, items)
    assert set(prepared.user_ids()) == set(events["user_id"])
    assert set(prepared.items().ids) == set(items["item_id"])
    assert prepared.manifest.n_events == len(events)


TEXTS = {
    "html": ("<p>Red &amp;amp; <b>blue</b></p>", "Red & blue"),
    "emoji": ("rose 🌹 seeds", "rose 🌹 seeds"),
    "right to left": ("مصباح للمنزل", "مصباح للمنزل"),
    "chinese": ("家用台灯", "家用台灯"),
    "long": ("word " * 20_000, ("word " * 20_000).strip()),  # 100,000 characters
    "none": (None, ""),
}


def test_texts_of_any_kind_are_kept(recsys, tmp_path):
    events, items = shop()
    items.loc[: len(TEXTS) - 1, "title"] = [given for given, _ in TEXTS.values()]
    out, prepared = taken(recsys, tmp_path, events, items)
    found = dict(zip(prepared.items().ids, prepared.items().text, strict=True))
    assert [found[f"i{at}"] for at in range(len(TEXTS))] == [text for _, text in TEXTS.values()]
    assert "has no text in 1 row (e.g. i5); kept" in out
    assert "Arabic" in out and "Chinese" in out


def test_texts_that_are_all_the_same_are_taken_and_told(recsys, tmp_path):
    events, items = shop()
    out, prepared = taken(recsys, tmp_path, events, items.assign(title="a thing"))
    assert "15 items (100.0 %) have a text that another item has too" in out
    assert set(prepared.items().text) == {"a thing"}


def test_prices_of_zero_below_or_missing_are_taken_and_told(recsys, tmp_path):
    events, items = shop()
    items["price"] = [0.0, -2.0, None] + [5.0] * 12
    out, prepared = taken(recsys, tmp_path, events, items)
    assert "prices from -2.00 to 5.00, median 5.00; 1 are 0, 1 below 0" in out
    assert np.isnan(prepared.items().price).sum() == 1


def test_a_test_window_of_new_users_only_is_taken_and_told(recsys, tmp_path):
    events, items = shop()
    last = events["timestamp"] >= DAY_ZERO + pd.Timedelta(days=85)
    events.loc[last, "user_id"] = [f"new {at}" for at in range(last.sum())]
    out, _ = taken(recsys, tmp_path, events, items)
    assert "all requests of the test window are of new users" in out


def test_dropped_rows_are_told_with_their_number(recsys, tmp_path):
    events, items = shop()
    events.loc[:4, "item_id"] = "nowhere"
    events.loc[5:7, "timestamp"] = None
    events = pd.concat([events, events[20:26]]).sample(frac=1, random_state=1)  # out of order, too
    out, prepared = taken(recsys, tmp_path, events, items)
    for rows, why in ((5, "is not in items"), (3, "has no time"), (6, "is an exact copy")):
        assert f"dropped: {rows} rows" in out and f": {why}" in out
    assert prepared.manifest.n_events == len(events) - 5 - 3 - 6 == 400 - 5 - 3


def test_an_hour_that_a_clock_skips_or_repeats_is_no_trouble(recsys, tmp_path):
    events, items = shop()
    spring = ["2026-03-29T01:59:59+01:00", "2026-03-29T03:00:00+02:00"]  # a second apart
    autumn = ["2025-10-26T02:30:00+02:00", "2025-10-26T02:30:00+01:00"]  # an hour apart
    times = events["timestamp"].map(str)
    times[:4] = spring + autumn
    events.loc[:3, "user_id"] = "late"
    _, prepared = taken(recsys, tmp_path, events.assign(timestamp=times), items)
    at = list(prepared.user_ids()).index("late")
    [log] = prepared.logs()
    row = int(np.flatnonzero(log.users == at)[0])
    apart = np.diff(log.moment[log.indptr[row] : log.indptr[row + 1]])
    assert list(apart[[0, -1]]) == [3600 * 10**6, 10**6]


# --- anything ------------------------------------------------------------------------------------

RULES = DataConfig.model_validate({"event_types": {"buy": {"grade": 2}, "view": {"grade": 0}}})
TIMES = st.one_of(
    st.datetimes(pd.Timestamp("1971-01-01"), pd.Timestamp("2026-01-01")).map(str),
    st.sampled_from(["2025-06-01T00:00:00Z", "2025-06-02", "soon", "", None]),
)
ROWS = st.tuples(
    st.sampled_from(["a", "b", "ä/ö", "", None]),
    st.sampled_from(["1", "2", "3", "x", None]),
    TIMES,
    st.sampled_from(["buy", "view", "other", None]),
)


@settings(max_examples=30, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    rows=st.lists(ROWS, max_size=40),
    clean=st.booleans(),
    items=st.lists(st.tuples(st.sampled_from("123"), st.sampled_from(["t", "u", "", None])),
                   max_size=4),
    protocol=st.sampled_from(["auto", "time", "leave_last_out"]),
)  # fmt: skip
def test_any_table_is_kept_and_counted_or_refused_in_words(
    tmp_path_factory, rows, clean, items, protocol
):
    if clean:  # so that many are taken
        rows = [
            row
            for row in rows
            if row[0] and row[1] and row[2] != "soon" and row[3] in ("buy", "view")
        ]
        rows += [(user, item, f"2025-06-{day:02d}", "buy") for user in "ab" for item in "12"
                 for day in range(1, 9)]  # fmt: skip
        items = [("1", "t"), ("2", "u")]
    names = ["user_id", "item_id", "timestamp", "event_type"]
    events = pd.DataFrame(rows, columns=names, dtype="str")
    catalogue = pd.DataFrame(items, columns=["item_id", "title"], dtype="str")
    folder = tmp_path_factory.mktemp("any")
    try:
        manifest = prepare(events, catalogue, folder / "p", RULES, protocol).manifest
    except RecsysError:
        assert not clean and list(folder.iterdir()) == []
        return
    assert len(events) == manifest.n_rows == manifest.n_events + sum(manifest.dropped.values())
    assert sum(len(log) for log in open_prepared(folder / "p").buckets()) == manifest.n_events
    if manifest.dated or clean:  # with an order alone the windows may be empty
        profile = profile_inputs(events, catalogue, None, RULES, protocol)
        assert profile.checked.n_events - profile.copies == manifest.n_events
