"""The demo reads through the real API, in a process of its own."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from serving.client import RecommendationClient, Recommendations
from serving.demo import list_beside_purchases, read_api
from serving.errors import ServingError
from serving.publish import publish


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[serving]\nport = 1\n")  # the demo takes a free one
    return path


def test_the_command_serves_while_the_block_lasts(sealed, store, config):
    publish(sealed("r1", lists={7: [1, 2, 3]}, fallback=[9]), store)
    with read_api(config, store) as client:
        assert [item.item_id for item in client.recommend(7, k=2).items] == [1, 2]
        assert client.recommend(0).is_fallback
    with pytest.raises(ServingError, match="is the read API running there"):
        RecommendationClient(client._base_url).health()


def test_a_server_that_does_not_start_is_said_in_words(store, config):
    config.write_text("[serving]\nprot = 1\n")
    with pytest.raises(ServingError, match=r"did not start.*serve\.log"), read_api(config, store):
        pass
    assert "did you mean serving.port?" in config.with_name("serve.log").read_text()


def drawn(folder, answer):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(list_beside_purchases(folder, answer))
    return captured.get()


def test_a_list_stands_beside_what_was_bought_before_it_was_made(tmp_path):
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    pq.write_table(pa.table({"user_id": [7, 7, 7], "item_id": [1, 2, 3], "timestamp": days}),
                   tmp_path / "events.parquet")  # fmt: skip
    items = {"item_id": [1, 2, 3], "title": ["Ice", "Bread [rye]", "Later"],
             "package_size": ["22 LB", None, None]}  # fmt: skip
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    item = {"rank": 1, "item_id": 1, "score": 0.25, "source": "repeat", "reason": "of [old]"}
    answer = {"user_id": "7", "is_fallback": False, "release_id": "r", "model": "m/1",
              "as_of": "2026-01-03T00:00:00+00:00", "items": [item]}  # fmt: skip
    text = drawn(tmp_path, Recommendations.model_validate(answer))
    assert "household 7: by m/1" in text and "0.250" in text and "of [old]" in text
    assert text.index("2026-01-02") < text.index("2026-01-01") and "Bread [rye]" in text
    assert "Ice, 22 lb" in text and "Later" not in text  # bought at the moment itself: not before
    unknown = answer | {"user_id": "0", "is_fallback": True}
    assert "the fallback list" in drawn(tmp_path, Recommendations.model_validate(unknown))
