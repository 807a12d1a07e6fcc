"""A run is refused in words before it learns anything that its settings cannot use."""

import pytest

from pipelines.run import check_ranker, ranker_from_elsewhere
from pipelines.settings import RunConfig
from recsys.errors import ConfigError
from recsys.ranker import RankerConfig


def test_a_constraint_on_no_feature_is_refused_in_words():
    features = ("item_price", "repeat")
    check_ranker(features, (), RankerConfig(monotone={"repeat": 1}))
    for name, said in (("item_prise", "did you mean 'item_price'"), ("x", "features.md lists")):
        with pytest.raises(ConfigError, match=f"ranker.monotone: no feature .* {name!r}.*{said}"):
            check_ranker(features, (), RankerConfig(monotone={"repeat": 1, name: -1}))
    with pytest.raises(ValueError, match="Input should be -1 or 1"):
        RankerConfig(monotone={"repeat": 2})


def test_a_weight_by_a_column_that_is_not_there_is_refused_in_words():
    config = RankerConfig(weight_by="value")
    check_ranker((), ("user_id", "value"), config)
    with pytest.raises(ConfigError, match="weight_by = 'value', but the events have no such col"):
        check_ranker((), ("user_id", "price"), config)


def silent(*_):
    pass


def test_no_ranker_is_taken_from_elsewhere_by_default():
    assert ranker_from_elsewhere(RunConfig(), ("a",), silent) == {}


def test_a_ranker_that_is_not_there_is_refused_in_words(tmp_path):
    config = RunConfig(ranker=RankerConfig(model=str(tmp_path / "gone.txt")))
    with pytest.raises(ConfigError, match=r"ranker.model = .*gone.txt: cannot be read \(No such"):
        ranker_from_elsewhere(config, ("a",), silent)
