"""A manifest is understood whole, or refused in words; never anything else."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.errors import DamagedReleaseError
from serving.manifest import Forced, read_manifest
from serving.release import open_release

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner,
                                                                max_size=3),
    max_leaves=8,
)  # fmt: skip
fuzz = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def paths(value, path=()):
    """Return the way to every value inside a manifest."""
    inner = value.items() if isinstance(value, dict) else enumerate(value or []) \
        if isinstance(value, list) else []  # fmt: skip
    return [path, *(way for key, one in inner for way in paths(one, (*path, key)))]


def refusal(content):
    """Return why a manifest is refused, empty if it is not; any other error is a failure."""
    try:
        read_manifest(content, "manifest.json")
    except DamagedReleaseError as error:
        return str(error)
    return ""


@pytest.fixture
def written(sealed):
    """The bytes of a good manifest."""
    return (sealed() / "manifest.json").read_bytes()


@fuzz
@given(content=st.binary(max_size=200))
def test_bytes_that_are_no_manifest_are_refused_in_words(content):
    said = refusal(content)
    assert said.startswith("manifest.json: ") and "\n" not in said


@fuzz
@given(data=st.data(), value=ANY)
def test_a_manifest_with_any_value_anywhere_is_read_or_refused_in_words(written, data, value):
    manifest = json.loads(written)
    *way, last = data.draw(st.sampled_from([path for path in paths(manifest) if path]))
    place = manifest
    for key in way:
        place = place[key]
    place[last] = value
    said = refusal(json.dumps(manifest).encode())
    assert not said or (said.startswith("manifest.json: ") and "\n" not in said)


def test_version_2_had_no_statistics_and_version_3_must(written):
    content = json.loads(written)
    del content["statistics"], content["reach"], content["forced"]
    assert "statistics are missing" in refusal(json.dumps(content).encode())
    content["schema_version"] = 2
    assert read_manifest(json.dumps(content).encode(), "here").statistics is None


def test_a_reason_is_more_than_nothing():
    with pytest.raises(ValueError, match="at least 1 character"):
        Forced(reason="", by="me@here", at="2026-08-20T03:00:00Z", failed=())


def test_the_copy_of_a_store_without_its_reason_is_what_was_sealed(sealed):
    manifest = open_release(sealed())
    forced = Forced(reason="r", by="me@here", at="2026-08-20T03:00:00Z", failed=("coverage",))
    copy = manifest.model_copy(update={"forced": forced})
    assert copy != manifest and copy.as_sealed() == manifest
