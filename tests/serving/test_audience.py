"""Who gets a list and what may be in it: by ids of either type, from any file, in any order."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.prepare import prepare
from pipelines.settings import BatchConfig
from recsys.dataset import DAY
from recsys.errors import ConfigError
from recsys.schema import DataConfig
from serving.audience import ALL, allowed_items, audience_of, bucket_of, fingerprint_of, takers

START = 1_767_225_600_000_000  # 2026-01-01
LAST = {1: 0, 2: 10, 3: 20, 4: 30, 5: 39}  # user -> day of the last event; one on each day before
END = START + 40 * DAY


def tables(name):
    """Events of users who are called `name(number)`, items i0 to i9."""
    rows = [(name(user), day) for user, last in LAST.items() for day in range(last + 1)]
    users, days = zip(*rows, strict=True)
    ids = [f"i{at}" for at in range(10)]
    moments = pa.array(START + np.array(days) * DAY, pa.timestamp("us", "UTC"))
    events = pa.table({"user_id": users, "item_id": [ids[day % 10] for day in days],
                       "timestamp": moments})  # fmt: skip
    return events, pa.table({"item_id": ids, "title": [f"thing {one}" for one in ids]})


NAMES = {"numbers": int, "strings": "u/{}".format}


@pytest.fixture(scope="module", params=list(NAMES))
def shop_of(request, tmp_path_factory):
    """(prepared, name of a user's number): ids are numbers, or strings."""
    folder, name = tmp_path_factory.mktemp("audience"), NAMES[request.param]
    config = DataConfig(bucket_rows=40)
    return prepare(*tables(name), folder / "prepared", config, "time"), name


def listed(prepared, audience, moment=END):
    buckets = [bucket_of(prepared, at, audience, moment) for at in range(prepared.n_buckets)]
    assert len(buckets) > 1
    for bucket in buckets:
        assert bucket.ids.equals(prepared.ids_of(bucket.users))
    return sorted(one for bucket in buckets for one in bucket.ids.to_pylist())


def named(prepared, path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return audience_of(BatchConfig(users=str(path)), prepared, END)


def test_everybody_is_who_took_something_before_the_moment(shop_of):
    prepared, name = shop_of
    assert audience_of(BatchConfig(), prepared, END) == ALL
    assert listed(prepared, ALL) == [name(user) for user in LAST]
    assert listed(prepared, ALL, START) == []


@pytest.mark.parametrize(
    "days, users", [(1, [5]), (10, [4, 5]), (20, [3, 4, 5]), (40, [1, 2, 3, 4, 5])]
)
def test_active_is_who_took_something_in_the_last_days(shop_of, days, users):
    prepared, name = shop_of
    audience = audience_of(BatchConfig(users="active", active_days=days), prepared, END)
    assert listed(prepared, audience) == [name(user) for user in users]
    assert audience.words == f"active in {days} days"


def test_what_was_only_shown_takes_nobody_in(log_of):
    log = log_of([(0, 5, 1, 0), (1, 5, 1, 1), (2, 9, 1, 1)])
    assert takers(log, 9, 5).tolist() == [1]


def test_a_file_names_users_in_any_order_and_counts_who_is_unknown(shop_of, tmp_path):
    prepared, name = shop_of
    audience = named(prepared, tmp_path / "a.txt", [name(4), name(2), name(77), name(4), "x"])
    assert listed(prepared, audience) == [name(2), name(4)]
    assert audience.n_unknown == 2  # 77 and x
    again = named(prepared, tmp_path / "b.txt", [name(77), name(2), "x", name(4)])
    other = named(prepared, tmp_path / "c.txt", [name(2), name(5)])
    assert again.words == audience.words != other.words


def test_numbers_that_are_written_as_texts_are_the_same_users(tmp_path):
    prepared = prepare(*tables(int), tmp_path / "prepared", DataConfig(bucket_rows=40), "time")
    (tmp_path / "a.csv").write_text("user_id\n2\n3.5\n99999999999999999999\n5\n")
    audience = audience_of(BatchConfig(users=str(tmp_path / "a.csv")), prepared, END)
    assert listed(prepared, audience) == [2, 5] and audience.n_unknown == 2


def test_a_file_of_strangers_is_refused_with_an_id_as_it_should_look(shop_of, tmp_path):
    prepared, name = shop_of
    like = str(name(1)).replace("1", "[1-5]")
    with pytest.raises(ConfigError, match=f"names 1 users .* like {like}\\); check the ids"):
        named(prepared, tmp_path / "a.txt", ["stranger"])


def test_days_are_refused_where_there_are_none(tmp_path):
    config = DataConfig(bucket_rows=40)
    prepared = prepare(*tables(int), tmp_path / "prepared", config, "leave_last_out")
    with pytest.raises(ConfigError, match="events have an order only, so there are no days"):
        audience_of(BatchConfig(users="active"), prepared, 0)


def test_what_is_excluded_may_not_be_listed_and_unknown_ids_are_counted(shop_of, tmp_path):
    items, file = shop_of[0].items(), tmp_path / "out.txt"
    assert allowed_items(None, items) == (None, "", 0)
    file.write_text("i3\ni7\ngone\ni3\n")
    allowed, words, n_unknown = allowed_items(file, items)
    assert items.ids[~allowed].tolist() == ["i3", "i7"] and n_unknown == 1
    file.write_text("i7\ngone\ni3\n")
    assert allowed_items(file, items)[1] == words
    file.write_text("\n".join(items.ids))
    with pytest.raises(ConfigError, match="names every item, so nothing can be listed"):
        allowed_items(file, items)


def test_a_fingerprint_is_of_the_ids_and_not_of_their_order():
    ids = [f"i{at}" for at in range(50)]
    prints = {fingerprint_of(pa.array(some)) for some in (ids, ids[::-1])}
    assert len(prints) == 1 and prints != {fingerprint_of(pa.array(ids[1:]))}
