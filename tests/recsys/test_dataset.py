"""Cutting a log and putting it together again loses nothing and moves nothing."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.dataset import Items, Log, concat


@st.composite
def logs(draw) -> Log:
    """A sorted log of up to 6 users, some of them without any event."""
    lengths = draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    users = np.sort(rng.choice(100, len(lengths), replace=False)).astype(np.int64)
    item = rng.integers(0, 4, sum(lengths)).astype(np.int32)
    moment = rng.integers(0, 9, sum(lengths))
    order = np.lexsort((item, moment, np.repeat(users, lengths)))
    grade = rng.integers(0, 3, sum(lengths)).astype(np.int8)
    weight, price, value = rng.random((3, sum(lengths)), np.float32)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    more = {"value": value} if draw(st.booleans()) else {}
    more |= {"position": rng.integers(-1, 5, sum(lengths))} if draw(st.booleans()) else {}
    return Log(users, indptr, item[order], moment[order], grade, weight, price, **more)


def rows_of(log: Log) -> list[tuple]:
    """Every event with its user and all columns there are, in the order of the log."""
    columns = (getattr(log, field.name) for field in dataclasses.fields(Log)[2:])
    known = [log.users[log.row], *(column for column in columns if column is not None)]
    return list(zip(*(column.tolist() for column in known), strict=True))


def assert_same(one: Log, other: Log) -> None:
    for field in dataclasses.fields(Log):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a is None) == (b is None), field.name
        if a is None:
            continue
        np.testing.assert_array_equal(a, b, err_msg=field.name)
        assert a.dtype == b.dtype, field.name


@given(log=logs())
def test_keeping_or_taking_everything_changes_nothing(log):
    assert_same(log.keep(np.ones(len(log), bool)), log)
    assert_same(log.take(np.arange(len(log.users))), log)
    assert_same(concat([log]), log)


@given(log=logs(), seed=st.integers(0, 99))
def test_keep_keeps_the_masked_events_and_all_users(log, seed):
    mask = np.random.default_rng(seed).random(len(log)) < 0.5
    kept = log.keep(mask)
    assert rows_of(kept) == [row for row, wanted in zip(rows_of(log), mask, strict=True) if wanted]
    np.testing.assert_array_equal(kept.users, log.users)


@given(log=logs(), seed=st.integers(0, 99))
def test_take_takes_some_users_with_all_their_events(log, seed):
    rows = np.flatnonzero(np.random.default_rng(seed).random(len(log.users)) < 0.5)
    taken, wanted = log.take(rows), set(log.users[rows].tolist())
    assert rows_of(taken) == [row for row in rows_of(log) if row[0] in wanted]
    np.testing.assert_array_equal(taken.users, log.users[rows])


@given(log=logs(), cut=st.integers(0, 6))
def test_concat_undoes_a_cut_between_users(log, cut):
    rows = np.arange(len(log.users))
    assert_same(concat([log.take(rows[:cut]), log.take(rows[cut:])]), log)


@given(log=logs(), moment=st.integers(0, 9))
def test_before_is_strict_and_loses_nothing_else(log, moment):
    assert rows_of(log.before(moment)) == [row for row in rows_of(log) if row[2] < moment]
    assert_same(log.before(9), log)


@given(log=logs())
def test_row_and_indptr_say_the_same(log):
    per_user = [log.row[a:b].tolist() for a, b in zip(log.indptr, log.indptr[1:], strict=False)]
    assert per_user == [[row] * len(rows) for row, rows in enumerate(per_user)]
    assert len(log) == log.indptr[-1] == len(log.row)


def test_the_length_of_a_catalogue_is_its_number_of_items():
    columns = {field.name: np.zeros(3) for field in dataclasses.fields(Items)}
    assert len(Items(**columns)) == 3
