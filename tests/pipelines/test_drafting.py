"""What init writes is read back by the run it is for, for files in any dialect."""

import tomllib
from datetime import datetime, timedelta

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.checking import check_inputs
from pipelines.config import load_toml
from pipelines.drafting import config_text, guess_table, write_config
from pipelines.settings import RunConfig
from recsys.dialect import NO_IDS
from recsys.errors import ConfigError, RecsysError

HEADERS = [
    ("user_id", "item_id", "timestamp", "price", "title", "description"),
    ("Kundennr", "Artikelnr", "Bestelldatum", "Preis", "Bezeichnung", "Beschreibung"),
    ("client", "produit", "date", "prix", "titre", "description"),
    ("cliente", "articulo", "fecha", "precio", "nombre", "descripcion"),
]
TIMES = ["%Y-%m-%dT%H:%M:%SZ", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M:%S", "s", "ms"]
IDS = st.text(
    st.characters(codec="cp1252", exclude_categories=["C", "Z"]), min_size=1, max_size=9
).filter(lambda text: text.lower() not in NO_IDS)
SLOW = settings(max_examples=25, deadline=None,
                suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip


def checked(path):
    """Read the config and count all rows."""
    data = load_toml(RunConfig, path).data
    return check_inputs(data.events, data.items, data.users, data)


def written(moment, way):
    if way in ("s", "ms"):
        return str(int(moment.timestamp()) * (1000 if way == "ms" else 1))
    return moment.strftime(way)


@st.composite
def shops(draw):
    """Draw (how it is written, events, items): some 40 events of some 12 users and items."""
    user, item, time, price, title, said = draw(st.sampled_from(HEADERS))
    way = draw(st.sampled_from(TIMES))
    ids = draw(st.lists(IDS, min_size=6, max_size=12, unique_by=str.strip))
    n = draw(st.integers(30, 60))
    start = datetime(2026, 1, 1) + timedelta(days=draw(st.integers(0, 300)))
    rows = [(f"c{draw(st.integers(1, 12))}", draw(st.sampled_from(ids)),
             written(start + timedelta(hours=13 * r), way), draw(st.integers(1, 10**6)))
            for r in range(n)]  # fmt: skip
    dialect = {"sep": draw(st.sampled_from([",", ";", "\t", "|"])), "encoding": draw(
        st.sampled_from(["utf-8", "utf-8-sig", "cp1252"]))}  # fmt: skip
    decimal = draw(st.sampled_from([".", ","]))
    events = pd.DataFrame(rows, columns=[user, item, time, price])
    events[price] = [f"{cents / 100:.2f}".replace(".", decimal) for cents in events[price]]
    texts = st.text(st.characters(codec="cp1252", exclude_categories=["Cc"]), max_size=30)
    items = pd.DataFrame({item: ids, title: [f"good thing {'abcdefghijkl'[at]}" for at in range(
        len(ids))], said: [draw(texts) for _ in ids]})  # fmt: skip
    return dialect, events, items


@SLOW
@given(shops())
def test_a_shop_in_any_dialect_is_read_whole(tmp_path, shop):
    dialect, events, items = shop
    events.to_csv(tmp_path / "orders.csv", index=False, **dialect)
    items.to_csv(tmp_path / "products.csv", index=False, **dialect)
    files = [str(tmp_path / name) for name in ("orders.csv", "products.csv")]
    write_config(files, tmp_path / "run.toml", force=True)
    many = events.iloc[:, 0].nunique() > 1
    if not many:
        with pytest.raises(RecsysError, match="fewer than 2"):
            checked(tmp_path / "run.toml")
        return
    found = checked(tmp_path / "run.toml")
    assert found.n_rows == len(events) == found.n_events + sum(found.dropped.values())
    assert not found.dropped
    assert (found.n_users, found.n_items) == (events.iloc[:, 0].nunique(), len(items))
    assert found.event_types == {"purchase": len(events)}


CELLS = st.one_of(st.text(max_size=8), st.integers().map(str), st.floats().map(str),
                  st.sampled_from(["", "u1", "u2", "i1", "2026-01-31", "31.01.2026"]))  # fmt: skip
NAMES = st.sampled_from([*HEADERS[0], *HEADERS[1], "event", "rating", "x", "", 'a"b', "a\nb"])


@SLOW
@given(st.data())
def test_any_other_table_is_refused_in_words_or_conserved(tmp_path, data):
    files = []
    for name in ("log.csv", "items.csv"):
        header = data.draw(st.lists(NAMES, min_size=1, max_size=5))
        rows = data.draw(st.lists(st.tuples(*[CELLS for _ in header]), max_size=12))
        frame = pd.DataFrame(rows, columns=pd.Index(header))
        text = frame.to_csv(index=False, sep=data.draw(st.sampled_from([",", ";"])))
        cut = data.draw(st.integers(0, len(text))) if data.draw(st.booleans()) else len(text)
        (tmp_path / name).write_bytes(text[:cut].encode("utf-8", "surrogatepass"))
        files.append(str(tmp_path / name))
    try:
        write_config(files, tmp_path / "run.toml", force=True)
        found = checked(tmp_path / "run.toml")
    except RecsysError:
        return
    assert found.n_rows == found.n_events + sum(found.dropped.values())


def test_the_comments_say_what_was_guessed_and_how_sure_it_is(tmp_path, shop_in, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = shop_in(tmp_path, n_users=40, n_views=400, n_orders=200)
    draft = write_config(files, tmp_path / "run.toml")
    text = (tmp_path / "run.toml").read_text()
    for line in (
        'time = "%d.%m.%Y %H:%M"  # sure: 02.01.2026', 'decimal = ","  # sure: as in',
        'encoding = "cp1252"  # likely', 'event_type = "view"  # likely: the name of the file',
        'columns.user_id = "Kundennr"', 'purchase = { grade = 3 }  # likely',
        "# not read: Bestellnr", "reads: Bezeichnung, Warengruppe, Beschreibung",
    ):  # fmt: skip
        assert line in text, line
    assert config_text(draft, tmp_path / "run.toml") == text
    assert guess_table(draft).row_count == 7 + 5 + 6 + 2  # of each file, and the two types
    found = checked(tmp_path / "run.toml")
    assert found.event_types == {"purchase": 200, "view": 400} and not found.dropped


@pytest.mark.parametrize(
    ("prices", "line"),
    [(["1,50", "2"], 'decimal = ","  # sure: as in 1,50'),
     (["$1,234.50"], 'decimal = "."  # sure: as in $1,234.50'),
     (["1,234", "9"], 'decimal = "."  # a guess: as in 1,234')],
)  # fmt: skip
def test_a_comma_that_may_mean_two_things_is_a_guess(tmp_path, prices, line):
    events = pd.DataFrame({"user": list("abab") * 9, "item": list("xyyx") * 9})
    events["date"] = "2026-01-01"
    events.assign(price=[prices[r % len(prices)] for r in range(36)]).to_csv(
        tmp_path / "orders.csv", index=False
    )
    items = pd.DataFrame({"item": ["x", "y"], "name": ["red pen", "ink pot"]})
    items.to_csv(tmp_path / "items.csv", index=False)
    write_config([str(tmp_path / n) for n in ("orders.csv", "items.csv")], tmp_path / "run.toml")
    assert line in (tmp_path / "run.toml").read_text()


@pytest.mark.parametrize(
    ("prices", "quantity", "sep", "line"),
    [(["2.730", "899"], "2", ";", 'decimal = ","  # a guess: 2.730 may be thousands or decimals'),
     (["2.730", "899"], "1,5", "\t", 'decimal = ","  # sure: as in 1,5'),
     (["2.730", "899"], "1.5", ";", "numbers such as 2.730: thousands or decimals"),
     (["2.730", "899"], "2", ",", '"price"  # a guess: name, numbers such as 2.730: thousands'),
     (["0.730", "899"], "2", ";", '"price"  # sure: name, numbers such as 0.730')],
)  # fmt: skip
def test_points_before_three_digits_only_are_a_guess(tmp_path, prices, quantity, sep, line):
    events = pd.DataFrame({"user": list("abab") * 9, "item": list("xyyx") * 9})
    events = events.assign(date="2026-01-01", quantity=quantity)
    events["price"] = [prices[r % 2] for r in range(36)]
    events.to_csv(tmp_path / "orders.csv", index=False, sep=sep)
    items = pd.DataFrame({"item": ["x", "y"], "name": ["red pen", "ink pot"]})
    items.to_csv(tmp_path / "items.csv", index=False)
    write_config([str(tmp_path / n) for n in ("orders.csv", "items.csv")], tmp_path / "run.toml")
    text = (tmp_path / "run.toml").read_text()
    assert line in text
    assert ("decimal = " in text) == line.startswith("decimal")


def test_types_and_columns_of_any_name_are_quoted(tmp_path):
    kind = 'buy "now"\\ \x7fé'
    events = pd.DataFrame({"user": list("abab") * 9, "item": list("xyyx") * 9, "event": kind})
    days = [f"2026-01-0{1 + row // 4}" for row in range(len(events))]
    events.assign(**{"date": days, 'my "price"': "1.5"}).to_csv(tmp_path / "log.csv", index=False)
    items = pd.DataFrame({"item": ["x", "y"], "name": ["red pen", "ink pot"]})
    items.to_csv(tmp_path / "items.csv", index=False)
    towns = pd.DataFrame({"town": ["Rom", "Ulm"]})
    towns.assign(people=1).to_csv(tmp_path / "towns.csv", index=False)
    files = [str(tmp_path / f"{name}.csv") for name in ("log", "items", "towns")]
    draft = write_config(files, tmp_path / "run.toml")
    found = checked(tmp_path / "run.toml")
    assert found.event_types == {kind: 36}
    assert found.columns_used["events"]["price"] == 'my "price"'
    assert f"# not used: {files[2]}" in (tmp_path / "run.toml").read_text()
    assert "not used" in list(guess_table(draft).columns[1].cells)


def test_what_is_there_is_not_overwritten(tmp_path, shop_in, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = shop_in(tmp_path, n_users=40, n_views=400, n_orders=200)
    (tmp_path / "run.toml").write_text("mine")
    with pytest.raises(ConfigError, match="exists; --force replaces it"):
        write_config(files, tmp_path / "run.toml")
    assert (tmp_path / "run.toml").read_text() == "mine"
    write_config(files, tmp_path / "run.toml", force=True)
    assert tomllib.loads((tmp_path / "run.toml").read_text())["data"]["items"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"x.toml: there is no folder .*nodir; make it"):
        write_config([], tmp_path / "nodir" / "x.toml")


def test_every_file_that_cannot_be_read_is_named_and_nothing_written(tmp_path):
    (tmp_path / "a.csv").write_text("")
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    with pytest.raises(ConfigError) as error:
        write_config(files, tmp_path / "run.toml")
    assert [line.split(": ")[0] for line in str(error.value).splitlines()] == files
    assert not (tmp_path / "run.toml").exists()


def test_day_and_month_that_cannot_be_told_apart_are_a_guess(tmp_path):
    events = pd.DataFrame({"user": list("abab") * 9, "item": list("xyyx") * 9})
    events["date"] = [f"0{1 + r % 9}/0{1 + r // 9}/2026" for r in range(36)]
    events.to_csv(tmp_path / "orders.csv", index=False)
    pd.DataFrame({"item": ["x", "y"], "name": ["red pen", "ink pot"]}).to_csv(
        tmp_path / "items.csv", index=False
    )
    write_config([str(tmp_path / n) for n in ("orders.csv", "items.csv")], tmp_path / "run.toml")
    line = 'time = "%d/%m/%Y"  # a guess: day and month of 01/01/2026 cannot be told apart'
    assert f"{line}; maybe %m/%d/%Y" in (tmp_path / "run.toml").read_text()
