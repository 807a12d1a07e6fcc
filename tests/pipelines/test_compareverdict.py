"""Each verdict is one sentence with its numbers."""

from dataclasses import replace

import pytest

from pipelines.compare import compare_runs
from pipelines.compareverdict import (
    differs_in,
    p_said,
    sentence,
    slice_name,
    slice_that_matters,
    verdicts,
)


@pytest.fixture(scope="module")
def found(store):
    return compare_runs(store.config, [store.seeds[0], store.better])


def test_a_sentence_says_which_is_better_by_how_much_and_what_seeds_do(found):
    [one] = found.others
    said, total = sentence(found, one), one.total
    assert said.startswith(f"{one.other.run.name} is better than {found.base.run.name}: NDCG@10 ")
    assert f"{total.difference:+.4f} [{total.low:+.4f}, {total.high:+.4f}]" in said
    assert f"other seeds move it by up to {one.seed_spread:.4f} (5 runs)" in said
    worse = replace(total, difference=-total.difference)
    assert " is worse than " in sentence(found, replace(one, differences=[worse]))


def test_noise_is_called_noise(found):
    [one] = found.others
    chance = replace(one, differences=[replace(one.total, corrected=0.06)])
    assert "cannot be told from" in sentence(found, chance)
    seeds = sentence(found, replace(one, seed_spread=1.0))
    assert "no more than another seed does" in seeds and seeds.endswith("noise.")
    assert "seed" not in sentence(found, replace(chance, seed_spread=float("nan")))


def test_the_slice_that_matters_most_is_one_that_chance_seldom_makes(found):
    [one] = found.others
    of_slice = replace(one.total, column="category")
    told = replace(of_slice, value="a", difference=-0.1, corrected=0.01)
    larger = replace(of_slice, value="b", difference=0.3, corrected=0.2)
    assert slice_that_matters(replace(one, differences=[one.total, told, larger])) == told
    assert slice_that_matters(replace(one, differences=[one.total, larger])) == larger
    assert slice_that_matters(replace(one, differences=[one.total])) is None
    assert slice_name(told) == "category a"


def test_many_runs_are_said_in_groups(found):
    [one] = found.others
    noise = replace(one, differences=[replace(one.total, difference=0.0, corrected=1.0)])
    many = replace(found, others=[one, noise, noise, noise])
    name = one.other.run.name
    assert verdicts(many) == [
        sentence(many, one),
        f"Cannot be told from it: {name}, {name}, {name}.",
    ]


def test_settings_are_said_in_a_few_words(found):
    [one] = found.others
    assert differs_in(one) == "ranker.max_trees 101, not 100"
    many = replace(one, settings=[(f"k{at}", "", "1") for at in range(5)])
    assert differs_in(many) == "k0 1, not none; k1 1, not none; k2 1, not none; 2 more"
    assert differs_in(replace(one, settings=[])) == "nothing"


def test_a_p_value_is_never_said_to_be_0():
    assert (p_said(0.0001), p_said(0.0314)) == ("<0.001", "0.031")
