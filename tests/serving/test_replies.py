"""What is written by hand is what the models of the client say, to the letter."""

from hypothesis import given
from hypothesis import strategies as st

from serving.client import ManyRecommendations, Recommendations
from serving.lists import Answer, Counts, ListedItem
from serving.manifest import Manifest, Model
from serving.replies import etag_of, list_reply, lists_reply
from serving.standby import Found

RELEASE = Manifest(
    schema_version=2,
    release_id="r1", created_at="2026-08-20T03:00:00Z", as_of="2026-08-20T00:00:00Z",
    model=Model(name="recsys", version="3", uri="models:/recsys/3", run_id="run"),
    data_fingerprint="data", config_fingerprint="config", code_commit="1", k=20,
    counts=Counts(users=1, rows=1, items_listed=1), files=(), metrics={},
)  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"]))
ids = st.integers(-(2**63), 2**63 - 1) | texts
items = st.builds(
    ListedItem, st.integers(1, 1000), ids, st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.floats(0, 1), texts, texts, texts,
)  # fmt: skip
answers = st.builds(Answer, ids, st.booleans(), st.lists(items, max_size=3))


@given(st.lists(answers, min_size=1, max_size=3), st.sampled_from(["", "the store is gone"]))
def test_the_bytes_are_those_of_the_models(lists, failure):
    found = Found(RELEASE, lists, 0.25, failure)
    one, many = list_reply(found, "abc", None).body, lists_reply(found, "abc").body
    assert Recommendations.model_validate_json(one).model_dump_json().encode() == one
    read = ManyRecommendations.model_validate_json(many)
    assert read.model_dump_json().encode() == many
    for place, (answer, mine) in enumerate(zip(read.answers, lists, strict=True)):
        kind = "degraded" if failure else "fallback" if mine.is_fallback else "own"
        assert answer.attribution_id == f"r1~{kind}~abc.{place}"
        assert (answer.user_id, answer.degraded) == (mine.user_id, bool(failure))
        assert [tuple(dict(item).values()) for item in answer.items] == mine.items


def test_the_etag_is_of_the_release_and_of_how_it_could_be_read():
    found = Found(RELEASE, [Answer("ann", False, [])], 0.0, "")
    etag = etag_of(found)
    assert etag == b'W/"r1"' != etag_of(found._replace(failure="gone"))
    for header, status in ((etag, 304), (b'"r1"', 304), (b'"r0", W/"r1"', 304), (b"*", 304),
                           (b'"r0"', 200), (b"", 200), (None, 200)):  # fmt: skip
        reply = list_reply(found, "abc", header)
        assert (reply.status, bool(reply.body)) == (status, status == 200), header
        assert dict(reply.headers)[b"etag"] == etag
