"""The schedules in examples/nightly can be read by what they are for, and call what exists."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from recsys import cli
from serving.errors import GateError

FOLDER = Path(__file__).parent.parent / "examples/nightly"
FILES = sorted(FOLDER.iterdir())


def calls(text):
    """Return the words of every call of recsys in a text."""
    found = re.findall(r"\b(?:recommend|publish) -c [^&'\"\n]+", text)
    return [shlex.split(one) for one in found]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_schedule_recommends_before_it_publishes_with_options_that_exist(path):
    called = calls(path.read_text())
    names = [name for name, *_ in called]
    assert names[0] == "recommend" and names[-1] == "publish"
    commands = typer.main.get_command(cli.app).commands
    for name, *arguments in called:
        commands[name].make_context(name, arguments)  # refuses unknown options


def test_the_dag_is_python_and_its_tasks_run_one_after_the_other():
    module = ast.parse((FOLDER / "airflow_dag.py").read_text())
    tasks = {node.targets[0].id: node.value for node in ast.walk(module)
             if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)}  # fmt: skip
    assert tasks.keys() == {"recommend", "judge", "publish"}
    for name, call in tasks.items():
        given = {one.arg: one.value for one in call.keywords}
        assert given["task_id"].value == name and "bash_command" in given
    assert ast.unparse(module).endswith("recommend >> judge >> publish")


def test_the_cron_job_never_runs_twice_and_does_not_retry_what_would_fail_again():
    job = yaml.safe_load((FOLDER / "cronjob.yaml").read_text())
    assert (job["kind"], job["spec"]["concurrencyPolicy"]) == ("CronJob", "Forbid")
    spec = job["spec"]["jobTemplate"]["spec"]
    [rule] = spec["podFailurePolicy"]["rules"]
    [container] = spec["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert rule["onExitCodes"]["values"] == [GateError.exit_code]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # what the policy needs
    mounts = [mount["name"] for mount in container["volumeMounts"]]
    assert mounts == [volume["name"] for volume in spec["template"]["spec"]["volumes"]]


def test_the_crontab_holds_a_lock_and_publishes_only_whole_lists():
    [line] = [one for one in (FOLDER / "crontab").read_text().splitlines()
              if re.match(r"[\d*]", one)]  # fmt: skip
    assert len(line.split(maxsplit=5)) == 6 and "flock -n" in line
    assert re.search(r"recommend -c run\.toml && .*publish", line)
