"""The one door to Optuna: settings of one section of the config, tried on the valid window.

A study lies in a SQLite file in run_dir under the fingerprint of all that its scores depend on, so
a run that was stopped goes on. Each trial draws with a seed made of how many were done before, so
it tries what it would have tried without the stop. A trial that is clearly behind the others at the
same step is given up. The test window is not looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from pydantic import BaseModel

from pipelines import tracking
from pipelines.config import fingerprint
from pipelines.figures import draw_importance, draw_trials
from pipelines.run import Run, git_commit
from pipelines.settings import RunConfig
from pipelines.textmodel import Show
from pipelines.trials import (
    Choice,
    Range,
    Trial,
    choose,
    section_toml,
    settings_table,
    verdict,
    write_trials,
)

Watch = Callable[[int, float], None]  # (step, score by then): may end the trial
# settings, watch -> (n_requests,) NDCG@10 of each held request, steps that were kept
Measure = Callable[[Any, Watch], tuple[np.ndarray, int]]

# sections of the config that say why what trials learn from is not as it was
EXPLAINING = ("split", "encoder", "training", "state", "candidates", "features", "evaluation")
ENOUGH = 10  # trials, to say what matters
BEFORE_GIVING_UP = 5  # whole trials that others are held against


@dataclass(frozen=True)
class Target:
    """What is tuned: a section of the config, in which ranges, and how a trial is measured."""

    name: str  # as the command calls it
    section: str  # of RunConfig
    ranges: dict[str, Range]
    steps: str  # what a trial has more or fewer of: trees, epochs
    patience: int  # steps before which no trial is given up
    learns_from: str  # fingerprint of what trials learn from and are measured on
    user: np.ndarray  # (n_requests,) int64 of the held requests
    measure: Measure
    requests: str  # in words, what the held requests are

    def now(self, config: RunConfig) -> BaseModel:
        """Return the section as it is."""
        section: BaseModel = getattr(config, self.section)
        return section


@dataclass(frozen=True)
class Tuned:
    """What tuning came to."""

    target: Target
    trials: list[Trial]
    choice: Choice
    chosen: BaseModel  # the section as it is, unless the best is clearly better
    importance: dict[str, float]  # setting -> share in what decides the score; empty: too early
    folder: Path
    stopped: bool  # by Ctrl-C

    def said(self) -> list[Any]:
        """Return what the command prints."""
        target = self.target
        table = settings_table(self.trials, self.choice, target.section, target.steps,
                               f"{len(target.user):,} requests,\n{target.requests}",
                               self.importance)  # fmt: skip
        return [table, verdict(self.choice), f"the trials: {self.folder}", "",
                section_toml(target.section, self.chosen, target.ranges)]  # fmt: skip


def tune(run: Run, target: Target, trials: int, minutes: float | None) -> Tuned:
    """Try settings, or go on with that; leave the trials as tables, pictures and MLflow runs.

    Args:
        run: whose config and data.
        target: what to tune.
        trials: how many there are to be in the end, those of earlier runs counted.
        minutes: no trial begins after so many; None = no limit.
    """
    config, data = run.config, run.prepared.manifest.fingerprint
    study = open_study(config, data, target, run.show)
    tracking.connect(config)
    tags = {"study": study.study_name, "data_fingerprint": data[:16], "git_commit": git_commit()}

    def log(trial: Trial) -> None:
        with tracking.run(f"trial {trial.number}", tags, nested=True):
            tracking.log_params(trial.settings)
            values = {target.steps: trial.steps, "seconds": trial.seconds}
            tracking.log_metrics({"valid/ndcg_at_10": trial.score} | values)

    with tracking.run(f"tune {target.name}", tags, again="study") as run_id:
        stopped = search(study, config, target, trials, minutes, run.show, log)
        done = finished(study)
        choice = choose(done, target.user, config.seed, config.evaluation.resamples)
        chosen = target.now(config)
        if choice.is_clear:
            chosen = chosen.model_copy(update=choice.best.settings)
        folder = config.run_dir / "reports" / run_id
        tuned = Tuned(target, done, choice, chosen, importance(study), folder, stopped)
        _write(tuned)
        tracking.log_folder(folder)
        tracking.log_metrics({"valid/ndcg_at_10": choice.best.score, "trials": len(done)})
    return tuned


def _write(tuned: Tuned) -> None:
    """Leave the trials, the pictures and the chosen section in the folder of the run."""
    target, folder = tuned.target, tuned.folder
    write_trials(tuned.trials, target.steps, folder / "trials.csv")
    whole = [one for one in tuned.trials if not one.given_up]
    draw_trials([one.score for one in whole], [one.seconds for one in whole],
                f"Settings of {target.section}", folder / "trials.png")  # fmt: skip
    if tuned.importance:
        draw_importance(tuned.importance, folder / "importance.png")
    text = section_toml(target.section, tuned.chosen, target.ranges)
    (folder / "chosen.toml").write_text(text + "\n")


def open_study(config: RunConfig, data: str, target: Target, show: Show) -> optuna.Study:
    """Open the study of this target, or begin one and say what is not as it was.

    Args:
        config: of the run; the study is in `tuning.db` in its folder.
        data: fingerprint of the prepared data.
        target: what is tuned.
        show: progress.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config.run_dir.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{(config.run_dir / 'tuning.db').resolve()}")
    section = target.section
    parts = {"data": data, "rows": target.learns_from, "seed": str(config.seed),
             section: fingerprint(target.now(config)),
             "the ranges": _digest(repr(target.ranges))}  # fmt: skip
    name = f"{target.name} {_digest(repr(parts))[:16]}"
    earlier = [one for one in optuna.get_all_study_names(storage)
               if one.startswith(f"{target.name} ")]  # fmt: skip
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize",
                                load_if_exists=True)  # fmt: skip
    if name not in earlier:
        for explaining in EXPLAINING:
            parts.setdefault(explaining, fingerprint(getattr(config, explaining)))
        study.set_user_attr("parts", parts)
        if earlier:
            last = optuna.load_study(study_name=earlier[-1], storage=storage).user_attrs
            before = last.get("parts", {})  # none if it was killed at once
            changed = [part for part, value in parts.items() if before.get(part) != value]
            show(f"tune {target.name}", 0, 0,
                 f"a new study; not as in the last: {', '.join(changed)}")  # fmt: skip
    return study


def search(
    study: optuna.Study, config: RunConfig, target: Target, trials: int, minutes: float | None,
    show: Show, log: Callable[[Trial], None] = lambda trial: None,
    clock: Callable[[], float] = time.monotonic,
) -> bool:  # fmt: skip
    """Try settings, first those of the config, until there are `trials`.

    Returns:
        Whether Ctrl-C came before.

    Raises:
        KeyboardInterrupt: it came before the first trial was done.
    """
    began, done, task = clock(), finished(study), f"tune {target.name}"
    pruner = optuna.pruners.MedianPruner(BEFORE_GIVING_UP, target.patience)
    drawing = optuna.create_study(direction="maximize", pruner=pruner)  # the file gets what is done
    drawing.add_trials(study.get_trials(deepcopy=False))
    if done:
        show(task, len(done), trials, f"goes on after {len(done)} trials; {_note(done)}")
    try:
        while not done or (
            len(done) < trials and (minutes is None or clock() - began < 60 * minutes)
        ):
            asked, settings = _draw(drawing, config, target, len(done))
            trial = _tried(asked, settings, config, target, done, trials, show, clock)
            log(trial)
            asked.set_user_attr("trial", vars(trial) | {"ndcg": trial.ndcg.tolist()})
            given_up = optuna.trial.TrialState.PRUNED if trial.given_up else None
            study.add_trial(drawing.tell(asked, None if given_up else trial.score, state=given_up))
            done.append(trial)
            show(task, len(done), trials, _note(done))
    except KeyboardInterrupt:
        if not done:
            raise
        return True
    return False


def _tried(
    asked: optuna.Trial, settings: dict[str, float], config: RunConfig, target: Target,
    done: list[Trial], most: int, show: Show, clock: Callable[[], float],
) -> Trial:  # fmt: skip
    """Measure one choice of settings, or give it up on the way."""
    number, steps = len(done), 0

    def watch(step: int, score: float) -> None:
        nonlocal steps
        words = f"trial {number}, {step} {target.steps}; {_note(done)}"
        show(f"tune {target.name}", number, most, words)
        asked.report(score, step)
        steps = step
        if number and asked.should_prune():
            raise optuna.TrialPruned

    since, ndcg = clock(), np.zeros(0)
    # a TrialPruned that leaves no score is the end of a trial that was given up
    with contextlib.suppress(optuna.TrialPruned):
        ndcg, steps = target.measure(target.now(config).model_copy(update=settings), watch)
    return Trial(number, settings, ndcg, steps, clock() - since)


def finished(study: optuna.Study) -> list[Trial]:
    """Return the trials that were measured, in order."""
    found = [one.user_attrs["trial"] for one in study.get_trials(deepcopy=False)]
    return [Trial(**one | {"ndcg": np.array(one["ndcg"])}) for one in found]


def importance(study: optuna.Study) -> dict[str, float]:
    """Return setting -> share in what decides the score, largest first."""
    if sum(not one.given_up for one in finished(study)) < ENOUGH:
        return {}
    return optuna.importance.get_param_importances(study)


def _draw(
    study: optuna.Study, config: RunConfig, target: Target, number: int
) -> tuple[optuna.Trial, dict[str, float]]:
    """Draw the settings of the next trial; those of the config first, outside the ranges or not."""
    ranges = target.ranges
    now = {name: getattr(target.now(config), name) for name in ranges}
    if not number:
        study.enqueue_trial({name: min(max(value, ranges[name].low), ranges[name].high)
                             for name, value in now.items()})  # fmt: skip
    seed = np.random.SeedSequence([config.seed, number]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(seed))
    asked = study.ask({name: _distribution(one) for name, one in ranges.items()})
    # three digits, so that what is pasted is what was measured
    drawn = {name: value if isinstance(value, int) else float(f"{value:.3g}")
             for name, value in asked.params.items()}  # fmt: skip
    return asked, drawn if number else now


def _distribution(one: Range) -> FloatDistribution | IntDistribution:
    if isinstance(one.low, int) and isinstance(one.high, int):
        return IntDistribution(one.low, one.high, log=one.log)
    return FloatDistribution(one.low, one.high, log=one.log)


def _note(done: list[Trial]) -> str:
    """Say how good it is by now."""
    if not done:
        return "the config as it is"
    best = max((one for one in done if not one.given_up), key=lambda trial: trial.score)
    return f"best NDCG@10 {best.score:.4f} in trial {best.number}, now {done[0].score:.4f}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
