"""A part depends on its bucket and on what all buckets share, and on nothing else."""

import io
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from serving.audience import ALL, bucket_of
from serving.parts import fallback_table, make_part


@pytest.fixture
def bucket(shop):
    prepared, work = shop
    return bucket_of(prepared, 1, ALL, work.moment)


def lists_in(part):
    return pq.read_table(io.BytesIO(part.data)).to_pandas()


def test_a_part_has_one_full_list_for_each_user_of_its_bucket(shop, bucket):
    part = make_part(shop[1], bucket)
    lists = lists_in(part)
    assert len(bucket.users) > 20
    assert part.users == len(bucket.users) and part.rows == len(lists) == 10 * part.users
    assert list(lists["user_id"].unique()) == bucket.ids.to_pylist()


def test_threads_change_no_byte(shop, bucket):
    before, made = torch.get_num_threads(), []
    for n_threads in (1, 3):
        torch.set_num_threads(n_threads)
        made.append(make_part(shop[1], bucket))
    torch.set_num_threads(before)
    assert made[0] == made[1]


def test_what_must_not_be_listed_is_not_and_others_take_its_place(shop, bucket):
    _, work = shop
    whole = lists_in(make_part(work, bucket))
    out = whole["item_id"].value_counts().index[:20]
    only = ~np.isin(work.method.items.ids, out)
    assert np.count_nonzero(~only) == 20
    some = replace(work, only=only)
    lists = lists_in(make_part(some, bucket))
    assert len(lists) == len(whole) and not lists["item_id"].isin(out).any()
    assert set(fallback_table(work)["item_id"].to_pylist()) & set(out)
    assert not set(fallback_table(some)["item_id"].to_pylist()) & set(out)
    assert len(fallback_table(some)) == work.k


def test_a_bucket_of_nobody_is_a_part_without_rows(shop, bucket):
    nobody = replace(bucket, users=bucket.users[:0], ids=bucket.ids[:0])
    part = make_part(shop[1], nobody)
    assert (part.rows, part.users) == (0, 0)
    whole = pq.read_schema(io.BytesIO(make_part(shop[1], bucket).data))
    assert pq.read_schema(io.BytesIO(part.data)) == whole
