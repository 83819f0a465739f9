"""Teaches projector and language model to answer; the tower stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from llava.tokenizer import SentencePieceTokenizer
from runners.lab.demo.answering import answer_lessons
from runners.lab.demo.examples import Lesson, picture_lesson, text_lesson
from runners.lab.demo.model import DemoModel
from runners.lab.demo.schedule import share_of_peak

_logger = logging.getLogger(__name__)
_STEPS_BETWEEN_LINES = 50
_MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguagePlan:
    """How much is learned, and how fast.

    Attributes:
        seed: Seed of the training pictures and questions.
        num_steps: Number of optimizer steps.
        num_pictures: Pictures of a step.
        num_texts: Lessons without a picture of a step.
        num_examples: Questions of a picture.
        num_text_examples: Questions of a lesson without one.
        learning_rate: Peak of Adam, for embeddings, norms and biases.
        matrix_learning_rate: Peak of Muon, for the weight matrices.
        weight_decay: Of the weight matrices; it keeps outliers small, which quantization needs.
        num_warmup_steps: Steps until the peak.
    """

    seed: int = 0
    num_steps: int = 4500
    num_pictures: int = 7
    num_texts: int = 1
    num_examples: int = 10
    num_text_examples: int = 20
    learning_rate: float = 2e-3
    matrix_learning_rate: float = 3e-3
    weight_decay: float = 0.1
    num_warmup_steps: int = 30


def learn_language(
    model: DemoModel,
    tokenizer: SentencePieceTokenizer,
    plan: LanguagePlan,
    after_step: Callable[[int], None],
) -> None:
    """Runs the plan; `after_step` gets the number of steps done so far."""
    optimizers = _build_optimizers(model, plan)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: share_of_peak(step, plan.num_steps, plan.num_warmup_steps)
        )
        for optimizer in optimizers
    ]
    trained = [
        p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]
    ]
    losses: list[float] = []
    for step in range(plan.num_steps):
        loss = lesson_loss(model, tokenizer, *_lessons_of_step(plan, step))
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, _MAX_GRADIENT_NORM)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        losses.append(loss.item())
        if (step + 1) % _STEPS_BETWEEN_LINES == 0:
            _logger.info("step %d: loss %.4f", step + 1, sum(losses) / len(losses))
            losses.clear()
        after_step(step + 1)


def lesson_loss(
    model: DemoModel, tokenizer: SentencePieceTokenizer, *groups: Sequence[Lesson]
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


def _build_optimizers(model: DemoModel, plan: LanguagePlan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, Adam for everything else that is trained."""
    model.tower.requires_grad_(False)
    named = [*model.projector.named_parameters(), *model.language.named_parameters()]
    ends = ("embed_tokens.weight", "lm_head.weight")
    matrices = [p for name, p in named if p.ndim == 2 and not name.endswith(ends)]
    others = [p for name, p in named if p.ndim != 2 or name.endswith(ends)]
    return [
        torch.optim.Muon(
            matrices,
            lr=plan.matrix_learning_rate,
            weight_decay=plan.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            others, lr=plan.learning_rate, betas=(0.9, 0.99), weight_decay=plan.weight_decay / 2
        ),
    ]
