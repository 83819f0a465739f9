"""Teaches the vision tower what each patch shows, before the language model sees any of it."""

from __future__ import annotations

import logging

import torch
from torch import nn
from torch.nn import functional

from evals.demo.drawing import CELL_SIZE, IMAGE_SIZE
from evals.demo.scene import COLORS, SHAPES, Scene
from runners.lab.demo.model import PATCH_SIZE, DemoModel
from runners.lab.demo.schedule import share_of_peak

_logger = logging.getLogger(__name__)
_NUM_WARMUP_STEPS = 50
_SIDE = IMAGE_SIZE // PATCH_SIZE
_PATCHES_PER_CELL = CELL_SIZE // PATCH_SIZE
NUM_CLASSES = (len(COLORS) + 1, len(SHAPES) + 1, _SIDE, _SIDE)
"""Of color, shape (both with "nothing"), row and column of a patch."""


def patch_labels(scene: Scene) -> torch.Tensor:
    """(P, 4) int64: color, shape, row and column of each patch."""
    labels = torch.zeros(_SIDE, _SIDE, 4, dtype=torch.long)
    labels[..., 2] = torch.arange(_SIDE)[:, None]
    labels[..., 3] = torch.arange(_SIDE)[None, :]
    for thing in scene.things:
        top, left = thing.row * _PATCHES_PER_CELL, thing.column * _PATCHES_PER_CELL
        cell = labels[top : top + _PATCHES_PER_CELL, left : left + _PATCHES_PER_CELL]
        cell[..., 0] = 1 + list(COLORS).index(thing.color)
        cell[..., 1] = 1 + SHAPES.index(thing.shape)
    return labels.flatten(0, 1)


def warm_up_tower(
    model: DemoModel,
    pixel_values: torch.Tensor,
    labels: torch.Tensor,
    *,
    num_steps: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
) -> float:
    """Trains the tower on (N, 3, H, W) pixels and (N, P, 4) labels; returns the last accuracy."""
    heads = nn.ModuleList(nn.Linear(model.tower.config.hidden_size, count) for count in NUM_CLASSES)
    parameters = [*model.tower.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.05
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: share_of_peak(step, num_steps, _NUM_WARMUP_STEPS)
    )
    accuracy = 0.0
    for step in range(num_steps):
        chosen = torch.randint(len(pixel_values), (batch_size,))
        features = model.select_features(pixel_values[chosen])
        loss, num_right = torch.zeros(()), 0
        for i, head in enumerate(heads):
            logits, wanted = head(features).flatten(0, 1), labels[chosen][..., i].flatten()
            loss = loss + functional.cross_entropy(logits, wanted)
            num_right += int((logits.argmax(-1) == wanted).sum())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        accuracy = num_right / labels[chosen].numel()
        if step % 100 == 99:
            _logger.info(
                "tower step %d: loss %.4f, patch accuracy %.4f", step + 1, loss.item(), accuracy
            )
    return accuracy
