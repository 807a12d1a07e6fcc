"""A logged model says what goes in, what comes out, and what it needs."""

from importlib.metadata import version

import pytest

from pipelines.registry import requirements, signature


def test_requirements_are_pinned_to_what_is_installed_and_we_are_not_among_them():
    pins = requirements(["train"])
    assert f"lightgbm=={version('lightgbm')}" in pins and f"pyarrow=={version('pyarrow')}" in pins
    assert len(pins) > 10 and all(pin.count("==") == 1 for pin in pins)
    assert not [pin for pin in pins if pin.startswith(("recsys", "pytest", "fastapi", "ray"))]
    assert {pin.partition("==")[0] for pin in requirements(["train", "ann"])} > {"faiss-cpu"}


@pytest.mark.parametrize("kind", ["string", "long"])
def test_ids_keep_their_kind(kind):
    said = signature(kind, "long")
    assert said.inputs.input_types()[0].name == kind
    assert said.outputs.input_dict()["user_id"].type.name == kind
    assert said.outputs.input_dict()["item_id"].type.name == "long"
    assert not said.inputs.input_dict()["k"].required
    assert {one.name for one in said.params} == {"k", "events", "as_of"}
