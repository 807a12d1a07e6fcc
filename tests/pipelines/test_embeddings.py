"""A text is encoded once, ever: what a run finished, also one that was killed, stays finished."""

import hashlib

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipelines import embeddings
from pipelines.embeddings import encode_cached
from recsys.encoder import EncoderConfig, TextEncoder, load_encoder

TEXTS = ["rose seeds", "tulip bulbs", "tennis ball", "yoga mat", "", "a bread knife"]


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Where a machine multiplies in bfloat16, a batch and its padding show in the third digit."""
    monkeypatch.setattr("recsys.encoder.has_bfloat16", lambda device: False)


@pytest.fixture(scope="module")
def encoder():
    """The packaged encoder's tokenizer and the first of its layers."""
    found = load_encoder(EncoderConfig(max_tokens=8))
    found.model.encoder.layer = found.model.encoder.layer[:1]
    return found


class Killed(Exception):
    pass


def run(encoder, texts, folder, kill_after=None):
    """Encode; return the vectors and the counts told, the first one for what the cache held."""
    told = []

    def on_batch(texts, tokens, padding):
        assert bool(tokens) == bool(told)  # only what was encoded has tokens
        told.append(texts)
        if kill_after is not None and sum(told) > kill_after:
            raise Killed

    return encode_cached(encoder, texts, folder, on_batch), told


def digest(text):
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def stored(folder):
    return [text for part in folder.glob("*/part-*.parquet")
            for text in pq.read_table(part)["text"].to_pylist()]  # fmt: skip


def test_the_cache_gives_what_the_encoder_gives_and_encodes_nothing_twice(encoder, tmp_path):
    vectors, told = run(encoder, TEXTS, tmp_path)
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS), atol=1e-6)
    assert told[0] == 0 and sum(told) == len(TEXTS)
    again, told = run(encoder, TEXTS, tmp_path)
    np.testing.assert_array_equal(again, vectors)
    assert told == [len(TEXTS)]
    assert sorted(stored(tmp_path)) == sorted(digest(text) for text in TEXTS)


def test_a_part_is_on_disk_before_it_has_its_name(encoder, tmp_path, synced):
    run(encoder, TEXTS, tmp_path)
    [part] = tmp_path.glob("*/part-*.parquet")
    (temp, before), (_, after) = synced
    assert before == [temp] and after == [part.name] and part.name in temp


def test_only_new_texts_are_encoded_whatever_their_order(encoder, tmp_path):
    first, _ = run(encoder, TEXTS[:4], tmp_path)
    order = [5, 2, 0, 4]
    vectors, told = run(encoder, [TEXTS[at] for at in order], tmp_path)
    assert told[0] == 2 and sum(told) == 4
    np.testing.assert_array_equal(vectors[1:3], first[[2, 0]])
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS)[order], atol=1e-6)


def test_a_killed_run_goes_on_after_its_last_whole_part(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "PART_TEXTS", 2)
    with pytest.raises(Killed):
        run(encoder, TEXTS, tmp_path, kill_after=4)
    assert len(stored(tmp_path)) == 4
    vectors, told = run(encoder, TEXTS, tmp_path)
    assert told[0] == 4 and sum(told) == len(TEXTS)
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS), atol=1e-6)
    assert len(stored(tmp_path)) == len(set(stored(tmp_path))) == len(TEXTS)


def test_a_part_that_was_half_written_is_not_read(encoder, tmp_path, monkeypatch):
    def half(table, path):
        path.write_bytes(b"PAR1 and no more")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", half)
        with pytest.raises(Killed):
            run(encoder, TEXTS, tmp_path)
    told = run(encoder, TEXTS, tmp_path)[1]
    assert told[0] == 0 and sum(told) == len(TEXTS)
    assert run(encoder, TEXTS, tmp_path)[1] == [len(TEXTS)]


def test_encoders_do_not_share_vectors(encoder, tmp_path):
    run(encoder, TEXTS, tmp_path)
    head = torch.eye(encoder.dim).roll(1, 0)
    other = TextEncoder(encoder.model, encoder.tokenizer, head, encoder.config)
    vectors, told = run(other, TEXTS, tmp_path)
    assert told[0] == 0 and len(list(tmp_path.iterdir())) == 2
    np.testing.assert_allclose(vectors, other.encode(TEXTS), atol=1e-6)


def test_a_hash_with_zero_bytes_is_a_hash_like_any_other(encoder, tmp_path):
    """NumPy drops trailing zero bytes of a string on reading it, and Parquet wants all 16."""
    ends, begins, inside = ["t102399", "t164077"], ["t29303", "t119676"], ["t37876", "t99652"]
    assert {digest(text)[-2:] for text in ends} == {b"\0\0"}
    assert {digest(text)[:2] for text in begins} == {b"\0\0"}
    assert {digest(text)[7:9] for text in inside} == {b"\0\0"}
    texts = [*ends, *begins, *inside, "t380", "t0"]  # the hash of t380 ends with one zero byte
    vectors, _ = run(encoder, texts, tmp_path)
    assert sorted(stored(tmp_path)) == sorted(digest(text) for text in texts)
    again, told = run(encoder, texts[::-1], tmp_path)
    assert told == [len(texts)]
    np.testing.assert_array_equal(again, vectors[::-1])
    np.testing.assert_allclose(vectors, encoder.encode(texts), atol=1e-6)


def test_no_texts_have_no_vectors(encoder, tmp_path):
    assert run(encoder, [], tmp_path)[0].shape == (0, encoder.dim)


def test_no_texts_have_no_vectors_beside_a_full_cache(encoder, tmp_path):
    run(encoder, TEXTS, tmp_path)
    assert run(encoder, [], tmp_path)[0].shape == (0, encoder.dim)
