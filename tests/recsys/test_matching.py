"""A foreign table is read as it is, once it is said how; until then it is said what to set."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipelines.checking import check_inputs
from pipelines.prepare import prepare
from recsys.dialect import EventSource, ItemSource
from recsys.errors import SchemaError
from recsys.reading import stamp
from recsys.schema import DataConfig

ITEMS = "id;name;preis\n1;Käse;1.012,50\n2;Öl;3,5\n3;Brot;2\n"
BOUGHT = "kunde;artikel;datum;betrag\n" + "".join(
    f"k{k};{a};{d:02d}.01.2026 14:05;{k},50\n" for d in range(1, 31) for k in (1, 2) for a in (1, 2)
)
SEEN = "user,item,at\n" + "".join(f"k{k},3,{1767225600 + k * 86400}\n" for k in range(1, 20))
GERMAN = {"delimiter": ";", "encoding": "cp1252", "decimal": ","}
ORDERS = EventSource(
    path="bought.csv", event_type="purchase", time="%d.%m.%Y %H:%M", **GERMAN,
    columns={"user_id": "kunde", "item_id": "artikel", "timestamp": "datum", "price": "betrag"},
)  # fmt: skip
VIEWS = EventSource(
    path="seen.csv", event_type="view", time="s",
    columns={"user_id": "user", "item_id": "item", "timestamp": "at"},
)  # fmt: skip
CATALOGUE = ItemSource(
    path="items.csv", columns={"item_id": "id", "title": "name", "price": "preis"}, **GERMAN
)
RULES = {"purchase": {"grade": 2}, "view": {"grade": 1}}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Go to a folder with the files of a small shop."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.csv").write_bytes(ITEMS.encode("cp1252"))
    (tmp_path / "bought.csv").write_bytes(BOUGHT.encode("cp1252"))
    (tmp_path / "seen.csv").write_text(SEEN)
    return tmp_path


def config(events=(ORDERS, VIEWS), items=CATALOGUE, **more):
    return DataConfig(**{"events": events, "items": items, "event_types": RULES} | more)


def check(given):
    return check_inputs(given.events, given.items, given.users, given)


def refused(given, *said):
    with pytest.raises(SchemaError) as error:
        check(given)
    for words in said:
        assert words in str(error.value), str(error.value)


def test_files_in_two_dialects_are_one_log(shop):
    checked = check(config())
    assert checked.event_types == {"purchase": 30 * 2 * 2, "view": 19}
    assert (checked.n_rows, checked.n_events, checked.n_users) == (139, 139, 19)
    assert checked.columns_used["events"] == {
        "user_id": "kunde, user", "item_id": "artikel, item", "timestamp": "datum, at",
        "price": "betrag", "event_type": "'purchase', 'view'",
    }  # fmt: skip
    first, last = "2026-01-01T14:05", "2026-01-30T14:05"
    moments = [int(pd.Timestamp(t, tz="UTC").timestamp()) * 10**6 for t in (first, last)]
    assert [checked.first_moment, checked.last_moment] == moments
    [warning] = [line for line in checked.warnings if "time zone" in line]
    assert warning.startswith("events (bought.csv), column timestamp: has no time zone in 120 rows")


def test_letters_and_prices_are_what_was_written(shop):
    prepare(config().events, CATALOGUE, shop / "p", config(), "leave_last_out")
    items = pq.read_table(shop / "p/items.parquet").to_pydict()
    assert items["title"] == ["Käse", "Öl", "Brot"]
    assert items["price"] == [1012.5, 3.5, 2.0]
    events = pq.read_table(shop / "p/events").to_pandas()
    assert sorted(set(events["price"].dropna())) == [1.5, 2.5]


def test_a_table_in_toml_is_the_same_source(shop):
    plain = {"path": "bought.csv", **ORDERS.model_dump(exclude={"path"}, exclude_defaults=True)}
    assert config(events=plain).events == (ORDERS,)
    assert config(events=[plain, "seen.csv"]).events[1] == EventSource(path="seen.csv")


def test_a_delimiter_that_is_not_said_is_guessed_in_words(shop):
    refused(config(events=(EventSource(path="bought.csv"), VIEWS)),
            "events (bought.csv): cannot be read", "'kunde;artikel;datum;betrag'",
            'looks like delimiter = ";"')  # fmt: skip


def test_letters_that_are_not_said_are_refused_with_an_encoding(shop):
    wrong = CATALOGUE.model_copy(update={"encoding": "utf-8"})
    refused(config(items=wrong), "items (items.csv): cannot be read", "encoding = 'cp1252'")


def test_a_decimal_comma_that_is_not_said_is_refused(shop):
    refused(config(items=CATALOGUE.model_copy(update={"decimal": "plain"})),
            "items (items.csv), column price: is written another way "
            "(1.012,50 looks like decimal = ','); say so beside the path: data.items")  # fmt: skip


@pytest.mark.parametrize(("as_number"), [True, False])
def test_seconds_that_are_not_said_are_refused_with_their_date(shop, as_number):
    if as_number:
        pd.read_csv("seen.csv").to_parquet("seen.parquet")
    views = VIEWS.model_copy(
        update={"time": "iso", "path": "seen.parquet" if as_number else "seen.csv"}
    )
    refused(config(events=(views,)), "column timestamp: is written another way (1767312000 "
            "looks like time = 's', Unix seconds: 2026-01-02T00:00:00Z)")  # fmt: skip


def test_seconds_as_numbers_are_read_once_they_are_said(shop):
    frame = pd.read_csv("seen.csv", dtype={"item": str})
    frame.to_parquet("seen.parquet")
    checked = check(config(events=(VIEWS.model_copy(update={"path": "seen.parquet"}),)))
    assert checked.first_moment == 1767312000 * 10**6


def test_a_unit_that_is_wrong_is_refused(shop):
    refused(config(events=(VIEWS.model_copy(update={"time": "ms"}),)),
            "1767312000 looks like time = 's'")  # fmt: skip


def test_a_column_named_beside_the_path_is_to_be_corrected_there(shop):
    typo = VIEWS.model_copy(update={"columns": VIEWS.columns | {"timestamp": "att"}})
    refused(config(events=(ORDERS, typo)), "events (seen.csv), column timestamp: is missing",
            "take with columns.timestamp = '...' beside the path")  # fmt: skip
    mapped = {"events": {"timestamp": "att"}}
    bare = VIEWS.model_copy(update={"columns": {"user_id": "user", "item_id": "item"}})
    refused(config(events=(bare,), columns=mapped), "take with data.columns.events.timestamp = ")


def test_ids_of_two_types_in_two_files_are_refused(shop):
    pd.read_csv("seen.csv").to_parquet("seen.parquet")
    views = VIEWS.model_copy(update={"path": "seen.parquet"})
    refused(config(events=(ORDERS, views)), "column item_id: has the wrong type",
            "string in bought.csv, int64 in seen.parquet")  # fmt: skip


def test_integer_ids_are_text_where_that_is_said(shop):
    pd.read_csv("seen.csv").to_parquet("seen.parquet")
    views = VIEWS.model_copy(update={"path": "seen.parquet"})
    refused(config(events=(views,)), "column item_id: has another type", "set text_ids = true")
    views = views.model_copy(update={"text_ids": True})
    assert check(config(events=(views,))).n_events == 19
    assert check(config(events=(ORDERS, views))).n_events == 120 + 19


def test_rows_without_a_user_are_refused_or_dropped_and_counted(shop):
    (shop / "bought.csv").write_text(BOUGHT + ";1;30.01.2026 15:00;1,00\n" * 3)
    orders = ORDERS.model_copy(update={"encoding": "utf-8"})
    refused(config(events=(orders,)), "column user_id: has no id in 3 rows")
    checked = check(config(events=(orders.model_copy(update={"anonymous": "drop"}),)))
    assert checked.dropped == {"has no user": 3}
    assert checked.n_rows == checked.n_events + 3


def test_of_several_titles_the_most_frequent_is_kept_if_it_is_said(shop):
    lines = "Öl;2\n" * 2 + "Oel;2\n" + ";2\n" * 9 + "Brot;1\nKäse;3\nErbsen;3\n"
    (shop / "items.csv").write_text("title;item_id\n" + lines)
    items = ItemSource(path="items.csv", delimiter=";")
    refused(config(items=items), "has other contents for the same id in 2 rows")
    kept = items.model_copy(update={"repeated": "most_frequent"})
    prepare((ORDERS, VIEWS), kept, shop / "p", config(items=kept), "leave_last_out")
    [warning] = [line for line in check(config(items=kept)).warnings if "contents" in line]
    assert "has several contents for one id in 2 rows (e.g. 2)" in warning
    found = pq.read_table(shop / "p/items.parquet").to_pydict()
    assert dict(zip(found["item_id"], found["title"], strict=True)) == {
        "1": "Brot", "2": "Öl", "3": "Erbsen",  # as often as Käse, but first
    }  # fmt: skip


def test_a_list_of_what_was_shown_is_an_event_for_each(shop):
    (shop / "shown.tsv").write_text('u\t01/31/2026 9:05:00 AM\t1-1 "2"-0  3-0\nv\t\t\n')
    shown = EventSource(path="shown.tsv", delimiter="\t", quote="", shown="list",
                        names=("user_id", "timestamp", "list"),
                        time="%m/%d/%Y %I:%M:%S %p")  # fmt: skip
    given = config(events=(shown, VIEWS), event_types=RULES | {
        "clicked": {"grade": 1}, "shown": {"grade": 0}})  # fmt: skip
    checked = check(given)
    assert checked.event_types == {"clicked": 1, "shown": 2, "view": 19}
    assert checked.dropped == {"is not in items": 1}  # the one with quotes, which are kept


def test_a_change_of_dialect_is_a_change_of_input(shop):
    other = VIEWS.model_copy(update={"time": "ms"})
    assert stamp((ORDERS, VIEWS)) == stamp((ORDERS, VIEWS.model_copy())) != stamp((ORDERS, other))


def test_every_event_file_must_say_when(shop):
    views = VIEWS.model_copy(update={"columns": {"user_id": "user", "item_id": "item"}})
    refused(config(events=(ORDERS, views)), "column timestamp: is missing")
