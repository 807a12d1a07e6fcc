"""Laws of the prepared folder: it gives back what was prepared, and only whole folders open."""

import numpy as np
import pandas as pd
import pytest

from pipelines.prepare import prepare
from pipelines.prepared import open_prepared
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, concat
from recsys.errors import ConfigError
from recsys.schema import DataConfig

RULES = {"view": {"grade": 1, "weight": 0.5}, "buy": {"grade": 2}, "shown": {"grade": 0}}
CONFIG = DataConfig(event_types=RULES)


@pytest.mark.parametrize("kind", ["int64", "int32", "str"])
def test_ids_keep_their_type(tmp_path, kind, world):
    events, items = world()
    events[["user_id", "item_id"]] = events[["user_id", "item_id"]].astype(int).astype(kind)
    items["item_id"] = items["item_id"].astype(int).astype(kind)
    prepared = prepare(events, items, tmp_path / "p", CONFIG)
    ids, users = prepared.items().ids, prepared.user_ids()
    if kind == "str":
        assert {type(x) for x in [*ids, *users]} == {str}
        assert list(ids) == sorted(map(str, range(40)))
    else:
        assert ids.dtype == users.dtype == np.int64
        assert list(ids) == list(range(40))


def test_items_carry_what_was_given(tmp_path, world):
    events, items = world()
    items["author"] = [None, "Z", "A"] + [""] * (len(items) - 3)
    items["price"] = [1.5] + [None] * (len(items) - 1)
    items["available_from"] = [None, "2026-01-05"] + [None] * (len(items) - 2)
    items["description"] = "<p>Nice &amp; new</p>"
    prepared = prepare(events, items, tmp_path / "p", CONFIG)
    found = prepared.items()
    assert found.text[0] == "item 00. a, b. Nice & new"
    assert found.text[1] == "item 01. Z. a, b. Nice & new"
    assert found.brand[:4].tolist() == [-1, 1, 0, -1]
    assert found.category.tolist() == [0] * len(items)
    assert found.price[0] == 1.5 and np.isnan(found.price[1])
    day = pd.Timestamp("2026-01-05").value // 1000
    assert found.available_from[:2].tolist() == [ALWAYS_FROM, day]
    assert set(found.available_until) == {ALWAYS_UNTIL}
    assert found.brand.dtype == np.int32 and found.price.dtype == np.float32
    used = prepared.manifest.columns_used["items"]
    assert used["brand"] == "author" and used["category"] == "genre"
    undated = prepare(events, items, tmp_path / "q", CONFIG, protocol="leave_last_out").items()
    assert set(undated.available_from) == {ALWAYS_FROM}


def test_value_and_position_are_read_where_they_are_asked_for_and_there(tmp_path, world):
    events, items = world()
    events["position"] = np.where(events.index % 3, events.index, np.nan)
    log = prepare(events, items, tmp_path / "p", CONFIG).bucket(0, details=True)
    value = np.sort(events["value"].to_numpy(np.float32))
    np.testing.assert_array_equal(np.sort(log.value), value)
    assert np.isnan(log.value).sum() == events["value"].isna().sum() > 0
    assert np.sort(log.position).tolist() == np.sort(events["position"].fillna(-1)).tolist()
    lean = prepare(events, items, tmp_path / "p", CONFIG).bucket(0)
    assert lean.value is None and lean.position is None
    without = prepare(events.drop(columns=["value", "position"]), items, tmp_path / "q", CONFIG)
    assert without.bucket(0, details=True).value is None
    assert without.bucket(0, details=True).position is None


def test_sessions_are_numbers_where_the_log_has_them_the_same_in_any_bucket(tmp_path, world):
    events, items = world()
    visit = events["user_id"].astype(str) + "/" + (events.index // 3).astype(str)
    events["session_id"] = np.where(events.index % 5, visit, None)
    one, many = (prepare(events, items, tmp_path / f"{rows}", DataConfig(bucket_rows=rows))
                 for rows in (1_000_000, 5))  # fmt: skip
    log, apart = one.bucket(0), concat(many.logs())
    assert one.manifest.has_sessions and many.n_buckets > 1
    assert one.manifest.fingerprint == many.manifest.fingerprint
    assert sorted(log.session.tolist()) == sorted(apart.session.tolist())
    known = events["session_id"].dropna()
    assert len(set(log.session.tolist()) - {-1}) == known.nunique() > 3
    assert (log.session < 0).sum() == len(events) - len(known) > 0
    counts = np.unique(log.session[log.session >= 0], return_counts=True)[1]
    assert sorted(counts) == sorted(known.value_counts())
    without = prepare(events.drop(columns="session_id"), items, tmp_path / "without", CONFIG)
    assert not without.manifest.has_sessions and without.bucket(0).session is None


def test_only_a_finished_folder_of_this_version_opens(tmp_path, world):
    with pytest.raises(ConfigError, match="run prepare first"):
        open_prepared(tmp_path)
    for content in ("{", '{"version": 0}', '{"version": 1}', "[]"):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(ConfigError, match="run prepare again"):
            open_prepared(tmp_path)
    events, items = world()
    assert prepare(events, items, tmp_path, CONFIG).manifest.n_rows == len(events)


def test_categories_have_names_by_their_codes(tmp_path, world):
    events, items = world()
    items["category"] = np.where(items.index % 3, np.where(items.index % 2, "b", "a"), None)
    prepared = prepare(events, items, tmp_path, CONFIG)
    names, codes = prepared.category_names(), prepared.items().category
    assert names == ("a", "b")
    kept = items.set_index("item_id")["category"].reindex(prepared.items().ids)
    for code, category in zip(codes, kept, strict=True):
        assert (names[code] if code >= 0 else None) == (category if category == category else None)
    assert prepare(events, items.drop(columns=["category", "genre"]), tmp_path / "no",
                   CONFIG).category_names() == ()  # fmt: skip
