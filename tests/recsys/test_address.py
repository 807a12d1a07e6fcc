"""Whatever stands for a password in an address is not shown, logged or fingerprinted."""

from pathlib import Path

import pytest

from pipelines.config import config_toml, fingerprint
from pipelines.settings import RunConfig
from recsys.address import is_elsewhere, shown, without_secrets

SECRETS = ("s3cret", "s3%2Fcr%2Bet", "with/slash", "with@sign", "q?uestion")


@pytest.mark.parametrize("secret", SECRETS)
def test_no_part_of_a_secret_is_shown(secret):
    address = f"s3://key:{secret}@shop/a/b.parquet?endpoint_override=localhost:1"
    assert shown(address) == "s3://shop/a/b.parquet"
    assert without_secrets(f"{address}: is odd").startswith("s3://shop/a/b.parquet?")


def test_what_is_no_secret_stays():
    for path in ("runs/a@b:c?", "s3://shop/a", "/x/y.parquet", "file:///x/y"):
        assert shown(path) == path
    assert shown("gs://anonymous@shop/a") == "gs://shop/a"
    assert without_secrets("s3://shop/a: refused; mail a@b.c") == "s3://shop/a: refused; mail a@b.c"


def test_a_uri_is_elsewhere_unless_it_names_a_file_here():
    assert is_elsewhere("s3://shop/a") and is_elsewhere("gs://shop")
    assert not any(map(is_elsewhere, ("a/b", "/a/b", "file:///a", "C:/a", "a://")))


def config_with(secret):
    uri = f"s3://key:{secret}@shop/x?endpoint_override=here:1"
    return RunConfig.model_validate({
        "data": {"events": [uri, {"path": uri}], "items": uri, "users": uri},
        "serving": {"remote": uri, "store": f"redis://:{secret}@host/0"},
        "batch": {"users": uri, "exclude": uri},
        "tracking": {"uri": f"https://me:{secret}@mlflow"},
    })  # fmt: skip


def test_a_config_that_is_written_down_holds_no_secret_and_one_in_use_does():
    config = config_with("s3cret")
    for text in (config.model_dump_json(), config_toml(config)):
        assert "s3cret" not in text and "here:1" not in text and text.count("s3://shop/x") == 7
    assert "s3cret" in config.data.items.path and "s3cret" in config.serving.remote
    again = RunConfig.model_validate(config.model_dump())
    assert again == config


def test_the_address_of_the_tracking_server_is_printed_without_its_password():
    config = RunConfig.model_validate({"tracking": {"uri": "https://me:cret@mlflow/x"}})
    assert config.shown_tracking_uri == "https://mlflow/x"
    places = Path(__file__).parents[2].glob("pipelines/*.py")
    printed = [path.name for path in places if "{config.tracking_uri}" in path.read_text()]
    assert not printed  # in no message


def test_a_new_password_is_no_new_config():
    one, other = config_with("s3cret"), config_with("another")
    assert fingerprint(one.portable()) == fingerprint(other.portable())
    assert fingerprint(one) == fingerprint(other) != fingerprint(RunConfig())
