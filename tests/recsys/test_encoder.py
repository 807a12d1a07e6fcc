"""A text has one vector, whatever stands beside it, and the same one after saving and loading."""

import socket

import numpy as np
import pytest
import torch

from recsys.encoder import (
    PACKAGED,
    EncoderConfig,
    TextEncoder,
    apply_head,
    load_encoder,
    mean_pool,
    stacked,
    with_head,
)
from recsys.errors import ConfigError

TEXTS = ["rose", "red rose seeds for the garden", "", "tennis ball", "rose bush", "ball " * 40]


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Where a machine multiplies in bfloat16, a batch and its padding show in the third digit."""
    monkeypatch.setattr("recsys.encoder.has_bfloat16", lambda device: False)


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(EncoderConfig(max_tokens=16))


@pytest.fixture(scope="module")
def head(encoder):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(encoder.dim, encoder.dim, generator=rng) / encoder.dim**0.5


def test_the_packaged_encoder_needs_no_network_and_knows_what_is_alike(monkeypatch):
    def no_network(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    encoder = load_encoder(EncoderConfig())
    rose, bush, ball = encoder.encode(["rose seeds", "a bush of roses", "tennis ball"])
    assert encoder.dim == len(rose) == 384
    assert rose @ bush > rose @ ball


def test_a_batch_equals_one_by_one(encoder):
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_neither_order_nor_batch_size_matters(encoder):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    small = TextEncoder(encoder.model, encoder.tokenizer, encoder.head,
                        encoder.config.model_copy(update={"batch_tokens": 64}))  # fmt: skip
    assert len(list(small.batches(TEXTS))) > 1
    shuffled = small.encode([TEXTS[at] for at in order])
    np.testing.assert_allclose(shuffled, encoder.encode(TEXTS)[order], atol=1e-5)


def test_vectors_have_length_one_also_that_of_no_text(encoder, head):
    for some in (encoder, with_head(encoder, head)):
        vectors = some.encode(TEXTS)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_every_text_is_in_one_batch_within_the_budget_and_reported(encoder):
    config = EncoderConfig(max_tokens=16, batch_tokens=64)
    small = TextEncoder(encoder.model, encoder.tokenizer, encoder.head, config)
    texts, done = [*TEXTS, *(f"item number {at}" for at in range(20))], []
    small.encode(texts, lambda *counts: done.append(counts))
    rows = [rows for rows, _ in small.batches(texts)]
    assert sorted(np.concatenate(rows)) == list(range(len(texts)))
    assert [some for some, _, _ in done] == [len(some) for some in rows]
    full = [batch["attention_mask"] for _, batch in small.batches(texts)]
    assert [tokens for _, tokens, _ in done] == [int(mask.sum()) for mask in full]
    assert [sum(some[1:]) for some in done] == [mask.numel() for mask in full]
    assert all(batch["input_ids"].numel() <= 64 for _, batch in small.batches(texts))


def test_a_text_is_read_up_to_the_last_token_allowed(encoder):
    a, b, c = encoder.encode(["ball " * 20, "ball " * 40, "ball " * 20 + "rose"])
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(a, c, atol=1e-5)


def test_the_mean_is_over_real_tokens_only():
    hidden = torch.tensor([[[1.0], [3.0], [99.0]], [[5.0], [98.0], [97.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert mean_pool(hidden, mask).tolist() == [[(1 + 3) / 2], [5 / 1]]


def test_a_head_moves_the_vector_and_zero_leaves_it(encoder, head):
    pooled = torch.tensor([[3.0, 4.0]])
    turn = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    moved = torch.tensor([3.0, 4 + 3])
    torch.testing.assert_close(apply_head(pooled, turn)[0], moved / moved.norm())
    torch.testing.assert_close(apply_head(pooled, torch.zeros(2, 2)), pooled / 5)
    plain, headed = encoder.encode(TEXTS), with_head(encoder, head)
    by_hand = apply_head(torch.from_numpy(plain), head).numpy()
    np.testing.assert_allclose(headed.encode(TEXTS), by_hand, atol=1e-5)
    again = with_head(headed, torch.zeros_like(head))
    np.testing.assert_array_equal(again.encode(TEXTS), plain)


def test_a_dense_module_that_is_no_head_is_refused_in_words(encoder, tmp_path):
    encoder.save(tmp_path)
    said = tmp_path / "2_Dense/config.json"
    said.write_text(said.read_text().replace("linear.Identity", "activation.Tanh"))
    with pytest.raises(ConfigError, match="2_Dense is not a 384 x 384 matrix without bias"):
        load_encoder(encoder.config.model_copy(update={"model": str(tmp_path)}))


def test_two_heads_stacked_are_one(head):
    rng = torch.Generator().manual_seed(1)
    pooled, second = (torch.randn(n, len(head), generator=rng) for n in (5, len(head)))
    one_by_one = apply_head(apply_head(pooled, head), second / 20)
    torch.testing.assert_close(apply_head(pooled, stacked(head, second / 20)), one_by_one)


def test_a_saved_encoder_gives_the_same_vectors_with_its_head(encoder, head, tmp_path):
    headed = with_head(encoder, head)
    headed.save(tmp_path)
    loaded = load_encoder(encoder.config.model_copy(update={"model": str(tmp_path)}))
    np.testing.assert_allclose(loaded.encode(TEXTS), headed.encode(TEXTS), atol=1e-5)
    torch.testing.assert_close(loaded.head, head, atol=1e-6, rtol=0)
    assert np.abs(loaded.encode(TEXTS) - encoder.encode(TEXTS)).max() > 0.01


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_sentence_transformers_reads_the_same_vectors(encoder, head, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    headed = with_head(encoder, head)
    headed.save(tmp_path)
    theirs = library.SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(theirs, headed.encode(TEXTS), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "why"), [("{}", "no config.json in it"), ("{}/none", "no such folder"),
                      ("~/no such folder", "no such folder"), ("no/such model", "")]
)  # fmt: skip
def test_an_unknown_model_is_refused_in_words(name, why, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    where = name.format(tmp_path)
    said = rf"encoder.model: cannot load .*\({why}.*name a folder"
    with pytest.raises(ConfigError, match=said) as error:
        load_encoder(EncoderConfig(model=where))
    assert repr(where) in str(error.value) and PACKAGED in str(error.value)


def test_the_fingerprint_changes_with_everything_that_changes_a_vector(encoder, head):
    other = load_encoder(EncoderConfig(max_tokens=16))
    assert other.fingerprint() == encoder.fingerprint()
    weight = next(iter(other.model.parameters()))
    with torch.no_grad():
        weight[0, 0] += 1e-3
    longer = encoder.config.model_copy(update={"max_tokens": 17})
    more_at_once = encoder.config.model_copy(update={"batch_tokens": 64})

    def under(config):
        return TextEncoder(encoder.model, encoder.tokenizer, encoder.head, config).fingerprint()

    before = load_encoder(encoder.config)
    before.tokenizer.backend_tokenizer.normalizer = None  # capitals stay: as many tokens, others
    prints = [encoder.fingerprint(), other.fingerprint(), with_head(encoder, head).fingerprint(),
              under(longer), before.fingerprint()]  # fmt: skip
    assert len(set(prints)) == len(prints)
    encoder.encode(TEXTS)
    assert encoder.fingerprint() == prints[0]
    assert under(more_at_once) == encoder.fingerprint()
