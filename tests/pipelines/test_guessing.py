"""Which file is which, from a few rows of layouts that people have."""

import pandas as pd
import pytest

from pipelines.guessing import guess_tables
from pipelines.roles import GUESS, LIKELY, SURE
from pipelines.samples import look
from recsys.errors import ConfigError

USERS, ITEMS = [f"u{n}" for n in range(20)], [f"i{n}" for n in range(30)]
NAMES = [f"red thing number {n}x" for n in range(30)]


def log(n=200, user="user_id", item="item_id", time="timestamp", **more):
    """Make a log: user r of 20, item r of 30, an hour after the other."""
    times = pd.date_range("2026-01-01", periods=n, freq="h").strftime("%Y-%m-%dT%H:%M:%SZ")
    columns = {user: [USERS[7 * r % 20] for r in range(n)],
               item: [ITEMS[r * r % 30] for r in range(n)], time: times}  # fmt: skip
    return pd.DataFrame(columns | {k: [v(r) for r in range(n)] for k, v in more.items()})


def catalogue(item="item_id", title="title", **more):
    return pd.DataFrame({item: ITEMS, title: NAMES} | more)


@pytest.fixture
def guess(tmp_path):
    """Guess from {file name: frame}."""

    def made(**files):
        for name, frame in files.items():
            frame.to_csv(tmp_path / f"{name}.csv", index=False)
        return guess_tables([look(str(tmp_path / f"{name}.csv")) for name in files])

    return made


def columns(table):
    return {ours: one.value for ours, one in table.found.items()}


def grades(draft, name):
    return [(rule.grade, rule.min_value) for rule in draft.rules[name][0]]


def test_files_are_told_apart_by_their_columns_in_any_order(guess):
    users = pd.DataFrame({"customer": USERS, "age": range(20)})
    draft = guess(a=catalogue("sku", "name"), b=users, c=log(user="customer", item="sku"))
    assert [table.sample.path[-5:] for table in (*draft.events, draft.items, draft.users)] == [
        "c.csv", "a.csv", "b.csv"]  # fmt: skip
    assert columns(draft.items) == {"item_id": "sku", "title": "name"}
    assert draft.events[0].found["item_id"].sure == draft.items.found["item_id"].sure == SURE
    assert not draft.unused


def test_ids_without_a_name_are_told_by_who_else_has_them(guess):
    events = log(user="x1", item="x2", time="x3", x4=lambda r: f"order {r}")
    draft = guess(log=events, things=catalogue("a", "b"),
                  people=pd.DataFrame({"c": USERS, "d": range(20)}))  # fmt: skip
    assert columns(draft.events[0]) == {"user_id": "x1", "item_id": "x2", "timestamp": "x3"}
    assert columns(draft.items) == {"item_id": "a", "title": "b"}
    assert columns(draft.users) == {"user_id": "c"}
    assert draft.events[0].found["timestamp"].sure == GUESS
    assert draft.events[0].found["user_id"].sure == LIKELY


def test_of_two_columns_of_item_ids_the_one_that_is_in_the_catalogue_is_taken(guess):
    events = log(item="asin", parent_asin=lambda r: f"p{r % 30}")
    items = catalogue("parent_asin").assign(parent_asin=[f"p{n}" for n in range(30)])
    assert columns(guess(reviews=events, items=items).events[0])["item_id"] == "parent_asin"


def test_each_file_of_events_has_its_type(guess):
    draft = guess(orders=log(), page_views=log(), products=catalogue())
    assert [table.event_type.value for table in draft.events] == ["purchase", "view"]
    assert grades(draft, "purchase") == [(3, None)] and grades(draft, "view") == [(1, None)]


def test_types_in_a_column_are_graded_by_their_names(guess):
    kinds = ["view", "addtocart", "transaction", "zap"]
    draft = guess(events=log(event=lambda r: kinds[r % 4]), items=catalogue())
    assert {name: rules[0].grade for name, (rules, _) in draft.rules.items()} == {
        "view": 1, "addtocart": 2, "transaction": 3, "zap": 1,
    }  # fmt: skip
    assert draft.rules["zap"][1] == GUESS


@pytest.mark.parametrize(("top", "steps"), [(5, [4.0, 3.0]), (10, [8.0, 6.0]), (100, [80, 60])])
def test_ratings_are_graded_by_threshold(guess, top, steps):
    draft = guess(log=log(rating=lambda r: top * (r % 5 + 1) / 5), items=catalogue())
    assert grades(draft, "rating") == [(2, steps[0]), (1, steps[1]), (0, None)]


def test_a_negative_quantity_is_a_return(guess):
    draft = guess(log=log(quantity=lambda r: -1 if r % 9 == 0 else 2), items=catalogue())
    assert grades(draft, "purchase") == [(3, 1), (0, None)]


@pytest.mark.parametrize(("more", "rules"), [
    (2, [(3, 1), (0, None)]), (0.5, [(3, 1e-6), (0, None)])])  # fmt: skip
def test_a_quantity_of_nothing_is_no_purchase(guess, more, rules):
    draft = guess(log=log(quantity=lambda r: 0 if r % 9 == 0 else more), items=catalogue())
    assert grades(draft, "purchase") == rules


def test_users_of_no_name_are_missing(guess):
    events = log()
    events.loc[:3, "user_id"] = ["NULL", "NaN ", "None", "n/a"]
    draft = guess(log=events.astype(str), items=catalogue())
    assert draft.events[0].settings == {"anonymous": "drop"}
    assert draft.events[0].notes == ("4 of the first 200 rows have no user",)


def test_ids_from_a_column_of_decimals_are_said(guess):
    events = log()
    events["user_id"] = [f"{17001 + r % 20}.0" for r in range(200)]
    draft = guess(log=events, items=catalogue())
    assert draft.events[0].notes[0].startswith("user_id: ids look like 17001.0, from a column of")
    assert draft.items.notes == ()


def test_what_a_customer_thinks_of_an_item_does_not_make_it_an_event(guess):
    items = catalogue(customer_rating=range(30), customer_likes=range(30), created_at="2026-01-01")
    assert columns(guess(log=log(), items=items).items)["title"] == "title"


def test_barcodes_are_no_times(guess):
    barcodes = [str(4_006_381_333_900 + n) for n in range(30)]
    events = log(item="x1", time="x2").assign(x1=[barcodes[r * r % 30] for r in range(200)])
    draft = guess(log=events, items=catalogue("ean").assign(ean=barcodes))
    assert columns(draft.events[0]) == {"user_id": "user_id", "item_id": "x1", "timestamp": "x2"}


def test_integer_ids_are_read_as_text_where_another_file_has_them_as_text(tmp_path):
    events = log(item="i").assign(i=[r * r % 30 for r in range(200)])
    events.to_parquet(tmp_path / "log.parquet")
    catalogue().assign(item_id=range(30)).to_csv(tmp_path / "items.csv", index=False)
    draft = guess_tables([look(str(tmp_path / name)) for name in ("log.parquet", "items.csv")])
    assert draft.events[0].settings == {"text_ids": True} and not draft.items.settings


def test_lists_of_what_was_shown_are_impressions(guess):
    shown = log(item="impressions").assign(impressions="i1-1 i2-0 i3-0")
    draft = guess(behaviors=shown, news=catalogue("news_id"))
    assert draft.events[0].settings == {"shown": "impressions"}
    assert grades(draft, "clicked") == [(1, None)] and grades(draft, "shown") == [(0, None)]


def test_without_a_file_of_items_the_events_name_them(guess):
    draft = guess(retail=log(Description=lambda r: NAMES[r * r % 30]))
    assert draft.items.settings == {"repeated": "most_frequent"}
    assert columns(draft.items) == {"item_id": "item_id", "title": "Description"}


def test_rows_without_a_user_are_dropped_and_said(guess):
    events = log()
    events.loc[:2, "user_id"] = None
    draft = guess(log=events, items=catalogue())
    assert draft.events[0].settings == {"anonymous": "drop"}
    assert draft.events[0].notes == ("3 of the first 200 rows have no user",)


def test_what_is_neither_is_not_used(guess):
    draft = guess(log=log(), items=catalogue(), shops=pd.DataFrame({"town": ["Rom", "Ulm"]}))
    assert [table.sample.path[-9:] for table in draft.unused] == ["shops.csv"]


def test_repeats_are_the_events_that_a_user_had_before(guess):
    again = pd.concat([log(10), log(10).assign(timestamp="2026-03-01T00:00:00Z")])
    assert len(log(10).drop_duplicates(["user_id", "item_id"])) == 10
    assert guess(log=again, items=catalogue()).repeats == 10 / 20


def test_no_events_or_no_titles_are_refused_with_what_was_seen(guess):
    with pytest.raises(ConfigError, match=r"no events found .*item_id as item_id.* town\?"):
        guess(items=catalogue(), shops=pd.DataFrame({"town": ["Rom", "Ulm"], "n": [1, 2]}))
    with pytest.raises(ConfigError, match="no items with a title found; .*user_id as user_id"):
        guess(log=log())
