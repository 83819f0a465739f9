"""How the demo model learns: the tower what each patch shows, then the rest of it to answer."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from evals.demo.drawing import CELL_SIZE, IMAGE_SIZE
from evals.demo.scene import COLORS, SHAPES, Scene
from runners.lab.demo.answering import answer_lessons
from runners.lab.demo.examples import Lesson, picture_lesson, text_lesson
from runners.lab.demo.form import PATCH_SIZE, TOWER_WIDTH, Form
from runners.lab.demo.model import DemoModel

_logger = logging.getLogger(__name__)
_STEPS_BETWEEN_LINES = 50
_MAX_GRADIENT_NORM = 1.0
_LAST_SHARE = 0.02  # of the learning rate's peak
_NUM_TOWER_WARMUP_STEPS, _NUM_WARMUP_STEPS = 50, 30
_WEIGHT_DECAY = 0.1  # of the weight matrices; it keeps outliers small, which quantization needs
_TUNED_TOWER_RATE = 2e-4
_SIDE = IMAGE_SIZE // PATCH_SIZE
_PATCHES_PER_CELL = CELL_SIZE // PATCH_SIZE


def share_of_peak(step: int, num_steps: int, num_warmup_steps: int) -> float:
    """The learning rate of a step as a share of its peak: a short rise, then half a cosine.

    >>> [round(share_of_peak(step, 100, 10), 2) for step in (0, 9, 55, 100)]
    [0.1, 0.98, 0.43, 0.02]
    """
    rise = min(1.0, (step + 1) / num_warmup_steps)
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / num_steps)))
    return rise * (_LAST_SHARE + (1 - _LAST_SHARE) * fall)


def num_classes(form: Form) -> tuple[int, int, int, int]:
    """Of color, shape (both with "nothing"), row and column of a patch in its view."""
    side = form.view_size // PATCH_SIZE
    return len(COLORS) + 1, len(SHAPES) + 1, side, side


def patch_labels(form: Form, scene: Scene) -> torch.Tensor:
    """(T, P, 4) int64: color, shape, row and column of each patch of the views of a scene.

    Row and column are those in the view. In the view of the whole picture, made small, a patch is
    named by what is drawn at its top left corner.
    """
    looks = torch.zeros(_SIDE, _SIDE, 2, dtype=torch.long)
    for thing in scene.things:
        top, left = thing.row * _PATCHES_PER_CELL, thing.column * _PATCHES_PER_CELL
        cell = looks[top : top + _PATCHES_PER_CELL, left : left + _PATCHES_PER_CELL]
        cell[..., 0] = 1 + list(COLORS).index(thing.color)
        cell[..., 1] = 1 + SHAPES.index(thing.shape)
    side = form.view_size // PATCH_SIZE
    starts = range(0, _SIDE, side) if side < _SIDE else range(0)
    tiles = [looks[y : y + side, x : x + side] for y in starts for x in starts]
    views = torch.stack([looks[:: _SIDE // side, :: _SIDE // side], *tiles])  # (T, side, side, 2)
    places = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1)
    return torch.cat([views, places.expand(len(views), -1, -1, -1)], dim=-1).flatten(1, 2)


def warm_up_tower(
    model: DemoModel,
    pixel_values: torch.Tensor,
    labels: torch.Tensor,
    *,
    num_steps: int,
    batch_size: int,
) -> float:
    """Trains the tower on views (N, 3, H, W), labels (N, P, 4); returns the last accuracy."""
    heads = nn.ModuleList(nn.Linear(TOWER_WIDTH, count) for count in num_classes(model.form))
    parameters = [*model.tower.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.05)
    schedule = _schedule(optimizer, num_steps, _NUM_TOWER_WARMUP_STEPS)
    # The heads are thrown away: what they read is what the features have come to hold.
    accuracy = 0.0
    for step in range(num_steps):
        chosen = torch.randint(len(pixel_values), (batch_size,))
        features = model.select_features(pixel_values[chosen])
        loss, num_right = torch.zeros(()), 0
        for i, head in enumerate(heads):
            logits, wanted = head(features).flatten(0, 1), labels[chosen][..., i].flatten()
            loss = loss + functional.cross_entropy(logits, wanted)
            num_right += int((logits.argmax(-1) == wanted).sum())
        _descend(loss, [schedule])
        accuracy = num_right / labels[chosen].numel()
        if step % 100 == 99:
            text = "tower step %d: loss %.4f, patch accuracy %.4f"
            _logger.info(text, step + 1, loss.item(), accuracy)
    return accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguagePlan:
    """How much is learned.

    Attributes:
        seed: Seed of the training pictures and questions.
        num_steps: Number of optimizer steps.
        num_pictures: Pictures of a step.
        num_texts: Lessons without a picture of a step.
        num_examples: Questions of a picture.
        num_text_examples: Questions of a lesson without one.
    """

    seed: int = 0
    num_steps: int = 4500
    num_pictures: int = 7
    num_texts: int = 1
    num_examples: int = 10
    num_text_examples: int = 20


def learn_language(
    model: DemoModel,
    tokenizer: PreTrainedTokenizerBase,
    plan: LanguagePlan,
    after_step: Callable[[int], None],
) -> None:
    """Runs the plan; `after_step` gets the number of steps done so far."""
    optimizers = _build_optimizers(model)
    schedules = [_schedule(one, plan.num_steps, _NUM_WARMUP_STEPS) for one in optimizers]
    losses: list[float] = []
    for step in range(plan.num_steps):
        loss = lesson_loss(model, tokenizer, *_lessons_of_step(plan, step))
        _descend(loss, schedules)
        losses.append(loss.item())
        if (step + 1) % _STEPS_BETWEEN_LINES == 0:
            _logger.info("step %d: loss %.4f", step + 1, sum(losses) / len(losses))
            losses.clear()
        after_step(step + 1)


def lesson_loss(
    model: DemoModel, tokenizer: PreTrainedTokenizerBase, *groups: Sequence[Lesson]
) -> torch.Tensor:
    """Mean cross-entropy of all answer tokens, plus that of all verdicts inside the questions.

    Each group has pictures throughout, or none.
    """
    answers = [answer for group in groups for answer in answer_lessons(model, tokenizer, group)]
    logits = torch.cat([answer.logits for answer in answers])
    loss = functional.cross_entropy(logits, torch.cat([answer.labels for answer in answers]))
    verdicts = torch.cat([answer.verdict_labels for answer in answers])
    if len(verdicts):
        verdict_logits = torch.cat([answer.verdict_logits for answer in answers])
        loss = loss + functional.cross_entropy(verdict_logits, verdicts)
    return loss


def _lessons_of_step(plan: LanguagePlan, step: int) -> tuple[list[Lesson], list[Lesson]]:
    pictures = range(step * plan.num_pictures, (step + 1) * plan.num_pictures)
    texts = range(step * plan.num_texts, (step + 1) * plan.num_texts)
    return (
        [picture_lesson(plan.seed, number, plan.num_examples) for number in pictures],
        [text_lesson(plan.seed, number, plan.num_text_examples) for number in texts],
    )


def _build_optimizers(model: DemoModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, Adam for everything else that is trained."""
    model.tower.requires_grad_(model.form.tunes_tower)
    named = [*model.projector.named_parameters(), *model.language.named_parameters()]
    if model.form.layout.unpads:
        named.append(("image_newline", model.image_newline))
    # Muon is for matrices that map states to states; these two hold a row for each token.
    ends = ("embed_tokens.weight", "lm_head.weight")
    matrices = [p for name, p in named if p.ndim == 2 and not name.endswith(ends)]
    others = [p for name, p in named if p.ndim != 2 or name.endswith(ends)]
    muon = torch.optim.Muon(
        matrices, lr=3e-3, weight_decay=_WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
    )
    groups = [{"params": others, "lr": 2e-3}]
    if model.form.tunes_tower:
        groups.append({"params": list(model.tower.parameters()), "lr": _TUNED_TOWER_RATE})
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=_WEIGHT_DECAY / 2)
    return [muon, adam]


def _schedule(optimizer: torch.optim.Optimizer, num_steps: int, num_warmup_steps: int) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: share_of_peak(step, num_steps, num_warmup_steps))


def _descend(loss: torch.Tensor, schedules: Sequence[LambdaLR]) -> None:
    """One step of every schedule's optimizer; their gradients are clipped together."""
    optimizers = [schedule.optimizer for schedule in schedules]
    trained = [p for one in optimizers for group in one.param_groups for p in group["params"]]
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(trained, _MAX_GRADIENT_NORM)
    for schedule in schedules:
        schedule.optimizer.step()
        schedule.step()
