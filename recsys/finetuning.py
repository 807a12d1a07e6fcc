"""The second stage of fine-tuning: the last transformer layers learn under the trained head.

Each step encodes only the texts its events point at, with gradients; they are each other's
negatives. Past items come from a bank of the latest vectors. So a step costs as many forward
passes as it has distinct target texts, whatever the catalogue. (Negatives from the bank taught the
model to tell fresh vectors from old ones instead of taste: docs/log.md.) `accelerate` places the
work: the same code on CPU, one GPU or several.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator

from recsys.encoder import TextEncoder, apply_head, has_bfloat16, mean_pool
from recsys.errors import ConfigError
from recsys.training import Examples, Tower, TrainingConfig, batch_loss, copy_tower


def tune_layers(
    encoder: TextEncoder,
    tower: Tower,
    texts: Sequence[str],
    pooled: np.ndarray,
    examples: Examples,
    config: TrainingConfig,
    rng: np.random.Generator,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> tuple[TextEncoder, Tower]:
    """Train the last `config.layers` transformer layers for `config.layer_steps` steps.

    Args:
        encoder: where to start; not changed.
        tower: head and pooling trained over `pooled`; not changed.
        texts: (n_texts,) the distinct texts.
        pooled: (n_texts, dim) float32 vectors of the encoder.
        examples: what to learn from.
        config: how.
        rng: order, dropout and negatives.
        on_step: called with (step, steps, loss).

    Returns:
        A new encoder under the same head, and the tower that was trained along with it.
    """
    accelerator = Accelerator()
    model = copy.deepcopy(encoder.model)
    trained = unfreeze(model, config.layers)
    tower = copy_tower(tower)
    layers = {"params": trained, "lr": config.layer_learning_rate, "weight_decay": 0.01}
    groups = tower.groups(config.learning_rate / 10, config.weight_decay)
    optimiser = torch.optim.AdamW([layers, *groups])
    model, optimiser = accelerator.prepare(model, optimiser)
    bank = apply_head(torch.from_numpy(pooled), tower.aligned)
    order = rng.permutation(len(examples.target))
    size = config.layer_batch_events
    for step in range(config.layer_steps):
        rows = np.take(order, np.arange(step * size, (step + 1) * size), mode="wrap")
        live = np.unique(examples.target[rows])
        fresh = apply_head(_pool(model, encoder, [texts[at] for at in live]), tower.aligned)
        at = torch.from_numpy(live)
        vectors, theirs = bank.index_copy(0, at, fresh), replace(examples, known=live)
        loss = batch_loss(tower, vectors, theirs, rows, config, rng)
        optimiser.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        bank[at] = fresh.detach()
        on_step(step + 1, config.layer_steps, float(loss.detach()))
    model = accelerator.unwrap_model(model).requires_grad_(True)
    return TextEncoder(model, encoder.tokenizer, encoder.head, encoder.config), tower


def unfreeze(model: torch.nn.Module, layers: int) -> list[torch.nn.Parameter]:
    """Freeze all but the last `layers` transformer layers and return what is left to train."""
    model.requires_grad_(False)
    for layer in last_layers(model, layers):
        layer.requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def last_layers(model: torch.nn.Module, layers: int) -> list[torch.nn.Module]:
    """Return the last `layers` layers of the model's longest stack.

    Raises:
        ConfigError: the model has no stack of that many layers.
    """
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    stack = max(stacks, key=len, default=torch.nn.ModuleList())
    if len(stack) < layers:
        raise ConfigError(
            f"training.layers: {layers} layers cannot be trained, the encoder has {len(stack)}"
        )
    return list(stack[len(stack) - layers :])


def _pool(model: torch.nn.Module, encoder: TextEncoder, texts: list[str]) -> torch.Tensor:
    """Encode texts with gradients: (n, dim) on the CPU, where the bank is."""
    device = next(model.parameters()).device
    pooled = torch.empty(len(texts), encoder.dim)
    for rows, batch in encoder.batches(texts):
        moved = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            hidden = model(**moved).last_hidden_state
        part = mean_pool(hidden.float(), moved["attention_mask"]).cpu()
        pooled = pooled.index_copy(0, torch.from_numpy(rows), part)
    return apply_head(pooled, encoder.head.cpu())
