import pytest
from pydantic import BaseModel, ConfigDict, Field

from pipelines.config import fingerprint, load_toml
from recsys.errors import ConfigError
from recsys.schema import DataConfig


class Split(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    share: float = Field(0.1, gt=0)
    protocol: str = "auto"


class Run(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    data: DataConfig = DataConfig()
    split: Split = Split()


def load(*overrides, path=None):
    return load_toml(Run, path, list(overrides))


def test_no_file_and_no_override_is_the_defaults():
    assert load() == Run()


def test_an_override_wins_over_the_file_and_the_last_over_the_first(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[split]\nshare = 0.2\nprotocol = 'time'\n")
    assert load(path=path).split == Split(share=0.2, protocol="time")
    assert load("split.share=0.3", "split.share=0.4", path=path).split.share == 0.4


def test_values_are_toml_and_else_strings():
    run = load(
        "data.events=raw/events.parquet",
        "data.text=['title', 'brand']",
        "data.event_types.rating=[{grade=2, min_value=4.0}, {grade=0}]",
        'split.protocol="time"',
    )
    assert [source.path for source in run.data.events] == ["raw/events.parquet"]
    assert run.data.text == ("title", "brand")
    assert [rule.grade for rule in run.data.event_types["rating"]] == [2, 0]
    assert run.split.protocol == "time"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.event=x", "data.event: unknown key; did you mean data.events?"),
        ("split.shar=1", "split.shar: unknown key; did you mean split.share?"),
        ("share=1", "share: unknown key; did you mean split.share?"),
        ("spilt.share=1", "spilt: unknown key; did you mean split?"),
        ("split.zzz=1", "split.zzz: unknown key; known here: split.share, split.protocol"),
        (
            "data.event_types.buy={grade=1, wait=2}",
            "data.event_types.buy.0.wait: unknown key; did you mean data.event_types.buy.0.weight?",
        ),
        ("split.share=abc", "split.share: found 'abc', expected a valid number"),
        ("split.share=0", "split.share: found 0, expected greater than 0"),
        ("split=3", "split: found 3, expected a valid dictionary"),
        ("data.event_types.my buy={}", "data.event_types.my buy.0.grade: missing"),
        ("data.columns.events.user=x", "events has no column 'user'; did you mean 'user_id'"),
        ("split.share", "override 'split.share': expected section.key=value"),
        (".share=1", "expected section.key=value"),
    ],
)
def test_what_is_wrong_is_said_with_its_full_key(override, said):
    with pytest.raises(ConfigError) as error:
        load(override)
    assert said in str(error.value)
    assert "pydantic" not in str(error.value)
    assert error.value.__cause__ is None and error.value.__context__ is None  # no second traceback


def test_an_override_cannot_open_a_value(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("split = 3\n")
    with pytest.raises(ConfigError, match="split is a value, not a section"):
        load("split.share=0.2", path=path)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigError) as error:
        load("split.share=abc", "data.evnts=x", "data.bucket_rows=0")
    assert len(str(error.value).splitlines()) == 3


def test_a_file_that_is_not_there_or_not_toml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read \(No such file"):
        load(path=tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[split\n")
    with pytest.raises(ConfigError, match=r"bad\.toml: is not TOML"):
        load(path=tmp_path / "bad.toml")


def test_the_fingerprint_depends_on_values_only():
    one = load("data.columns.items={title='a', brand='b'}")
    two = load("data.columns.items={brand='b', title='a'}")
    assert fingerprint(one) == fingerprint(two) != fingerprint(Run())
    assert len(fingerprint(one)) == 12 and int(fingerprint(one), 16) >= 0
    assert fingerprint(load("split.share=0.1")) == fingerprint(Run())
