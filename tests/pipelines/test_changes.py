"""What differs between two runs is shown as it is in their lists."""

import numpy as np
import pyarrow as pa

from pipelines.changes import Lists, changed_users, settings_changed
from pipelines.compare import compare_runs
from pipelines.results import open_results


def test_settings_are_named_where_they_differ_and_unknown_ones_are_not_guessed():
    base = {"seed": 0, "run_dir": "a", "ranker.leaves": 31, "tracking.uri": ""}
    other = {"seed": 1, "run_dir": "b", "ranker.leaves": 31, "tracking.uri": "x", "new": [1]}
    assert settings_changed(base, other) == [("new", "", "[1]"), ("seed", "0", "1")]
    assert settings_changed({}, other) == []


def test_the_ten_users_whose_lists_changed_most_are_shown_with_titles(store):
    found = compare_runs(store.config, [store.seeds[0], store.better])
    users = found.others[0].users
    assert len(users) == len({user.user_id for user in users}) == 10
    assert [user.agreement for user in users] == sorted(user.agreement for user in users)
    results = open_results(store.config.run_dir / "reports" / store.better)
    rows = results.table("requests", window="test", model="full").to_pandas()
    lists = results.table("lists", window="test", model="full").to_pandas()
    for user in users:
        day = rows["request_time"].dt.strftime("%Y-%m-%d") == user.request_time
        [request] = rows["request_id"][day & (rows["user_id"] == user.user_id)]
        own = lists[lists["request_id"] == request].sort_values("rank")["item_id"]
        assert [title for title, _ in user.other] == [f"thing {item}" for item in own]
        assert all((title in user.taken) == taken for title, taken in user.other)


def test_of_lists_that_did_not_change_none_is_shown():
    codes, same = np.array([[0, 1], [1, 0]]), np.array([[0, 1], [1, 2]])
    lists = Lists([codes, same], np.array(list("abc")), np.array(list("ABC")), np.zeros(3))
    about = pa.table({"user_id": ["u", "v"], "request_time": [-1, -1], "history_events": [3, 4]})
    taken = pa.table({"request_id": [0, 1], "item_id": ["a", "c"]})
    [shown] = changed_users(lists, 1, taken, about, np.array([0.0, 0.5]))
    assert (shown.user_id, shown.request_time, shown.taken) == ("v", "position -1", ["C"])
    assert (shown.base, shown.other) == (
        [("B", False), ("A", False)], [("B", False), ("C", True)],
    )  # fmt: skip
