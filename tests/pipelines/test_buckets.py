"""Laws of a bucket: users are cut where they end, and the sums do not depend on the bucketing."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.buckets import Totals, write_bucket
from pipelines.prepared import bucket_path
from recsys.dataset import DAY


def bucket(rows):
    """Make the sorted rows of a bucket from (user, day, item, grade, maybe position)."""
    rows = [(*row, None)[:5] for row in rows]
    user, day, item, grade, position = (list(column) for column in zip(*rows, strict=True))
    n = len(rows)
    types = pa.array(["buy" if one else "shown" for one in grade])
    columns = {
        "user_id": pa.array(user), "moment": pa.array([one * DAY for one in day], pa.int64()),
        "item_code": pa.array(item, pa.int32()), "event_type": types,
        "value": pa.nulls(n, pa.float64()), "price": pa.array([1.5] * n),
        "position": pa.array(position, pa.int64()),
        "session": pa.array([None if one == 3 else 10 * one for one in day], pa.int64()),
        "grade": pa.array(grade, pa.int8()), "weight": pa.array([1.0] * n, pa.float32()),
        "content": pa.array([ord(one) for one in user], pa.uint64()),
    }  # fmt: skip
    return pa.table(columns)


A = [("a", 1, 0, 1), ("a", 1, 1, 1), ("a", 2, 0, 0), ("a", 5, 0, 2)]
B = [("b", 3, 2, 1), ("b", 3, 2, 2)]


def written(folder, buckets, dated=True):
    (folder / "events").mkdir(parents=True)
    totals = Totals()
    users = [write_bucket(folder, i, bucket(rows), 9, dated, totals)
             for i, rows in enumerate(buckets)]  # fmt: skip
    return totals, pa.concat_tables(users).to_pydict()


def test_the_sums_are_the_same_in_one_bucket_or_two(tmp_path):
    one, together = written(tmp_path / "one", [A + B])
    two, apart = written(tmp_path / "two", [A, B])
    assert one == two
    assert (one.users, one.events, one.first, one.last) == (2, 4 + 2, 1 * DAY, 5 * DAY)
    assert one.types == {"buy": 5, "shown": 1}
    assert together.pop("bucket") == [0, 0] and apart.pop("bucket") == [0, 1]
    assert together == apart
    assert apart == {"user_code": [0, 1], "user_id": ["a", "b"], "n_events": [4, 2]}


def test_another_session_is_other_content(tmp_path):
    rows = bucket(A)
    at = rows.schema.get_field_index("session")
    other = rows.set_column(at, "session", pa.array([10, 10, 21, 50], pa.int64()))
    sums = []
    for name, table in (("one", rows), ("two", other)):
        (tmp_path / name / "events").mkdir(parents=True)
        totals = Totals()
        write_bucket(tmp_path / name, 0, table, 9, True, totals)
        sums.append(totals.content)
    assert sums[0] != sums[1]
    written_session = pq.read_table(bucket_path(tmp_path / "two", 0))["session"].to_pylist()
    assert written_session == [10, 10, 21, 50]


def test_only_what_the_user_took_strictly_before_is_taken_again(tmp_path):
    totals, _ = written(tmp_path, [A + B])
    assert totals.taken == {1: 2, 3: 2, 5: 1}
    assert totals.again == {5: 1}  # not b's second event: it is at the same moment


def test_positions_count_back_from_the_last_taken_event(tmp_path):
    written(tmp_path, [[*A, ("a", 6, 3, 0), *B]], dated=False)
    moment = pq.read_table(bucket_path(tmp_path, 0))["moment"].to_pylist()
    assert moment == [-3, -2, -2, -1, -1, -2, -1]


def test_each_column_changes_the_content(tmp_path):
    base, _ = written(tmp_path / "base", [A])
    seen = {base.content}
    last = [
        ("c", 5, 0, 2),
        ("a", 6, 0, 2),
        ("a", 5, 3, 2),
        ("a", 5, 0, 3),
        ("a", 5, 0, 2, 1),
        ("a", 5, 0, 2, 2),
    ]  # one change each
    for i, row in enumerate(last):
        changed, _ = written(tmp_path / str(i), [[*A[:-1], row]])
        seen.add(changed.content)
    assert len(seen) == 1 + len(last)


def test_a_bucket_without_events_adds_nothing(tmp_path):
    (tmp_path / "events").mkdir()
    totals = Totals()
    users = write_bucket(tmp_path, 0, bucket(A).slice(0, 0), 9, True, totals)
    assert (len(users), totals) == (0, Totals())
    assert len(pq.read_table(bucket_path(tmp_path, 0))) == 0
