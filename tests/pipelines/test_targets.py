"""What can be tuned: every setting exists, one measure is what training would reach."""

import numpy as np
import pytest

from pipelines.config import changed
from pipelines.run import Run, method_of, prepare_data
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.targets import ENCODER, RANKER, encoder_target, tune_encoder, tune_ranker
from recsys.errors import ConfigError
from recsys.ranker import RankerConfig
from recsys.training import TrainingConfig


def silent(*_):
    pass


@pytest.mark.parametrize(
    ("ranges", "section"), [(RANKER, RankerConfig()), (ENCODER, TrainingConfig())]
)
def test_every_setting_is_one_of_the_section_and_its_default_in_the_range(ranges, section):
    for name, one in ranges.items():
        value = getattr(section, name)
        assert one.low <= value <= one.high
        assert isinstance(value, int) == isinstance(one.low, int)


def test_a_ranker_trained_elsewhere_is_not_tuned():
    config = RunConfig(ranker=RankerConfig(model="theirs.txt"))
    with pytest.raises(ConfigError, match=r"ranker.model = theirs.txt: .* is not fitted here"):
        tune_ranker(config, 1, None, silent)


@pytest.fixture(scope="module")
def target(small_world):
    config = changed(small_world.config, ["training.layers=0"])
    prepared = prepare_data(config, silent)
    return config, encoder_target(
        Run(config, prepared, method_of(config, prepared), Stages(), silent)
    )


@pytest.mark.slow
def test_a_trial_of_the_encoder_is_watched_by_epoch_and_depends_on_its_settings_alone(target):
    config, search = target
    seen = []
    ndcg, epochs = search.measure(config.training, lambda *said: seen.append(said))
    again, _ = search.measure(config.training, silent)
    np.testing.assert_array_equal(ndcg, again)
    assert [step for step, _ in seen] == list(range(epochs))
    assert len(ndcg) == len(search.user) > 0 and 0 < ndcg.mean() < 1
    other, _ = search.measure(config.training.model_copy(update={"history": 1}), silent)
    assert not np.array_equal(ndcg, other)


@pytest.mark.slow
def test_the_encoder_is_tuned_and_a_section_for_the_config_comes_out(small_world, tmp_path):
    settings = [f'run_dir="{tmp_path}"', "training.layers=0", "training.max_epochs=1"]
    tuned = tune_encoder(changed(small_world.config, settings), 3, None, silent)
    assert len(tuned.trials) == 3 and tuned.trials[0].settings["history"] == 20
    text = (tuned.folder / "chosen.toml").read_text()
    assert text.startswith("[training]") and "max_epochs = 1" in text and "history = " in text
