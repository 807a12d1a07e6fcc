"""The command line says what is wrong in words; its reading side needs the base install only."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from recsys import cli
from recsys.terminal import EXTRAS
from serving.release import part_path
from serving.stores import open_reader

ROOT = Path(__file__).parents[2]
TOP = typer.main.get_command(cli.app).commands
COMMANDS = {name: one for name, one in TOP.items() if name != "tune"} | {
    f"tune {name}": one for name, one in TOP["tune"].commands.items()
}
HEAVY = {"duckdb", "fastapi", "httpx", "lightgbm", "mlflow", "numpy", "pandas", "pyarrow",
         "pydantic", "rich", "torch", "transformers"}  # fmt: skip


def write_run(path, **serving):
    lines = [f'{key} = "{value}"' for key, value in serving.items()]
    path.write_text("\n".join(["[serving]", *lines]))


# --- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example_that_is_right(recsys, name):
    code, out, _ = recsys(*name.split(), "--help")
    assert code == 0
    example = next(line for line in out.splitlines() if "Example: " in line)
    called, command = example.replace("Example: ", "").strip(), f"recsys {name}"
    assert f"{called} ".startswith(f"{command} ")
    arguments = called[len(command) :].split()
    COMMANDS[name].make_context(name, arguments)  # refuses unknown options and wrong types


def test_a_summary_is_whole_in_the_list_of_commands(recsys):
    code, out, _ = recsys("--help")
    assert code == 0 and all(name in out for name in TOP) and len(TOP) >= 19
    assert "..." not in out.partition("Commands:")[2]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from recsys import cli; sys.argv = ['recsys', '--help']\n"
        "try: cli.main()\nexcept SystemExit: print(sorted(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    modules = out.stdout.splitlines()[-1]
    assert "'typer'" in modules
    assert not {name for name in HEAVY if f"'{name}'" in modules}


# --- what a user can get wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["publish", "--set", "serving.stor=x"], "unknown key; did you mean serving.store?"),
        (["rollback", "--set", "split.share=1"], "expected serving.key=value"),
        (["releases", "-c", "nowhere.toml"], "nowhere.toml: cannot be read"),
        (["serve", "--port", "99999"], "serving.port: found 99999, expected less than"),
        (["publish"], "runs/releases: no sealed release; recsys recommend makes one"),
        (["publish", "nowhere"], "has no manifest.json"),
        (["rollback"], "no earlier release"),
        (["rollback", "--store", "/proc/nowhere"], "/proc/nowhere: No such file"),
        (["validate", "--set", "split.shar=0.2"], "split.shar: unknown key; did you mean split.sh"),
        (["prepare"], "data.events"),
        (["validate"], "data.events and data.items: missing"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(recsys, arguments, said):
    code, out, err = recsys(*arguments)
    assert (code, out) == (2, "")
    assert said in err and err.startswith("recsys: ") and err.count("\n") == 1


def test_an_unknown_option_is_a_usage_error(recsys):
    code, _, err = recsys("publish", "--stor", "x")
    assert code == 2 and "--stor" in err


def test_every_problem_of_the_input_is_a_line(recsys, tmp_path):
    pq.write_table(pa.table({"item_id": [1, 2], "name": ["a", "b"]}), tmp_path / "items.parquet")
    options = ["--set", "data.events=nowhere", "--set", "data.items=items.parquet"]
    code, out, err = recsys("validate", *options, "--set", 'data.text=["titel"]')
    assert (code, out) == (2, "")
    progress, *lines = err.splitlines()
    assert progress == "validate: check the tables"
    assert len(lines) == 1 + 2  # what was found, then the missing table and column
    assert "nowhere" in err and "titel" in err


def test_good_input_is_counted(recsys, tmp_path):
    items = {"item_id": [1, 2], "title": ["a [1]", "b"]}
    moments = [f"2026-01-{day}T12:00:00Z" for day in (28, 29, 30, 31)]
    events = {"user_id": [1, 1, 2, 2], "item_id": [1, 2, 1, 2], "timestamp": moments}
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    pq.write_table(pa.table(events), tmp_path / "events.parquet")
    (tmp_path / "run.toml").write_text("[data]\nevents='events.parquet'\nitems='items.parquet'")
    options = ["--html", "pages/data.html", "--set", "split.share=0.25"]
    code, out, _ = recsys("validate", *options)  # finds ./run.toml
    assert code == 0
    assert "4 rows of events: 4 kept, of 2 users and 2 items" in out
    assert "2026-01-28 to 2026-01-31: 4 days" in out
    page = (tmp_path / "pages" / "data.html").read_text()
    assert "4 rows of events: 4 kept" in page and page.count("<svg") == 3


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("torch", "prepare", "train"),
        ("fastapi", "serve", "serve"),
        ("optuna", "tune ranker", "tune"),
    ],
)
def test_a_missing_package_names_its_extra(module, command, extra):
    code = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['recsys', *{command!r}.split()]\n"
        "from recsys import cli; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith(f"pip install 'recsys-text[{extra}]'\n")
    assert done.stderr.startswith("recsys: ") and done.stderr.count("\n") == 1


def test_every_module_that_is_not_of_the_training_extra_names_its_own():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    brought = {needs.split(">")[0].removesuffix("-cpu").replace("-", "_"): extra
               for extra, all_ in extras.items() for needs in all_
               if extra not in ("train", "dev", "demo")}  # fmt: skip
    assert brought == EXTRAS


def test_ctrl_c_says_how_to_go_on(recsys, monkeypatch):
    def interrupted(store):
        raise KeyboardInterrupt

    monkeypatch.setattr("serving.folder.FolderStore.releases", interrupted)
    code, _, err = recsys("releases")
    assert code == 130 and err == "stopped; the same command again uses what was finished\n"


# --- publishing ----------------------------------------------------------------------------------


def test_releases_are_published_and_rolled_back_on_the_base_install(
    recsys, tmp_path, base_install, sealed_in
):
    write_run(tmp_path / "run.toml", releases="out", store="kept")
    sealed_in(tmp_path / "out" / "r1")
    sealed_in(tmp_path / "out" / "r2", users=["ann", "bob", "cy"])
    (tmp_path / "out" / "r3").mkdir()  # not sealed
    code, out, _ = recsys("publish", "r1")
    assert code == 0 and "r1 is current now; 2 users" in out
    assert "r2 is current now; 3 users" in recsys("publish")[1]  # the newest sealed one
    assert "r2 was current already" in recsys("publish", tmp_path / "out" / "r2")[1]
    listed = [line for line in recsys("releases")[1].splitlines() if "│ r" in line]
    assert ["current" in line for line in listed] == [False, True]
    assert "r1 is current again" in recsys("rollback")[1]
    with open_reader(tmp_path / "kept") as reader:
        assert reader.release().release_id == "r1"


def test_a_failed_gate_is_exit_code_3_and_a_reason_is_needed_to_publish_all_the_same(
    recsys, tmp_path, base_install, sealed_in
):
    write_run(tmp_path / "run.toml", releases="out", store="kept")
    sealed_in(tmp_path / "out" / "r1", users=[f"u{user:02}" for user in range(60)])
    code, out, err = recsys("publish")
    assert code == 3 and "FAIL  short lists: 1.000, 60 of 60" in out and "skip  overlap" in out
    assert err.startswith("recsys: release r1 is not published") and err.count("\n") == 1
    assert recsys("publish", "--dry-run")[:2] == (3, out)
    assert recsys("publish", "--dry-run", "--set", "gates.short_lists=1")[0] == 0
    for mistake in (["--force"], ["--reason", "x"], ["--force", "--reason", " "]):
        code, _, err = recsys("publish", *mistake)
        assert code == 2 and "--force and --reason TEXT belong together" in err
    assert "no release yet" in recsys("releases")[1]
    code, out, _ = recsys("publish", "--force", "--reason", "a shop of one thing")
    assert code == 0 and "forced, 1 gates failed: a shop of one thing" in out
    assert "r1 is current now; 60 users" in out
    assert "current, forced" in recsys("releases")[1]


def test_options_are_stronger_than_set_and_set_than_the_file(recsys, tmp_path):
    write_run(tmp_path / "run.toml", store="a")
    for options, store in [([], "a"), (["--set", "serving.store=b"], "b"),
                           (["--set", "serving.store=b", "--store", "c"], "c")]:  # fmt: skip
        assert recsys("releases", *options)[1].startswith(f"{store}: no release yet")


def test_a_damaged_release_is_refused_in_words(recsys, tmp_path, sealed_in):
    folder = sealed_in(tmp_path / "runs" / "releases" / "r1")
    part = part_path(folder, 0)
    part.write_bytes(part.read_bytes()[:-1])
    code, out, err = recsys("publish")
    assert code == 3 and out.startswith("FAIL  files: ") and err.count("\n") == 1
    assert "the file changed after the release was sealed" in err


# --- the example ---------------------------------------------------------------------------------


def test_the_example_config_is_right_and_what_it_calls_a_default_is_one(tmp_path):
    from pipelines.config import load_toml
    from pipelines.settings import RunConfig

    text = (ROOT / "examples" / "run.toml").read_text()
    lines = [line[1:] if line[:1] == "#" and line[1:2].isalpha() else line
             for line in text.splitlines()]  # fmt: skip
    assert "\n".join(lines) != text
    (tmp_path / "all.toml").write_text("\n".join(lines))
    as_it_is = load_toml(RunConfig, ROOT / "examples" / "run.toml")
    assert load_toml(RunConfig, tmp_path / "all.toml") == as_it_is
    assert set(as_it_is.data.event_types) == {"view", "click", "purchase", "rating"}
