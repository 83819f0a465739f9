"""What a run would take, from its questions alone: no weights are loaded, no torch is imported."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from evals.records import Cause, Failure, Sample
from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.generation.plan import Pack
from llava.generation.request import GenerationConfig, Request
from llava.model.checkpoint import Checkpoint
from runners.environment import num_cores
from runners.evaluation.checkpoint import Subject
from runners.evaluation.prompts import PromptRenderer
from runners.evaluation.questions import AskedTask
from runners.evaluation.roofline import (
    CPU_CORE,
    CPU_PACK_TOKENS,
    DEVICES,
    GPU_PACK_TOKENS,
    STAGES,
    Device,
    LanguageShape,
    Roofline,
    TowerShape,
    count_tower_parameters,
    describe_stages,
    overall_s,
    plan_for,
)
from runners.evaluation.work import (
    cut_into_pieces,
    image_tokens,
    most_image_tokens,
    most_tokens,
)
from runners.logs import doing
from runners.options.eval import EvalConfig
from runners.storage.asked import group_by_images

logger = logging.getLogger(__name__)

USUAL_NEW_TOKENS = 4
"""Tokens of a short answer with its end, for benchmarks that ask for a word or a letter."""

_LONG_ANSWER_TASKS = {"mmvet": 150, "llavabench": 200}
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_STORED_BYTES = {"int8": 1.0, "nf4": 0.56, "fp4": 0.56}
_PACK_TOKENS = 8192
_PLANNED_QUESTIONS = 20_000  # others are not tokenized, but taken to be like these
_BESIDE_TEXT = 64  # tokens by which the frames of two prompts with the same number of images differ
_START_S = 10.0
_LOADED_BYTES_PER_S = 1e9
"""How fast a process starts, and weights are read; assumptions, as no disk is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """What one task would take.

    Attributes:
        num_groups: Groups of questions that share their images.
        num_tokens: Tokens of all prompts, images included, as one by one they would be computed.
        num_packed_tokens: Tokens that are computed when each group's beginning is computed once.
        num_new_tokens: Those of all answers, if they are of usual length.
        flops: Of the language model in the packed run, answers included.
        tower_flops: Of vision tower and projector.
        failures: Questions that cannot be asked, by cause; they are in no other number of tokens.
        num_perhaps_too_long: Questions that do not fit if their images get the most tiles.
        num_estimated: Questions whose tokens are estimated by those of the others.
        longest_answer: Tokens that an answer may have at most.
        packs: What would go through a GPU (True) or a CPU (False) at once; of a large task, for
            evenly chosen groups.
    """

    name: str
    num_questions: int
    num_images: int
    num_groups: int
    num_tokens: int
    num_packed_tokens: int
    num_new_tokens: int
    flops: float
    tower_flops: float
    failures: Mapping[str, int] = field(default_factory=dict)
    num_perhaps_too_long: int = 0
    num_estimated: int = 0
    longest_answer: int | None = None
    packs: Mapping[bool, Sequence[Pack]] = field(default_factory=dict)

    @property
    def answer_length(self) -> int:
        """Tokens of an answer, as it is assumed."""
        return self.num_new_tokens // self.num_questions


def describe_run(subject: Subject, tasks: Sequence[AskedTask], settings: EvalConfig) -> str:
    """Returns what a run would take, as text; warns of images that are not there."""
    for task in tasks:
        if missing := list(task.images.missing):
            told = task.images.describe_missing(missing)
            hint = f" {task.task.without_images}".rstrip()
            is_all = len(missing) == len(task.samples)
            what = "No question could be answered." if is_all else "They would count as failed."
            logger.warning("%s: %s %s%s", task.name, told, what, hint)
    renderer, checkpoint = subject.build_renderer(), subject.checkpoint
    plans = []
    for task in tasks:
        longest = task.generation.max_new_tokens
        with doing(f"planning {task.name}"):
            plan = plan_task(task.name, task.samples, renderer, subject, usual_answer(task))
        plans.append(replace(plan, longest_answer=longest))
    for plan in plans:
        for problem in _problems(plan, checkpoint):
            logger.warning("%s: %s", plan.name, problem)
    dtype = subject.dtype(settings.dtype) or settings.device_dtype or "float16"
    memory = memory_bytes(
        LanguageShape.of(checkpoint.config),
        dtype,
        settings.quantization.name,
        count_tower_parameters(checkpoint.tower),
    )
    chosen = choose_devices(settings.device)
    start = {"start": _START_S + memory / _LOADED_BYTES_PER_S}
    times = {
        name: start | predict(plans, checkpoint, device, dtype)
        for name, device in chosen.items()
        if memory <= device.memory_bytes
    }
    return render_plans(plans, memory, {name: times.get(name) for name in chosen})


def choose_devices(asked: str | None) -> dict[str, Device]:
    """Returns the devices to tell of, by name: the kind that the option names, None for all."""
    chosen: dict[str, Device] = {}
    if asked is None or asked.startswith("cuda"):
        chosen |= {f"one {name}": device for name, device in DEVICES.items()}
    if asked is None or asked == "cpu":
        chosen[f"the {num_cores()} cores of this CPU"] = CPU_CORE
    return chosen


def predict(
    plans: Sequence[TaskPlan], checkpoint: Checkpoint, device: Device, dtype: str
) -> dict[str, float]:
    """Returns the seconds of each stage of all tasks on a device; on all cores of a CPU."""
    total = dict.fromkeys(STAGES, 0.0)
    on_gpu = device is not CPU_CORE
    cores = 1 if on_gpu else num_cores()
    tower = _tower_shape(checkpoint)
    num_questions = sum(plan.num_questions for plan in plans)
    for plan in plans:
        roofline = Roofline(
            device=device,
            language=LanguageShape.of(checkpoint.config),
            tower=tower,
            dtype=dtype,
            num_new_tokens=plan.answer_length,
        )
        packs = plan.packs[on_gpu]
        for stage, seconds in roofline.seconds(packs, plan.num_questions, num_questions).items():
            total[stage] += seconds / cores
    return total


def usual_answer(task: AskedTask) -> int:
    """Returns the tokens that an answer is assumed to have; of own questions, as it may have."""
    longest = task.generation.max_new_tokens
    of_kind = USUAL_NEW_TOKENS if task.task.releases else longest
    return min(longest, _LONG_ANSWER_TASKS.get(task.name, of_kind))


def plan_task(
    name: str,
    samples: Sequence[Sample],
    renderer: PromptRenderer,
    subject: Subject,
    answer_length: int = USUAL_NEW_TOKENS,
) -> TaskPlan:
    """Returns what the task of that name would take, with answers of that length."""
    checkpoint = subject.checkpoint
    kept, counted = _Counted(), _Counted()
    images: set[str] = set()
    num_encoded = num_estimated = longest_frame = 0
    keep_every = -(-len(samples) // _PLANNED_QUESTIONS)
    groups = list(group_by_images(samples))
    for number, group in enumerate(groups):
        images.update(group[0].image_keys)
        num_encoded += len(set(group[0].image_keys))
        if number % keep_every == 0:
            kept.add(group, renderer, checkpoint)
            longest_frame = max(kept.longest_prompt + _BESIDE_TEXT, longest_frame)
            continue
        most = _added(group[0], checkpoint)[1] + longest_frame
        if all(_surely_fits(sample, checkpoint.max_prompt_tokens - most) for sample in group):
            num_estimated += len(group)
        else:
            counted.add(group, renderer, checkpoint)
    scale = 1 + num_estimated / kept.num_questions
    packed = counted.num_packed_tokens + round(scale * kept.num_packed_tokens)
    answers = len(samples) * answer_length
    shape = LanguageShape.of(checkpoint.config)
    head = shape.vocab_size * shape.width
    return TaskPlan(
        name=name,
        num_questions=len(samples),
        num_images=len(images),
        num_groups=len(groups),
        num_tokens=counted.num_tokens + round(scale * kept.num_tokens),
        num_packed_tokens=packed,
        num_new_tokens=answers,
        flops=2.0 * ((packed + answers) * shape.num_layer_parameters + answers * head),
        tower_flops=num_encoded * _tower_shape(checkpoint).flops,
        failures=+(kept.failures + counted.failures),
        num_perhaps_too_long=kept.num_perhaps_too_long + counted.num_perhaps_too_long,
        num_estimated=num_estimated,
        packs={
            on_gpu: _pack(samples, kept.requests, checkpoint, shape.width, on_gpu)
            for on_gpu in (True, False)
        },
    )


@dataclass(slots=True, kw_only=True)
class _Counted:
    """Questions whose prompts were tokenized, and what they come to."""

    num_questions: int = 0
    num_tokens: int = 0
    num_packed_tokens: int = 0
    num_perhaps_too_long: int = 0
    longest_prompt: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    requests: dict[str, Request] = field(default_factory=dict)

    def add(
        self, group: Sequence[Sample], renderer: PromptRenderer, checkpoint: Checkpoint
    ) -> None:
        """Counts questions that share their images."""
        longest = checkpoint.max_prompt_tokens
        least, added = _added(group[0], checkpoint)
        prompts = []
        for sample in group:
            # nothing is generated; one token is right for choices, too
            request = renderer.build_request(sample, GenerationConfig(max_new_tokens=1))
            if isinstance(request, Failure):
                self.failures[request.cause] += 1
                continue
            prompts.append(request.prompt_ids)
            self.requests[sample.key] = request
            too_long = len(request.prompt_ids) + least > longest
            self.failures[Cause.PROMPT_TOO_LONG] += too_long
            perhaps = len(request.prompt_ids) + added > longest
            self.num_perhaps_too_long += perhaps and not too_long
        lengths = [len(prompt) for prompt in prompts]
        shared = added + _count_shared(prompts[0].tolist()) if len(prompts) > 1 else 0
        self.num_questions += len(group)
        self.num_tokens += sum(lengths) + len(prompts) * added
        self.num_packed_tokens += shared + sum(length + added - shared for length in lengths)
        self.longest_prompt = max([self.longest_prompt, *lengths])


def _added(sample: Sample, checkpoint: Checkpoint) -> tuple[int, int]:
    """The fewest and most tokens that images add to a prompt, which marks each by one."""
    num_shown = len(sample.images)
    least, most = image_tokens(checkpoint, num_shown)
    return num_shown * (least - 1), num_shown * (most - 1)


def _surely_fits(sample: Sample, longest: int) -> bool:
    """Whether a question can be asked, and has no more tokens than that, without tokenizing it.

    A token is at least one character of ASCII.
    """
    text = sample.text
    return text.isascii() and len(text) <= longest and DEFAULT_IMAGE_TOKEN not in text


def _pack(
    samples: Sequence[Sample],
    kept: Mapping[str, Request],
    checkpoint: Checkpoint,
    width: int,
    on_gpu: bool,
) -> list[Pack]:
    """The packs that workers would make of those samples that are kept, dealt as work is dealt."""
    num_image_tokens = most_image_tokens(checkpoint)
    most = most_tokens(GPU_PACK_TOKENS if on_gpu else CPU_PACK_TOKENS)
    pieces = cut_into_pieces((s for s in samples if s.key in kept), num_image_tokens, most)
    items = [[kept[sample.key] for sample in piece] for piece in pieces]
    return plan_for(items, num_image_tokens=num_image_tokens, width=width, on_gpu=on_gpu)


def num_views(checkpoint: Checkpoint) -> int:
    """Returns how many views of an image the tower gets: 1, or the most that tiling can give."""
    tower = checkpoint.tower
    return 1 if tower is None else checkpoint.layout.num_views(tower.image_size)


def _tower_shape(checkpoint: Checkpoint) -> TowerShape:
    return TowerShape.of(checkpoint.config, checkpoint.tower, num_views(checkpoint))


def _context_field(checkpoint: Checkpoint) -> str:
    """The field of config.json that limits a prompt; without any of them 2,048 tokens do."""
    if checkpoint.config.get("tokenizer_model_max_length"):
        return "tokenizer_model_max_length"
    if checkpoint.native:
        return "text_config.max_position_embeddings"
    is_stated = checkpoint.config.get("max_sequence_length") or checkpoint.family.is_original
    return "max_sequence_length" if is_stated else "max_position_embeddings"


def _problems(plan: TaskPlan, checkpoint: Checkpoint) -> Iterator[str]:
    """Says which questions the run itself would not get an answer to."""
    context = f"{checkpoint.max_prompt_tokens:,} tokens"
    field = _context_field(checkpoint)
    if value := checkpoint.config.get(field.rpartition(".")[2]):
        context += f", as `{field}` is {value:,} in {checkpoint.config_file}"
    for cause, number in plan.failures.items():
        why = f" (they and their images do not fit into {context})"
        told = why if cause == Cause.PROMPT_TOO_LONG else ""
        yield f"{number:,} of {plan.num_questions:,} questions would fail as {cause}{told}."
    if plan.num_perhaps_too_long:
        yield (
            f"{plan.num_perhaps_too_long:,} of {plan.num_questions:,} questions would fail as "
            f"{Cause.PROMPT_TOO_LONG} if their images are cut into the most tiles (the context is "
            f"{context})."
        )


def _count_shared(prompt: Sequence[int]) -> int:
    """The number of ids up to and including the last image, which its group shares."""
    return max((n + 1 for n, token in enumerate(prompt) if token == IMAGE_TOKEN_INDEX), default=0)


def memory_bytes(
    shape: LanguageShape, dtype: str, quantization: str, num_tower_parameters: int = 0
) -> int:
    """Returns about how much memory a worker needs: weights, embeddings, one pack of 8,192 tokens.

    The tower is counted in float32, as the reference runs it.
    """
    item = _BYTES[dtype]
    weights = shape.num_layer_parameters * _STORED_BYTES.get(quantization, item)
    embeddings = 2 * shape.vocab_size * shape.width * item
    cache = 2 * shape.num_layers * shape.key_width * item
    activations = (8 * shape.width + 3 * shape.inner_width) * item
    tower = num_tower_parameters * _BYTES["float32"]
    return int(weights) + embeddings + tower + (cache + activations) * _PACK_TOKENS


def render_plans(
    plans: Sequence[TaskPlan], memory: int, times: Mapping[str, Mapping[str, float] | None]
) -> str:
    """Returns the plan as text: a line a task, then memory, and time on devices.

    Args:
        plans: Of the tasks.
        memory: What a worker needs, in bytes.
        times: Seconds of each stage by device; None where the model does not fit.
    """
    header = (
        f"{'task':>11} {'questions':>11} {'images':>9} {'groups':>9} {'tokens':>15} "
        f"{'packed tokens':>15} {'new tokens':>13} {'PFLOP':>10} {'tower PFLOP':>12}"
    )
    rows = [
        f"{plan.name:>11} {plan.num_questions:>11,} {plan.num_images:>9,} {plan.num_groups:>9,} "
        f"{plan.num_tokens:>15,} {plan.num_packed_tokens:>15,} {plan.num_new_tokens:>13,} "
        f"{plan.flops / 1e15:>10,.2f} {plan.tower_flops / 1e15:>12,.2f}"
        for plan in plans
    ]
    lines = [header, *rows, f"memory of a worker: about {memory / 2**30:.1f} GiB"]
    lines.append(f"new tokens an answer, as assumed: {', '.join(map(_told_length, plans))}")
    for plan in plans:
        if plan.num_estimated:
            counted = plan.num_questions - plan.num_estimated
            lines.append(f"tokens of {plan.name}: estimated from {counted:,} of its questions")
    for name, seconds in times.items():
        told = "does not fit"
        if seconds is not None:
            told = f"about {_told_time(overall_s(seconds))} ({describe_stages(seconds)})"
        lines.append(f"on {name}: {told}")
    return "\n".join(lines)


def _told_length(plan: TaskPlan) -> str:
    most = "" if plan.longest_answer is None else f" (at most {plan.longest_answer:,})"
    return f"{plan.name} {plan.answer_length:,}{most}"


def _told_time(seconds: float) -> str:
    """A time in words; never rounded to nothing.

    >>> _told_time(5.2), _told_time(90.0)
    ('6 seconds', '1.5 minutes')
    """
    return f"{math.ceil(seconds):,} seconds" if seconds < 60 else f"{seconds / 60:,.1f} minutes"
