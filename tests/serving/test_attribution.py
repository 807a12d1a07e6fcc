"""An attribution id gives back what it was made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.attribution import Attribution, attribution_id, parse_attribution
from serving.errors import ServingError

releases = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", fullmatch=True)
requests = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
kinds = st.sampled_from(["own", "fallback", "degraded"])


@given(releases, kinds, requests, st.none() | st.integers(0, 999))
def test_every_id_is_understood(release_id, kind, request_id, place):
    text = attribution_id(release_id, kind, request_id, place)
    assert parse_attribution(text) == Attribution(release_id, kind, request_id, place)


@given(st.text().filter(lambda text: text.count("~") != 2))
def test_anything_else_is_refused_in_words(text):
    with pytest.raises(ServingError, match="no attribution id"):
        parse_attribution(text)


@pytest.mark.parametrize(
    "text", ["", "r1", "r1~own", "r1~mine~a", "r1~own~a b", "../r1~own~a", "r1~own~a.01"]
)
def test_what_looks_like_one_is_refused_too(text):
    with pytest.raises(ServingError, match="no attribution id"):
        parse_attribution(text)
