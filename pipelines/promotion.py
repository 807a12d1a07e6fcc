"""Champion and challenger: a version passes the gate and takes over, or gives the place back.

The alias `champion` is all that the batch job reads. Every change is written on the versions: who,
when, why, and what the gate said.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pipelines import registry, tracking
from pipelines.gate import Line, judge
from pipelines.runs import fetch, find_runs
from pipelines.settings import RunConfig
from pipelines.textmodel import Show
from pipelines.tracking import CHALLENGER, CHAMPION, PREVIOUS, Registered
from recsys.errors import ConfigError

BEFORE = "took_over_from"  # tag: the version that was champion before
MOST_SAID = 4_000  # characters of a tag


@dataclass(frozen=True)
class Promotion:
    """What became of asking for the champion's place."""

    challenger: Registered
    champion: Registered
    lines: list[Line]
    is_champion: bool

    def said(self) -> list[str]:
        """Return what the command prints."""
        refused = [line for line in self.lines if not line.passed]
        lines = [str(line) for line in self.lines]
        if self.is_champion:
            how = "against the gate" if refused else "as it passed the gate"
            return [*lines, f"{self.challenger.uri} is champion now, {how}; {self.champion.uri} "
                            "was: 'recsys demote --reason ...' goes back"]  # fmt: skip
        why = f"{refused[0].what}: {refused[0].said}"
        why += f"; and {len(refused) - 1} more" if len(refused) > 1 else ""
        return [*lines, f"refused: {self.challenger.uri} does not become champion ({why}); "
                        f"{self.champion.uri} stays"]  # fmt: skip


def promote(
    config: RunConfig, asked: str, show: Show, retrained: bool = False, force: bool = False,
    reason: str = "", who: Callable[[], str] = getpass.getuser,
) -> Promotion:  # fmt: skip
    """Let a version through the gate and make it champion, or refuse it.

    Args:
        config: of the data that it was trained on.
        asked: a version, an alias, models:/NAME/VERSION, or the id of the run that made it.
        show: progress.
        retrained: not to be worse by more than a margin is enough.
        force: take over whatever the gate says; needs a reason.
        reason: kept with the version.
        who: gives the name that is kept.

    Raises:
        ConfigError: no such version, force without a reason, or nothing to decide.
    """
    if force and not reason.strip():
        raise ConfigError("--force needs --reason: it is kept with the version, for who asks later")
    uri = f"models:/{config.tracking.model}@{CHAMPION}"
    champion, old = tracking.find_model(config, uri)
    challenger, new = tracking.find_model(config, version_uri(config, asked))
    if challenger.version == champion.version:
        raise ConfigError(f"{challenger.uri} is champion already")
    try:
        tested = as_tested(config, challenger, show)
        lines = judge(tested, (challenger.uri, new), (champion.uri, old),
                      retrained or config.promotion.retrained, show)  # fmt: skip
    except ConfigError as error:
        if not force:
            raise
        lines = [Line("comparison", False, str(error))]
    passed = all(line.passed for line in lines)
    verdict = "passed" if passed else "forced" if force else "refused"
    told = {"gate": verdict, "gate_said": "\n".join(map(str, lines))}
    if passed or force:
        told |= {BEFORE: champion.version, "promoted_by": who(), "promoted_at": _now(),
                 "promoted_because": reason or "it passed the gate"}  # fmt: skip
    registry.tag_version(challenger, {key: value[:MOST_SAID] for key, value in told.items()})
    if passed or force:
        registry.move_alias(challenger.name, PREVIOUS, champion.version)
        registry.move_alias(challenger.name, CHAMPION, challenger.version)
        if registry.versions_by_alias(challenger.name).get(CHALLENGER) == challenger.version:
            registry.move_alias(challenger.name, CHALLENGER, None)
    return Promotion(challenger, champion, lines, passed or force)


def demote(
    config: RunConfig, reason: str, who: Callable[[], str] = getpass.getuser
) -> tuple[Registered, Registered]:
    """Give the champion's place back to the version that had it before.

    Args:
        config: of the registry.
        reason: kept with the version that goes.
        who: gives the name that is kept.

    Returns:
        The version that goes and the one that is champion again.

    Raises:
        ConfigError: no champion, none before it, or no reason.
    """
    if not reason.strip():
        raise ConfigError("recsys demote needs --reason: it is kept with the version")
    name = config.tracking.model
    now, _ = tracking.find_model(config, f"models:/{name}@{CHAMPION}")
    before = registry.tags_of(now).get(BEFORE)
    if before is None:
        raise ConfigError(
            f"{now.uri} is the first champion that 'recsys promote' knows of; name the one that is "
            "to take over: recsys promote VERSION --force --reason '...'"
        )
    again, _ = tracking.find_model(config, f"models:/{name}/{before}")
    registry.tag_version(now, {"demoted_by": who(), "demoted_at": _now(),
                               "demoted_because": reason[:MOST_SAID]})  # fmt: skip
    registry.move_alias(name, CHAMPION, again.version)
    registry.move_alias(name, PREVIOUS, registry.tags_of(again).get(BEFORE))
    return now, again


def version_uri(config: RunConfig, asked: str) -> str:
    """Turn what a user calls a version into its URI: a number, an alias, a run, or a URI.

    Raises:
        ConfigError: the run made no version.
    """
    name = config.tracking.model
    if asked.startswith("models:/"):
        return asked
    if re.fullmatch(r"[0-9a-f]{32}", asked):
        return registry.version_of_run(config, asked)
    if asked.isdigit():
        return f"models:/{name}/{asked}"
    return f"models:/{name}@{asked}"


def as_tested(config: RunConfig, version: Registered, show: Show) -> RunConfig:
    """Return the config with the sample of requests that a version was tested on.

    The run that made it has logged it. A run of somebody else's has not, and its version is tested
    as the config says.

    Raises:
        ConfigError: the run kept its requests, but its config is gone.
    """
    try:
        [run] = find_runs(config, [version.run_id])
    except ConfigError:
        show("promote", 0, 0, f"careful: the run of {version.uri} kept no requests that it was "
             "tested on; these are as the config says")  # fmt: skip
        return config
    logged = (fetch(config, run, ["config.json"]) / "config.json").read_text()
    evaluation = RunConfig.model_validate_json(logged).evaluation
    return config.model_copy(update={"evaluation": evaluation})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
