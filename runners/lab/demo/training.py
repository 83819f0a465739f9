"""The whole training of the demo checkpoint: tokenizer, tower, language model, table."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import torch

from evals.demo import ensure_demo_data
from evals.demo.generate import SeedSpace
from llava.tokenizer import SentencePieceTokenizer, load_tokenizer
from runners.errors import ConfigError
from runners.lab.demo.answering import answer_lessons, preprocess
from runners.lab.demo.checkpoint import TOWER_NAME, write_checkpoint, write_tokenizer, write_tower
from runners.lab.demo.examples import Lesson, picture_lesson, text_lesson
from runners.lab.demo.learning import LanguagePlan, learn_language, patch_labels, warm_up_tower
from runners.lab.demo.measuring import measure_checkpoint, render_table
from runners.lab.demo.model import DemoModel
from runners.lab.demo.tokenizer import read_corpus, train_tokenizer
from runners.options.train_demo import TrainDemoConfig

_logger = logging.getLogger(__name__)

# Each purpose has training pictures of its own.
_TOKENIZER_SEED, _TOWER_SEED, _LANGUAGE_SEED = 1, 2, 3
_TRIAL_SEED = 1
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
    output = Path(config.output)
    final, early = output / "llava-demo", output / "llava-demo-early"
    content = train_tokenizer(read_corpus(_TOKENIZER_SEED))
    for folder in (final, early):
        write_tokenizer(content, folder)
    tokenizer = load_tokenizer(final)
    model = DemoModel()
    _train_tower(model, config)
    write_tower(model, output / TOWER_NAME)

    trials = _trial_lessons()

    def after_step(step: int) -> None:
        if step % config.trial_every == 0:
            accuracy = _trial_accuracy(model, tokenizer, trials)
            _logger.info("step %d: trial accuracy %.3f", step, accuracy)
        if step == config.early_step:
            write_checkpoint(model, early)

    plan = LanguagePlan(seed=_LANGUAGE_SEED, num_steps=config.num_steps)
    learn_language(model, tokenizer, plan, after_step)
    write_checkpoint(model, final)
    for folder in (early, final):
        _print_measurement(folder, config.num_images)


def _train_tower(model: DemoModel, config: TrainDemoConfig) -> None:
    lessons = [picture_lesson(_TOWER_SEED, number, 0) for number in range(config.num_tower_images)]
    pixel_values = preprocess([lesson.image for lesson in lessons if lesson.image])
    labels = torch.stack([patch_labels(lesson.scene) for lesson in lessons if lesson.scene])
    accuracy = warm_up_tower(model, pixel_values, labels, num_steps=config.num_tower_steps)
    _logger.info("tower: %.2f%% of patch labels right at the end", 100 * accuracy)
    model.freeze_tower()
    model.scale_projector(pixel_values[:256])  # enough to know a deviation by


def _trial_lessons() -> tuple[list[Lesson], list[Lesson]]:
    space, count = SeedSpace.EVALUATION, _NUM_TRIAL_EXAMPLES
    return (
        [picture_lesson(_TRIAL_SEED, n, count, space) for n in range(_NUM_TRIAL_PICTURES)],
        [text_lesson(_TRIAL_SEED, n, count, space) for n in range(_NUM_TRIAL_TEXTS)],
    )


@torch.no_grad()
def _trial_accuracy(
    model: DemoModel, tokenizer: SentencePieceTokenizer, groups: tuple[list[Lesson], list[Lesson]]
) -> float:
    right = [a.right() for group in groups for a in answer_lessons(model, tokenizer, group)]
    return float(torch.cat(right).float().mean())


def _print_measurement(checkpoint: Path, num_images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data_root = ensure_demo_data(Path(folder), num_images=num_images, seed=0)
        scores = measure_checkpoint(checkpoint, data_root)
    print(f"\n{checkpoint.name}, percent\n{render_table(scores)}")
