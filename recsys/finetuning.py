"""The last stage of fine-tuning: the transformer itself learns under the trained head.

Each step encodes one batch of texts of similar length with gradients and puts them into the bank of
all texts' vectors. The loss is then that of the head: a sample of all events, each over all texts
that anybody took. So a text of the batch is the target of its own events, a past item of others and
a negative of the rest, in the right proportions, and it is encoded once for all of them. (With only
the batch's own events, fresh vectors are always targets and those of the bank never: the model
learned to tell fresh from old. With only the batch's texts as negatives it got worse too:
docs/log.md.) A step costs one token batch in memory, whatever the number of events and texts.

What is trained: the last layers, or whatever a `peft` configuration names (LoRA and others), merged
into the weights at the end. `accelerate` places the work: the same code on CPU and GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from recsys.encoder import TextEncoder, apply_head, has_bfloat16, mean_pool
from recsys.errors import ConfigError
from recsys.training import Examples, Tower, TrainingConfig, batch_loss, copy_tower

LAYER_WEIGHT_DECAY = 0.01


def tune_layers(
    encoder: TextEncoder,
    tower: Tower,
    texts: Sequence[str],
    pooled: np.ndarray,
    examples: Examples,
    config: TrainingConfig,
    rng: np.random.Generator,
    on_step: Callable[[int, int, float], None] = lambda texts, total, loss: None,
) -> tuple[TextEncoder, Tower]:
    """Train part of the transformer for `config.layer_passes` passes over the known texts.

    Args:
        encoder: where to start; not changed.
        tower: heads and pooling trained over `pooled`; not changed.
        texts: (n_texts,) the distinct texts.
        pooled: (n_texts, dim) float32 vectors of the encoder.
        examples: what to learn from.
        config: how.
        rng: order, dropout and negatives.
        on_step: called with (texts done, texts in all passes, loss).

    Returns:
        A new encoder under its old head, and the tower that was trained along with it.

    Raises:
        ConfigError: the model has fewer layers, or peft does not know what `config.peft` says.
    """
    accelerator = Accelerator()
    model, trained = trainable(copy.deepcopy(encoder.model), config)
    tower = copy_tower(tower)
    layers = {"params": trained, "lr": config.layer_learning_rate,
              "weight_decay": LAYER_WEIGHT_DECAY}  # fmt: skip
    groups = tower.groups(config.learning_rate / 10, config.weight_decay)
    model, optimiser = accelerator.prepare(model, torch.optim.AdamW([layers, *groups]))
    bank = apply_head(torch.from_numpy(pooled), tower.aligned)
    known, n_events = examples.known, len(examples.target)
    batches = [(known[rows], tokens)
               for rows, tokens in encoder.batches([texts[at] for at in known])]  # fmt: skip
    total, done = config.layer_passes * len(known), 0
    for _ in range(config.layer_passes):
        for turn in rng.permutation(len(batches)):
            place, tokens = batches[turn]
            rows = rng.permutation(n_events)[: config.layer_batch_events]
            fresh = apply_head(_pool(model, tokens), encoder.head.cpu())
            fresh = apply_head(fresh, tower.aligned)
            at = torch.from_numpy(place)
            loss = batch_loss(tower, bank.index_copy(0, at, fresh), examples, rows, config, rng)
            optimiser.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            bank[at] = fresh.detach()
            done += len(place)
            on_step(done, total, float(loss.detach()))
    model = accelerator.unwrap_model(model)
    model = model.merge_and_unload() if config.peft else model
    model = model.requires_grad_(True)
    return TextEncoder(model, encoder.tokenizer, encoder.head, encoder.config), tower


def trainable(model: Any, config: TrainingConfig) -> tuple[Any, list[torch.nn.Parameter]]:
    """Return the model with all but what `config` says frozen, and what is left to train.

    Raises:
        ConfigError: the model has fewer layers, or peft does not know what `config.peft` says.
    """
    if not config.peft:
        return model, unfreeze(model, config.layers)
    from peft import get_peft_config, get_peft_model  # slow to load, and rarely asked for

    try:
        model = get_peft_model(model, get_peft_config(dict(config.peft)))
    except (KeyError, TypeError, ValueError) as error:
        kind = config.peft.get("peft_type")
        reason = str(error)
        if isinstance(error, KeyError):  # peft looks the type up, and says no more than its name
            reason = "peft_type is missing" if kind is None else f"peft knows no peft_type {kind!r}"
        raise ConfigError(
            f"training.peft: {reason}; it takes what a peft configuration takes, for example "
            '{ peft_type = "LORA", r = 8, target_modules = ["query", "value"] }'
        ) from error
    return model, [parameter for parameter in model.parameters() if parameter.requires_grad]


def check_trainable(model: Any, config: TrainingConfig) -> None:
    """Refuse, before any work, what `tune_layers` would refuse; the model is not changed."""
    if config.layers or config.peft:
        trainable(copy.deepcopy(model), config)


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


def _pool(model: torch.nn.Module, tokens: Any) -> torch.Tensor:
    """Encode a token batch with gradients: (n, dim) on the CPU, where the bank is."""
    device = next(model.parameters()).device
    moved = tokens.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
        hidden = model(**moved).last_hidden_state
    return mean_pool(hidden.float(), moved["attention_mask"]).cpu()
