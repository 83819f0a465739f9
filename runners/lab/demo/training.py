"""The whole training of the demo checkpoint: tokenizer, tower, language model, table."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import torch
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from evals.demo import ensure_demo_data
from evals.demo.generate import SeedSpace
from llava.tokenizer import load_tokenizer
from runners.errors import ConfigError
from runners.lab.demo.answering import answer_lessons
from runners.lab.demo.checkpoint import write_checkpoint, write_tokenizer, write_tower
from runners.lab.demo.examples import Lesson, picture_lesson, text_lesson
from runners.lab.demo.form import Form
from runners.lab.demo.learning import LanguagePlan, learn_language, patch_labels, warm_up_tower
from runners.lab.demo.llava_1_5 import LLAVA_1_5
from runners.lab.demo.measuring import measure_checkpoint, render_table
from runners.lab.demo.model import DemoModel, preprocess
from runners.lab.demo.onevision import ONEVISION
from runners.lab.demo.tokenizer import read_corpus
from runners.options.train_demo import TrainDemoConfig

FORMS = {"llava-1.5": LLAVA_1_5, "onevision": ONEVISION}
"""By the option that chooses one."""

_logger = logging.getLogger(__name__)

# Each purpose has training pictures of its own.
_TOKENIZER_SEED, _TOWER_SEED, _LANGUAGE_SEED = 1, 2, 3
_TRIAL_SEED = 1
_NUM_TOWER_PICTURES = 64  # of a step
_NUM_TRIAL_PICTURES, _NUM_TRIAL_TEXTS, _NUM_TRIAL_EXAMPLES = 60, 20, 8


def train(config: TrainDemoConfig) -> None:
    """Trains from nothing, writes the checkpoints, prints their accuracies.

    Raises:
        ConfigError: torch is too old.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f"`torch` must be 2.9 or newer, for its Muon, but is {torch.__version__}. "
            "Install the tested versions of constraints.txt."
        )
    torch.set_num_threads(1)  # sums on several threads differ from run to run
    torch.manual_seed(config.seed)
    form, output = FORMS[config.form], Path(config.output)
    final = output / form.checkpoint
    early = None if form.early is None else output / form.early
    written = [folder for folder in (early, final) if folder is not None]
    content = form.train_tokenizer(read_corpus(form, _TOKENIZER_SEED))
    for folder in written:
        write_tokenizer(form, content, folder)
    tokenizer = load_tokenizer(final)
    model = DemoModel(form)
    _train_tower(model, config)
    write_tower(model, output / form.tower)

    trials = _trial_lessons()

    def after_step(step: int) -> None:
        if step % config.trial_every == 0:
            accuracy = _trial_accuracy(model, tokenizer, trials)
            _logger.info("step %d: trial accuracy %.3f", step, accuracy)
        if early is not None and step == config.early_step:
            write_checkpoint(model, early)

    plan = LanguagePlan(seed=_LANGUAGE_SEED, num_steps=config.num_steps)
    learn_language(model, tokenizer, plan, after_step)
    write_checkpoint(model, final)
    for folder in written:
        _print_measurement(form, folder, config.num_images)


def _train_tower(model: DemoModel, config: TrainDemoConfig) -> None:
    lessons = [picture_lesson(_TOWER_SEED, number, 0) for number in range(config.num_tower_images)]
    pixel_values = preprocess(model.form, [lesson.image for lesson in lessons if lesson.image])
    views = pixel_values.flatten(0, -4)
    labels = torch.cat([patch_labels(model.form, one.scene) for one in lessons if one.scene])
    accuracy = warm_up_tower(
        model,
        views,
        labels,
        num_steps=config.num_tower_steps,
        batch_size=_NUM_TOWER_PICTURES * len(views) // len(pixel_values),
    )
    _logger.info("tower: %.2f%% of patch labels right at the end", 100 * accuracy)
    model.round_tower()
    model.scale_projector(views[:256])  # enough to know a deviation by


def _trial_lessons() -> tuple[list[Lesson], list[Lesson]]:
    space, count = SeedSpace.EVALUATION, _NUM_TRIAL_EXAMPLES
    return (
        [picture_lesson(_TRIAL_SEED, n, count, space) for n in range(_NUM_TRIAL_PICTURES)],
        [text_lesson(_TRIAL_SEED, n, count, space) for n in range(_NUM_TRIAL_TEXTS)],
    )


@torch.no_grad()
def _trial_accuracy(
    model: DemoModel, tokenizer: PreTrainedTokenizerBase, groups: tuple[list[Lesson], list[Lesson]]
) -> float:
    right = [a.right() for group in groups for a in answer_lessons(model, tokenizer, group)]
    return float(torch.cat(right).float().mean())


def _print_measurement(form: Form, checkpoint: Path, num_images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data_root = ensure_demo_data(Path(folder), num_images=num_images, seed=0)
        scores = measure_checkpoint(checkpoint, form.conversation, data_root)
    print(f"\n{checkpoint.name}, percent\n{render_table(scores)}")
