"""The commands, with data and releases on a real S3 server: nothing is lost, nothing gives away."""

import re

import pytest

from serving.stores import open_reader


@pytest.fixture
def config(bucket, tables_of, tmp_path):
    """Write a small shop's tables to the bucket, and a run.toml that holds the credentials."""
    events, items = tables_of(20)
    for name, table in (("events", events), ("items", items)):
        bucket.put(f"{name}.parquet", table.to_parquet())
    path = tmp_path / "run.toml"
    path.write_text(
        f'run_dir = "run"\n[data]\nevents = "{bucket.uri("events.parquet")}"\n'
        f'items = "{bucket.uri("items.parquet")}"\n[serving]\nreleases = "releases"\n'
        f'store = "store"\nremote = "{bucket.uri("lists")}"\n'
    )
    return path


def test_credentials_are_in_no_output_and_no_file(recsys, config, bucket, tmp_path, sealed_in):
    release = sealed_in(tmp_path / "releases/20260820T000000Z-20260820T030000Z")
    said = []
    for command in (
        ["validate", "--html", "data.html"],
        ["prepare"],
        ["send"],
        ["publish"],
        ["publish", bucket.uri("gone")],
        ["send", "--set", f"serving.k={bucket.uri()}"],
        ["prepare", "--set", f'data.items="{bucket.uri("gone")}"'],
        ["prepare", "--set", f'data.items="{bucket.uri("x")}&regoin=y"'],
        ["prepare", "--set", f'data.itms="{bucket.uri("x")}"'],
        ["prepare", "--set", f'data.users="{bucket.uri("items.parquet")}"'],
    ):
        code, *words = recsys(*command, "-c", config)
        text = "".join(words)
        assert code == (0 if len(said) < 4 else 2), text
        said.append(text)
    assert f"fetch s3://{bucket.name}/events.parquet: 0/" in said[0]
    assert f"release s3://{bucket.name}/lists/{release.name}" in said[2]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != config]
    assert len(files) > 12
    written = [path.read_bytes().decode("latin-1") for path in files]
    for text in [*said, *written, *map(str, files), *bucket.objects()]:
        assert not re.search(r"cr(\+|%2B)et", text)


def test_a_machine_that_only_publishes_fetches_the_newest_release(
    recsys, config, bucket, tmp_path, sealed_in, base_install
):
    for day in ("19", "20"):
        made = sealed_in(tmp_path / f"made/202608{day}T000000Z-20260820T030000Z")
        code, said, _ = recsys("send", made, "-c", config)
        assert (code, said) == (0, f"release s3://{bucket.name}/lists/{made.name}\n")
    for command, current in (
        (["publish", "20260819T000000Z-20260820T030000Z"], "20260819T000000Z-20260820T030000Z"),
        (["publish"], made.name),
        (["rollback"], "20260819T000000Z-20260820T030000Z"),
        (["publish", bucket.uri(f"lists/{made.name}")], made.name),
        (["rollback"], "20260819T000000Z-20260820T030000Z"),
        (["publish", f"s3://{bucket.name}/lists/{made.name}"], made.name),  # as `send` has said
    ):
        code, _, err = recsys(*command, "-c", config)
        assert code == 0, err
        with open_reader("store") as reader:
            assert reader.release().release_id == current


def test_the_doctor_looks_at_places_elsewhere(recsys, config, bucket):
    _, said, _ = recsys("doctor", "-c", config)
    for line in (f"ok data         s3://{bucket.name}/events.parquet can be read; 1 files, 0.0 MiB",
                 f"ok data         s3://{bucket.name}/items.parquet can be read; 1 files, 0.0 MiB",
                 f"ok remote       s3://{bucket.name}/lists can be written to"):  # fmt: skip
        assert line in said.splitlines()


def test_a_mistake_is_said_in_words(recsys, config, bucket, tmp_path):
    nowhere = bucket.uri("lists").replace(bucket.name, "no-such-bucket")
    for command, found in (
        (["send"], "releases: no sealed release"),
        (["send", "--set", 'serving.remote=""'], "serving.remote is empty: set it to where"),
        (["publish"], f"no sealed release, neither in releases nor at s3://{bucket.name}/lists; "),
        (["publish", "20260101"], f"s3://{bucket.name}/lists/20260101 has no manifest.json"),
        (
            ["publish", "1", "--set", f'serving.remote="{nowhere}"'],
            "no-such-bucket/lists/1 has no man",
        ),
        (["publish", "--set", "serving.remote=s4://x"], "s4://x: unknown kind of place"),
    ):
        code, _, err = recsys(*command, "-c", config)
        assert code == 2 and found in err
