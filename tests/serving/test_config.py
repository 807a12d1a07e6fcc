"""The reading side finds its table in a config that it cannot otherwise understand."""

import pytest

from pipelines.settings import GateLimits, RunConfig
from serving.config import find_release, load_gates, load_serving
from serving.errors import NoReleaseError, ServingError
from serving.settings import ApiConfig, GateConfig, ServingConfig


@pytest.fixture
def run_toml(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[split]\nwho_knows = 1\n[serving]\nstore = 'kept'\nk = 5\n")
    return path


def test_without_a_file_everything_is_the_default():
    assert load_serving(None) == ServingConfig()


def test_only_the_serving_table_is_looked_at(run_toml):
    assert load_serving(run_toml) == ServingConfig(store="kept", k=5)


def test_an_option_is_stronger_than_an_override_and_that_than_the_file(run_toml):
    found = load_serving(
        run_toml, ["serving.k=6", "serving.k=7", "serving.port=1"], port=2, host=None
    )
    assert found == ServingConfig(store="kept", k=7, port=2)


def test_values_are_toml_and_else_strings(run_toml):
    assert load_serving(run_toml, ["serving.store=a b/c"]).store == "a b/c"
    assert load_serving(run_toml, ["serving.store='a=b'"]).store == "a=b"


def test_the_table_of_the_api_is_set_like_any_other(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[serving]\nk = 5\n[serving.api]\nopen = true\nmax_requests = 3\n")
    found = load_serving(path, ["serving.api.max_requests=4"])
    assert found == ServingConfig(k=5, api=ApiConfig(open=True, max_requests=4))
    for override, said in (("serving.api.opne=true", "did you mean serving.api.open"),
                           ("serving.k.x=1", "serving.k is a value, not a table")):  # fmt: skip
        with pytest.raises(ServingError, match=said):
            load_serving(path, [override])


def test_all_that_is_wrong_is_said_at_once(run_toml):
    with pytest.raises(ServingError) as error:
        load_serving(run_toml, ["serving.stor=x", "serving.k=0", "serving.zzz=1"])
    assert sorted(str(error.value).splitlines()) == [
        f"{run_toml}: serving.k: found 0, expected greater than or equal to 1",
        f"{run_toml}: serving.stor: unknown key; did you mean serving.store?",
        f"{run_toml}: serving.zzz: unknown key; known here: "
        "serving.releases, serving.remote, serving.store, serving.host, serving.port, serving.k, "
        "serving.api",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("serving = 3", "found 3, expected a table"),
        ("[serving", "is not TOML"),
        (None, "cannot be"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, text, said):
    path = tmp_path / "run.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ServingError, match=rf"run\.toml: .*{said}"):
        load_serving(path)


@pytest.mark.parametrize("override", ["k=1", "serving.k", "serving.=1", "split.k=1"])
def test_an_override_of_something_else_is_refused(override):
    with pytest.raises(ServingError, match=r"expected serving\.key=value"):
        load_serving(None, [override])


def test_entrances_are_a_table_of_their_own(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[serving]\nk = 'wrong'\n[gates]\noverlap = 0.2\n")
    assert load_gates(path, ["gates.least_users=9"]) == GateConfig(overlap=0.2, least_users=9)
    with pytest.raises(ServingError, match=r"gates.item_shar: .* did you mean gates.item_share"):
        load_gates(path, ["gates.item_shar=1"])
    with pytest.raises(ServingError, match=r"expected gates\.key=value"):
        load_gates(path, ["serving.k=1"])


def test_a_run_knows_the_same_gates_with_the_same_limits_and_is_the_same_run_with_any():
    theirs, ours = (model.model_json_schema() for model in (GateLimits, GateConfig))
    assert theirs["properties"] == ours["properties"] and len(ours["properties"]) > 10
    assert RunConfig(gates=GateLimits(overlap=0.5)).portable() == RunConfig().portable()


def test_the_newest_release_is_the_last_sealed_one(sealed, unsealed):
    folder = sealed("20260102T000000Z-20260103T000000Z")
    sealed("20260101T000000Z-20260104T000000Z")
    unsealed("20260105T000000Z-20260105T000000Z")
    assert find_release(None, folder.parent) == folder


def test_a_release_is_named_by_its_folder_or_by_its_name(sealed, tmp_path):
    folder = sealed("r1")
    assert find_release("r1", folder.parent) == folder
    assert find_release(str(folder), tmp_path / "elsewhere") == folder


def test_no_release_is_said_in_words(tmp_path):
    with pytest.raises(NoReleaseError, match="no sealed release"):
        find_release(None, tmp_path / "nowhere")
