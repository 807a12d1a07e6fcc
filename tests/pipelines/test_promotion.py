"""A version becomes champion through the gate, by force with a reason, and gives the place back."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import registry, tracking
from pipelines.config import config_toml
from pipelines.promotion import as_tested, demote, promote, version_uri
from recsys.errors import ConfigError

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def shop(small_world, tmp_path_factory):
    """The small world with a second version, whose ranker says the opposite: the challenger."""
    run_dir = tmp_path_factory.mktemp("promotion") / "run"
    run_dir.mkdir()
    shutil.copy(small_world.config.run_dir / "mlflow.db", run_dir)
    for part in ("prepared", "embeddings"):
        shutil.copytree(small_world.config.run_dir / part, run_dir / part)
    promotion = small_world.config.promotion.model_copy(update={"slice_users": 20})
    config = small_world.config.model_copy(update={"run_dir": run_dir, "promotion": promotion})
    _, folder = tracking.find_model(config, "models:/recommender/1")
    worse = run_dir / "worse" / "model"
    shutil.copytree(folder, worse)
    text = re.sub(r"^tree_sizes=.*\n", "", (worse / "ranker.txt").read_text(), flags=re.MULTILINE)
    text = re.sub(r"^leaf_value=(.+)$", _negated, text, flags=re.MULTILINE)
    (worse / "ranker.txt").write_text(text)
    tracking.connect(config)
    with tracking.run("worse", {}) as run_id:
        model_id = registry.log_model(worse, ["u/1"], ["i01"], {})
    assert registry.register("recommender", run_id, model_id).alias == "challenger"
    return config, run_id


def _negated(line):
    return "leaf_value=" + " ".join(str(-float(value)) for value in line[1].split(" "))


def champion(config):
    return tracking.find_model(config, "models:/recommender@champion")[0].version


def test_a_worse_model_is_refused_with_the_reason_and_exit_code_3(shop):
    config, _ = shop
    path = config.run_dir / "config.toml"
    path.write_text(config_toml(config))
    command = [sys.executable, "-m", "recsys.cli", "promote", "challenger", "-c", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr[-3000:]
    assert re.search(r"^NO ndcg_at_10: 0\.\d+, the champion 0\.\d+: -0\.", done.stdout, re.M)
    assert re.search(r"^NO slice user_kind warm: -0\.", done.stdout, re.M)
    for line in (
        "ok features",
        "ok requests",
        "ok full lists",
        "ok items",
        "ok numbers",
        "ok pyfunc",
    ):
        assert f"\n{line}: " in f"\n{done.stdout}"
    assert "refused: models:/recommender/2 does not become champion (ndcg_at_10" in done.stdout
    tracking.connect(config)
    assert registry.versions_by_alias("recommender") == {"champion": "1", "challenger": "2"}
    found = tracking.find_model(config, "models:/recommender/2")[0]
    assert registry.tags_of(found)["gate"] == "refused"


def test_force_needs_a_reason_and_demote_goes_back(shop):
    config, run_id = shop
    for reason in ("", "  "):
        with pytest.raises(ConfigError, match="--force needs --reason"):
            promote(config, run_id, quiet, force=True, reason=reason)
        with pytest.raises(ConfigError, match="demote needs --reason"):
            demote(config, reason)
    with pytest.raises(ConfigError, match="recommender/1 is champion already"):
        promote(config, "1", quiet)
    with pytest.raises(ConfigError, match="the first champion that"):
        demote(config, "why not")

    done = promote(config, run_id, quiet, force=True, reason="a test", who=lambda: "ann")
    assert done.is_champion and "against the gate" in done.said()[-1]
    assert champion(config) == "2"
    aliases = {"champion": "2", "previous": "1"}
    assert registry.versions_by_alias("recommender") == aliases
    tags = registry.tags_of(done.challenger)
    assert (tags["gate"], tags["promoted_by"], tags["took_over_from"]) == ("forced", "ann", "1")
    assert tags["promoted_because"] == "a test"
    assert tags["promoted_at"].startswith("20") and "NO ndcg_at_10" in tags["gate_said"]

    better = promote(config, "1", quiet, who=lambda: "bob")  # than the one that was forced in
    assert better.is_champion and "as it passed the gate" in better.said()[-1]
    assert champion(config) == "1" and registry.tags_of(better.challenger)["gate"] == "passed"

    gone, again = demote(config, "it was a test", lambda: "eve")
    assert (gone.version, again.version, champion(config)) == ("1", "2", "2")
    assert registry.tags_of(gone)["demoted_because"] == "it was a test"


def test_a_version_is_scored_on_the_requests_that_it_was_tested_on(shop):
    config, _ = shop
    versions = [tracking.find_model(config, f"models:/recommender/{n}")[0] for n in (1, 2)]
    assert config.evaluation.max_requests != 7
    evaluation = config.evaluation.model_copy(update={"max_requests": 7})
    other = config.model_copy(update={"evaluation": evaluation})
    assert as_tested(other, versions[0], quiet).evaluation == config.evaluation  # as logged
    assert as_tested(other, versions[1], quiet) == other  # made by no training of ours


def test_a_version_is_found_by_number_alias_run_and_address(shop):
    config, run_id = shop
    for asked in ("2", run_id, "models:/recommender/2"):
        assert version_uri(config, asked) == "models:/recommender/2"
    assert version_uri(config, "champion") == "models:/recommender@champion"
    with pytest.raises(ConfigError, match="registered no version of recommender"):
        version_uri(config, "0" * 32)
    with pytest.raises(ConfigError, match=r"it holds recommender \(versions 2, 1, .*champion = \d"):
        tracking.find_model(config, "models:/recommender/9")
