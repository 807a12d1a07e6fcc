"""The one door to Optuna: the ranker's settings, tried on the valid window over rows made once.

A study lies in a SQLite file in run_dir under the fingerprint of all that its scores depend on, so
a run that was stopped goes on. Each trial draws with a seed made of how many were done before, so
it tries what it would have tried without the stop. The test window is not looked at.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution

from pipelines import tracking
from pipelines.config import fingerprint
from pipelines.figures import draw_trials
from pipelines.halves import Halves, rows_in_halves, texts_of
from pipelines.run import Run, git_commit, method_of, prepare_data
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textmodel import Show
from pipelines.train import fit
from pipelines.trials import (
    Choice,
    Trial,
    choose,
    ranker_toml,
    settings_table,
    verdict,
    write_trials,
)
from recsys.errors import ConfigError
from recsys.ranker import RankerConfig

SPACE: dict[str, FloatDistribution | IntDistribution] = {
    "learning_rate": FloatDistribution(0.02, 0.2, log=True),
    "leaves": IntDistribution(7, 127, log=True),
    "min_rows_in_leaf": IntDistribution(5, 500, log=True),
    "l2": FloatDistribution(0.1, 500.0, log=True),
    "feature_fraction": FloatDistribution(0.3, 1.0),
    "row_fraction": FloatDistribution(0.4, 1.0),
    "truncation": IntDistribution(10, 60),
}
# sections of the config that say why rows are not as they were
EXPLAINING = ("split", "encoder", "training", "state", "candidates", "features", "evaluation")
ENOUGH = 10  # trials, to say what matters
# settings, progress -> (n_requests,) NDCG@10 of each held request, trees
Measure = Callable[[RankerConfig, Show], tuple[np.ndarray, int]]


@dataclass(frozen=True)
class Tuned:
    """What tuning came to."""

    trials: list[Trial]
    choice: Choice
    chosen: RankerConfig  # the config as it is, unless the best is clearly better
    user: np.ndarray  # (n_requests,) int64 of the held requests
    importance: dict[str, float]  # setting -> share in what decides the score; empty: too early
    folder: Path
    stopped: bool  # by Ctrl-C

    def said(self) -> list[Any]:
        """Return what the command prints."""
        return [
            settings_table(self.trials, self.choice, self.user, self.importance),
            verdict(self.choice), f"the trials: {self.folder}", "", ranker_toml(self.chosen, SPACE),
        ]  # fmt: skip


def tune_ranker(config: RunConfig, trials: int, minutes: float | None, show: Show) -> Tuned:
    """Try settings, or go on with that; leave the trials as a table, a picture and MLflow runs.

    Args:
        config: of the run.
        trials: how many there are to be in the end, those of earlier runs counted.
        minutes: no trial begins after so many; None = no limit.
        show: progress.

    Raises:
        ConfigError: no data, a ranker trained elsewhere, or nothing to learn from or measure on.
    """
    if config.ranker.model:
        raise ConfigError(
            f"ranker.model = {config.ranker.model}: a model trained elsewhere is not fitted here, "
            "so there is nothing to tune; leave the key out"
        )
    prepared = prepare_data(config, show)
    run = Run(config, prepared, method_of(config, prepared), Stages(), show)
    halves = rows_in_halves(run, texts_of(run))
    study = open_study(config, prepared.manifest.fingerprint, halves, show)
    tracking.connect(config)
    tags = {"study": study.study_name, "data_fingerprint": prepared.manifest.fingerprint[:16],
            "git_commit": git_commit()}  # fmt: skip

    def log(trial: Trial) -> None:
        with tracking.run(f"trial {trial.number}", tags, nested=True):
            tracking.log_params(trial.settings)
            values = {"trees": trial.trees, "seconds": trial.seconds}
            tracking.log_metrics({"valid/ndcg_at_10": trial.score} | values)

    with tracking.run("tune ranker", tags, again="study") as run_id:
        stopped = search(study, config, measure_on(halves, run), trials, minutes, show, log)
        done, user = finished(study), halves.held.user
        choice = choose(done, user, config.seed, config.evaluation.resamples)
        chosen = config.ranker
        if choice.is_clear:
            chosen = chosen.model_copy(update=choice.best.settings)
        folder = config.run_dir / "reports" / run_id
        tuned = Tuned(done, choice, chosen, user, importance(study), folder, stopped)
        write_trials(done, folder / "trials.csv")
        draw_trials([one.score for one in done], [one.seconds for one in done],
                    folder / "trials.png")  # fmt: skip
        (folder / "chosen.toml").write_text(ranker_toml(chosen, SPACE) + "\n")
        tracking.log_folder(folder)
        tracking.log_metrics({"valid/ndcg_at_10": choice.best.score, "trials": len(done)})
    return tuned


def measure_on(halves: Halves, run: Run) -> Measure:
    """Return what fits a ranker by some settings and measures it on the held half."""

    def measure(settings: RankerConfig, show: Show) -> tuple[np.ndarray, int]:
        config = run.config.model_copy(update={"ranker": settings})
        rows = ({"full": halves.train}, {"full": halves.stop})
        ranker = fit(replace(run, config=config, show=show), "full", halves.features, *rows)
        held = halves.held
        score = ranker.scores(held.table, held.request, run.method.first_pass)
        return held.ndcg(score), ranker.trees

    return measure


def open_study(config: RunConfig, data: str, halves: Halves, show: Show) -> optuna.Study:
    """Open the study of these rows and settings, or begin one and say what is not as it was.

    Args:
        config: of the run; the study is in `tuning.db` in its folder.
        data: fingerprint of the prepared data.
        halves: what trials learn from and are measured on.
        show: progress.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config.run_dir.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{(config.run_dir / 'tuning.db').resolve()}")
    parts = {"data": data, "rows": halves.fingerprint(), "seed": str(config.seed),
             "ranker": fingerprint(config.ranker), "the ranges": _digest(repr(SPACE))}  # fmt: skip
    name = f"ranker {_digest(repr(parts))[:16]}"
    earlier = optuna.get_all_study_names(storage)
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize",
                                load_if_exists=True)  # fmt: skip
    if name not in earlier:
        for section in EXPLAINING:
            parts[section] = fingerprint(getattr(config, section))
        study.set_user_attr("parts", parts)
        if earlier:
            last = optuna.load_study(study_name=earlier[-1], storage=storage).user_attrs
            before = last.get("parts", {})  # none if it was killed at once
            changed = [part for part, value in parts.items() if before.get(part) != value]
            show("tune ranker", 0, 0, f"a new study; not as in the last: {', '.join(changed)}")
    return study


def search(
    study: optuna.Study, config: RunConfig, measure: Measure, trials: int, minutes: float | None,
    show: Show, log: Callable[[Trial], None] = lambda trial: None,
    clock: Callable[[], float] = time.monotonic,
) -> bool:  # fmt: skip
    """Try settings, first those of the config, until there are `trials`.

    Returns:
        Whether Ctrl-C came before.

    Raises:
        KeyboardInterrupt: it came before the first trial was done.
    """
    began, done = clock(), finished(study)
    drawing = optuna.create_study(direction="maximize")  # in memory; the file gets what is done
    drawing.add_trials(study.get_trials(deepcopy=False))
    if done:
        show("tune ranker", len(done), trials, f"goes on after {len(done)} trials; {_note(done)}")
    try:
        while not done or (
            len(done) < trials and (minutes is None or clock() - began < 60 * minutes)
        ):
            asked, settings = _draw(drawing, config, len(done))

            def tell(task: str, tree: int, most: int, note: str) -> None:
                words = f"trial {len(done)}, tree {tree}; {_note(done)}"
                show("tune ranker", len(done), trials, words)

            since = clock()
            ndcg, trees = measure(config.ranker.model_copy(update=settings), tell)
            trial = Trial(len(done), settings, ndcg, trees, clock() - since)
            log(trial)
            asked.set_user_attr("trial", vars(trial) | {"ndcg": ndcg.tolist()})
            study.add_trial(drawing.tell(asked, trial.score))
            done.append(trial)
            show("tune ranker", len(done), trials, _note(done))
    except KeyboardInterrupt:
        if not done:
            raise
        return True
    return False


def finished(study: optuna.Study) -> list[Trial]:
    """Return the trials that were measured, in order."""
    found = [one.user_attrs["trial"] for one in study.get_trials(deepcopy=False)]
    return [Trial(**one | {"ndcg": np.array(one["ndcg"])}) for one in found]


def importance(study: optuna.Study) -> dict[str, float]:
    """Return setting -> share in what decides the score, largest first."""
    if len(finished(study)) < ENOUGH:
        return {}
    return optuna.importance.get_param_importances(study)


def _draw(
    study: optuna.Study, config: RunConfig, number: int
) -> tuple[optuna.Trial, dict[str, float]]:
    """Draw the settings of the next trial; those of the config first, outside the ranges or not."""
    now = {name: getattr(config.ranker, name) for name in SPACE}
    if not number:
        study.enqueue_trial({name: min(max(value, SPACE[name].low), SPACE[name].high)
                             for name, value in now.items()})  # fmt: skip
    seed = np.random.SeedSequence([config.seed, number]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(seed))
    asked = study.ask(dict(SPACE))
    # three digits, so that what is pasted is what was measured
    drawn = {name: value if isinstance(value, int) else float(f"{value:.3g}")
             for name, value in asked.params.items()}  # fmt: skip
    return asked, drawn if number else now


def _note(done: list[Trial]) -> str:
    """Say how good it is by now."""
    if not done:
        return "the config as it is"
    best = max(done, key=lambda trial: trial.score)
    return f"best NDCG@10 {best.score:.4f} in trial {best.number}, now {done[0].score:.4f}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
