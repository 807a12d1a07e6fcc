"""The catalogue names what is computed, all of it and nothing else."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from features.catalogue import CATALOGUE, SPARE, active_features
from features.item import item_features
from features.pair import pair_features, recent_features
from features.session import session_features
from features.table import source_features
from features.user import user_features
from recsys.candidates import OPTIONAL
from recsys.errors import ConfigError

IN_THE_TABLE = {"pair_price_ratio", "pair_last_similarity", "pair_best_similarity",
                "pair_best_frozen_similarity"}  # fmt: skip
OF_TEXTS = {"item_text_neighbours", "item_text_conversion"}  # of `neighbour_features`
NOT_OFFERED = {"popularity", "trending"}  # item_popularity_rank and item_trend say the same


def names(family=None, **flags):
    return {one.name for one in CATALOGUE if family in (None, one.family)
            and all(getattr(one, flag) == value for flag, value in flags.items())}  # fmt: skip


def test_no_name_twice_and_every_name_explained():
    assert max(Counter(one.name for one in CATALOGUE).values()) == 1
    for one in CATALOGUE:
        assert re.fullmatch("[a-z0-9_]+", one.name)
        assert one.unit.strip() and one.meaning.strip(), one.name
        assert one.family in {"user", "item", "pair", "source"}
        assert one.family == "source" or one.name.startswith(f"{one.family}_")


def test_a_family_is_what_its_file_computes(scene):
    """All of it where there are dates, all but what needs them where there are none."""
    past, rows, dated = scene.past, scene.candidates, scene.dated
    pair = pair_features(past, rows, scene.moment, scene.items, 0.5, dated)
    recent = set(recent_features(past, rows, scene.moment, scene.items)) if dated else set()
    sessions = set(session_features(replace(past, session=past.moment), rows, scene.items))
    computed = {
        "user": set(user_features(past, scene.moment, dated)) | (sessions & names("user")),
        "item": set(item_features(scene.state, scene.items, dated)) | OF_TEXTS,
        "pair": set(pair) | recent | IN_THE_TABLE | (sessions & names("pair")),
        "source": set(source_features(rows)) - NOT_OFFERED,
    }
    assert sessions == names(session=True)
    for family, found in computed.items():
        assert found == (names(family) if dated else names(family, dated=False)), family


def test_active_features_are_the_catalogue_in_order_without_what_is_off():
    every = [one.name for one in CATALOGUE if not (one.optional or one.session or one.spare)]
    assert list(active_features(dated=True)) == every
    off = ("item_price", "interest")
    for dated in (True, False):
        for with_text in (True, False):
            gone = set(off) | (set() if dated else names(dated=True))
            gone |= set() if with_text else names(text=True)
            expected = [name for name in every if name not in gone]
            assert list(active_features(dated, off, with_text)) == expected


def test_features_of_an_optional_source_are_in_their_place_where_it_is_on():
    plain, more = active_features(True), active_features(True, switched_on=("due", "als"))
    assert set(more) - set(plain) == {"due", "due_rank", "als", "als_rank"}
    assert list(more) == [one.name for one in CATALOGUE if one.name in more]
    whole = active_features(True, switched_on=OPTIONAL, with_sessions=True, on=SPARE)
    assert whole == tuple(one.name for one in CATALOGUE)
    assert "due" not in active_features(True, ("due",), switched_on=("due",))
    assert "fresh" not in active_features(True, with_text=False, switched_on=OPTIONAL)


def test_features_of_sessions_are_in_their_place_where_the_log_has_them():
    more = active_features(True, with_sessions=True, on=SPARE)
    gone = [name for name in more if name not in active_features(True, on=SPARE)]
    assert set(gone) == names(session=True) != set()
    assert list(more) == [one.name for one in CATALOGUE if one.name in more]


def test_an_unknown_feature_cannot_be_off():
    with pytest.raises(ConfigError, match="features.off: no feature is called 'item_prise'"):
        active_features(True, ("item_price", "item_prise"))


def test_a_spare_feature_is_there_only_if_it_is_named_and_no_other_can_be_named():
    plain, more = active_features(True), active_features(True, on=["user_decayed"])
    assert set(more) - set(plain) == {"user_decayed"} and not names(spare=True) & set(plain)
    assert list(more) == [one.name for one in CATALOGUE if one.name in more]
    assert "user_decayed" not in active_features(False, on=SPARE)
    for name in ("item_price", "user_decade"):
        with pytest.raises(ConfigError, match=f"features.on: '{name}' is no feature that has"):
            active_features(True, on=["user_decayed", name])
