"""Trials begin with the config, depend on the seed alone, and go on where they were stopped."""

import contextlib
import csv
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tomllib
from itertools import count
from pathlib import Path

import mlflow
import numpy as np
import pytest

from pipelines.settings import RunConfig
from pipelines.targets import RANKER
from pipelines.tuning import Target, finished, importance, open_study, search
from recsys.ranker import RankerConfig

MANY = 14  # more than Optuna draws at random before it learns


def silent(*_):
    pass


def measure(settings, watch):
    """Be best at a learning rate of .1 and 20 leaves, the same for all of 30 requests but noise."""
    far = np.log(settings.learning_rate / 0.1) ** 2 + np.log(settings.leaves / 20) ** 2
    return 1 / (1 + far) + np.linspace(0, 0.1, 30), settings.leaves


def of(measure=measure, rows="rows"):
    """Return a search over the ranker's settings."""
    return Target("ranker", "ranker", RANKER, "trees", 2, rows, np.arange(30), measure, "of a test")


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A run folder whose database has its tables, which takes seconds, and nothing in them."""
    folder = tmp_path_factory.mktemp("empty")
    open_study(RunConfig(run_dir=folder), "none", of(), silent)
    with contextlib.closing(sqlite3.connect(folder / "tuning.db")) as database:
        for table in ("study_user_attributes", "study_directions", "studies"):
            database.execute(f"DELETE FROM {table}")
        database.commit()
    return folder


@pytest.fixture
def config_in(empty, tmp_path):
    """Make configs of runs with folders of their own."""

    def make(name="run", **values):
        shutil.copytree(empty, tmp_path / name)
        return RunConfig(run_dir=tmp_path / name, **values)

    return make


@pytest.fixture(scope="module")
def whole(empty, tmp_path_factory):
    """The trials of a search that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(empty, folder)
    return tuned(RunConfig(run_dir=folder))


def tuned(config, trials=MANY, measure=measure, **options):
    """Open the study of a config, search, return what is in the file then."""
    study, target = open_study(config, "data", of(), silent), of(measure)
    search(study, config, target, trials, options.pop("minutes", None), silent, **options)
    return told(open_study(config, "data", of(), silent))


def told(study):
    return [(one.number, one.settings, one.ndcg.tolist(), one.steps) for one in finished(study)]


def test_one_seed_the_same_trials_another_seed_others(config_in, whole):
    assert len(whole) == MANY and tuned(config_in("again")) == whole
    other = tuned(config_in("other", seed=1))
    assert other[0] == whole[0]
    assert all(a[1] != b[1] for a, b in zip(whole[1:], other[1:], strict=True))


@pytest.mark.parametrize(
    ("at", "how"), [(0, KeyboardInterrupt), (3, RuntimeError), (12, KeyboardInterrupt)]
)
def test_what_was_stopped_in_a_trial_goes_on_as_if_it_had_not_been(config_in, whole, at, how):
    calls = count()

    def stopping(settings, watch):
        if next(calls) == at:
            raise how
        return measure(settings, watch)

    config = config_in()
    study = open_study(config, "data", of(), silent)
    if at and how is KeyboardInterrupt:
        assert search(study, config, of(stopping), MANY, None, silent)
    else:
        with pytest.raises(how):
            search(study, config, of(stopping), MANY, None, silent)
    assert len(finished(study)) == at
    assert tuned(config) == whole


def test_the_first_trial_is_the_config_inside_the_ranges_or_not(config_in):
    ranker = RankerConfig(l2=0, leaves=500, learning_rate=0.0612345)
    [(number, settings, _, trees)] = tuned(config_in(ranker=ranker), 1)
    assert (number, trees) == (0, 500)
    assert settings == {name: getattr(ranker, name) for name in RANKER}


def test_what_is_drawn_is_in_the_ranges_and_written_with_three_digits(whole):
    for _, settings, *_ in whole[1:]:
        RankerConfig(**settings)
        for name, value in settings.items():
            assert RANKER[name].low <= value <= RANKER[name].high
            assert isinstance(value, int) or float(f"{value:.3g}") == value


def test_it_finds_what_random_does_not_and_says_what_matters_once_there_are_enough(config_in):
    config = config_in()
    tuned(config, 9)
    assert importance(open_study(config, "data", of(), silent)) == {}
    score = [np.mean(ndcg) for _, _, ndcg, _ in tuned(config, 40)]
    assert max(score[10:]) > max(score[:10]) > score[0]
    share = importance(open_study(config, "data", of(), silent))
    assert share.keys() == RANKER.keys() and sum(share.values()) == pytest.approx(1)
    assert next(iter(share)) == "learning_rate"


def test_trials_of_an_earlier_run_count(config_in):
    config, said = config_in(), []
    tuned(config, 4)
    study = open_study(config, "data", of(), silent)
    new = []
    search(study, config, of(), 6, None, lambda *words: said.append(words), new.append)
    assert [one.number for one in new] == [4, 5]
    assert said[0][:3] == ("tune ranker", 4, 6) and "goes on after 4 trials" in said[0][3]
    assert len(tuned(config, 3)) == 6


def test_no_trial_begins_after_the_minutes_but_the_first_always_does(config_in):
    clock = count(step=25)  # read once for all, then each time it decides, twice a trial
    assert len(tuned(config_in("a"), minutes=3, clock=lambda: next(clock))) == 3
    assert len(tuned(config_in("b"), minutes=0)) == 1


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"ranker": RankerConfig(negatives=9)}, "ranker"),
        ({"ranker": RankerConfig(label_gain=(0.0, 2.0))}, "ranker"),
    ],
)
def test_another_config_is_another_study_and_it_is_said(config_in, changed, named):
    config, said = config_in(), []
    tuned(config, 2)
    show = lambda *words: said.append(words[3])  # noqa: E731
    assert len(finished(open_study(config, "data", of(), show))) == 2 and not said
    assert not finished(open_study(config.model_copy(update=changed), "data", of(), show))
    assert said == [f"a new study; not as in the last: {named}"]


def test_other_data_or_rows_are_another_study_and_it_is_said(config_in):
    config, said = config_in(), []
    show = lambda *words: said.append(words[3])  # noqa: E731
    other = of(rows="other rows")
    open_study(config, "data", of(), show)
    more = config.model_copy(update={"split": config.split.model_copy(update={"share": 0.2})})
    open_study(more, "more data", other, show)
    open_study(more, "more data", of(), show)
    open_study(config, "data", of(), show)  # as the first
    assert said == [f"a new study; not as in the last: {named}"
                    for named in ("data, rows, split", "rows")]  # fmt: skip


def climbing(settings, watch):
    """Reach 1 / (1 + far) in ten steps, half of it in the first."""
    [ndcg, leaves] = measure(settings, watch)
    for step in range(10):
        watch(step, ndcg.mean() * (1 - 0.5**step))
    return ndcg, leaves


def test_what_is_clearly_behind_is_given_up_and_never_chosen(config_in):
    config = config_in()
    found = tuned(config, 30, climbing)
    scores = [np.mean(ndcg) for _, _, ndcg, _ in found if ndcg]
    given_up = [steps for _, _, ndcg, steps in found if not ndcg]
    assert given_up and all(2 <= steps < 10 for steps in given_up)
    assert all(ndcg for *_, ndcg, _ in found[:5])  # what others are held against
    assert max(scores) > np.mean(found[0][2])
    assert [(number, settings) for number, settings, *_ in found] == [
        (number, settings) for number, settings, *_ in tuned(config, 30, climbing)
    ]


def test_giving_up_does_not_depend_on_a_stop_between_trials(config_in):
    config = config_in("stopped")
    for trials in (3, 9, 16):
        stopped = tuned(config, trials, climbing)
    assert stopped == tuned(config_in("whole"), 16, climbing)


@pytest.mark.slow
def test_the_command_is_stopped_and_goes_on(small_world):
    config, folder = small_world.config, small_world.folder
    settings = [f'run_dir="{config.run_dir}"', f'data.events="{folder}/events.parquet"',
                f'data.items="{folder}/items.parquet"', "data.bucket_rows=800",
                "encoder.max_tokens=16", "training.max_epochs=1", "ranker.max_trees=30",
                "evaluation.resamples=50"]  # fmt: skip
    command = [sys.executable, "-m", "recsys.cli", "tune", "ranker"]
    command += [word for one in settings for word in ("--set", one)]
    running = subprocess.Popen([*command, "--trials", "1000"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    for line in running.stderr:
        if re.match(r"tune ranker: [1-9]", line):
            running.send_signal(signal.SIGINT)
            break
    out, err = running.communicate()
    assert running.returncode == 130, err[-3000:]
    assert "the same command again uses what was finished" in err
    done = int(re.search(r"(\d+) trials", out)[1])
    assert done >= 1

    again = subprocess.run([*command, "--trials", str(done + 2)], capture_output=True, text=True,
                           check=False)  # fmt: skip
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"goes on after {done} trials" in again.stderr
    said, _, section = again.stdout.partition("[ranker]")
    assert f"{done + 2} trials" in said
    chosen = RankerConfig(**tomllib.loads(section))
    assert chosen.max_trees == 30
    reports = Path(re.search("the trials: (.+)", said)[1])
    assert str(reports) in out  # one parent run
    assert RankerConfig(**tomllib.loads((reports / "chosen.toml").read_text())["ranker"]) == chosen
    assert (reports / "trials.png").stat().st_size > 5_000
    with (reports / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [str(at) for at in range(done + 2)]

    mlflow.set_tracking_uri(config.tracking_uri)
    nested = f"tags.`mlflow.parentRunId` = '{reports.name}'"
    children = mlflow.search_runs(experiment_names=["recsys"], filter_string=nested,
                                  output_format="list", max_results=done + 10)  # fmt: skip
    children.sort(key=lambda child: int(child.info.run_name.split()[1]))
    assert len(children) == done + 2
    for row, child in zip(rows, children, strict=True):
        assert child.data.params.keys() == RANKER.keys()
        assert child.data.metrics["valid/ndcg_at_10"] == pytest.approx(float(row["ndcg_at_10"]))
        assert child.data.metrics["trees"] == float(row["trees"]) >= 1
        assert child.data.metrics.keys() == {"valid/ndcg_at_10", "trees", "seconds"}
