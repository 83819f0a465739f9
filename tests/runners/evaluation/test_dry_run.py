"""What a run would take, told from the questions and the configuration of the model."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.reading.images import ImageFile
from evals.records import Sample
from evals.tasks.custom import Custom
from llava.generation.plan import plan_packs
from llava.generation.request import GenerationConfig, Request
from llava.model.tower_kinds import describe_tower
from runners.evaluation import dry_run
from runners.evaluation.checkpoint import Subject, inspect_subject
from runners.evaluation.dry_run import (
    TaskPlan,
    _problems,
    choose_devices,
    memory_bytes,
    num_views,
    plan_task,
    predict,
    render_plans,
    usual_answer,
)
from runners.evaluation.questions import AskedTask
from runners.evaluation.roofline import (
    DEVICES,
    PARENT_S_PER_QUESTION,
    LanguageShape,
    count_tower_parameters,
)
from runners.options.eval import EvalConfig
from runners.options.model import GenerationOptions, ModelConfig, SubjectConfig
from tests.runners.conftest import Finished, Start

LLAMA_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 32000,
    "mm_projector_type": "mlp2x_gelu",
}
LLAMA_13B = LLAMA_7B | {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
}
MISTRAL_7B = LLAMA_7B | {"intermediate_size": 14336, "num_key_value_heads": 8}
MPT_7B = {"d_model": 4096, "n_heads": 32, "n_layers": 32, "expansion_ratio": 4, "vocab_size": 50432}
VIT_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "image_size": 336,
    "patch_size": 14,
}
PROCESS = Path("/proc/self/status")
GIB = 2**30
WORDS = tuple("what color is the dog near a red car on this old green table".split())  # noqa: SIM905


@pytest.mark.parametrize(
    ("config", "billions"),
    [(LLAMA_7B, 6.476), (LLAMA_13B, 12.688), (MISTRAL_7B, 6.979), (MPT_7B, 6.442)],
)
def test_layers_have_the_weights_of_the_published_models(
    config: dict[str, Any], billions: float
) -> None:
    assert LanguageShape.of(config).num_layer_parameters / 1e9 == pytest.approx(billions, abs=5e-4)


def test_tower_has_the_weights_of_the_published_one() -> None:
    assert count_tower_parameters(describe_tower(VIT_LARGE, {})) == 301_989_888
    assert count_tower_parameters(None) == 0


@pytest.mark.parametrize(
    ("config", "dtype", "quantization", "least", "most"),
    [
        (LLAMA_7B, "float16", "none", 16, 20),
        (LLAMA_7B, "float32", "none", 32, 40),
        (LLAMA_7B, "float16", "nf4", 7, 11),
        (LLAMA_13B, "bfloat16", "none", 28, 36),
    ],
)
def test_memory_is_of_the_known_size(
    config: dict[str, Any], dtype: str, quantization: str, least: float, most: float
) -> None:
    shape, tower = LanguageShape.of(config), count_tower_parameters(describe_tower(VIT_LARGE, {}))
    assert least < memory_bytes(shape, dtype, quantization, tower) / GIB < most


def test_grouped_queries_need_less_cache_and_a_tower_more_memory() -> None:
    grouped = LanguageShape.of(MISTRAL_7B)
    whole = LanguageShape.of(MISTRAL_7B | {"num_key_value_heads": 32})
    weights = whole.num_layer_parameters - grouped.num_layer_parameters
    saved = memory_bytes(whole, "float16", "none") - memory_bytes(grouped, "float16", "none")
    assert saved == 2 * weights + 2 * 32 * (4096 - 1024) * 2 * 8192
    with_tower = memory_bytes(whole, "float16", "none", 301_989_888)
    assert with_tower - memory_bytes(whole, "float16", "none") == 4 * 301_989_888


@pytest.fixture(scope="module")
def subject(tiny_checkpoint: Path) -> Subject:
    settings = SubjectConfig()
    settings.model.path = str(tiny_checkpoint)
    return inspect_subject(settings)


def with_config(subject: Subject, config: dict[str, Any], tower: dict[str, Any]) -> Subject:
    """The same files with the configuration of another model."""
    described = describe_tower(tower, {"mm_vision_select_layer": -1, **config})
    return replace(subject, checkpoint=replace(subject.checkpoint, config=config, tower=described))


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Three questions about one image, two about another, one about both, one about none."""
    keys = [["a"]] * 3 + [["b"]] * 2 + [["a", "b"], []]
    return [
        Sample(
            key=str(i),
            question_id=i,
            text=" ".join(WORDS[i : 2 * i + 3]),
            prompt="",
            images=tuple(ImageFile(key, Path(key)) for key in images),
        )
        for i, images in enumerate(keys)
    ]


def test_tokens_are_those_that_the_engine_would_compute(
    subject: Subject, samples: list[Sample]
) -> None:
    renderer, num_image_tokens = subject.build_renderer(), subject.checkpoint.tower.num_features
    plan = plan_task("gqa", samples, renderer, subject)
    requests = [renderer.build_request(sample, GenerationConfig()) for sample in samples]
    requests = [request for request in requests if isinstance(request, Request)]
    packs = plan_packs(
        requests, max_tokens=10**6, max_rows=64, num_image_tokens=num_image_tokens, width=4096
    )
    packed = sum(row.num_tokens for pack in packs for row in pack.rows)
    assert (plan.num_questions, plan.num_images, plan.num_groups) == (7, 2, 4)
    assert plan.num_tokens == sum(
        len(request.prompt_ids) + len(request.images) * (num_image_tokens - 1)
        for request in requests
    )
    # the engine shares what questions happen to begin with, too
    assert packed <= plan.num_packed_tokens <= packed + 3 * len(samples)
    assert plan.num_packed_tokens < plan.num_tokens


def test_operations_follow_from_tokens_and_weights(subject: Subject, samples: list[Sample]) -> None:
    large = with_config(subject, LLAMA_7B, VIT_LARGE)
    plan = plan_task("gqa", samples, subject.build_renderer(), large)
    computed = plan.num_packed_tokens + plan.num_new_tokens
    head = 2 * plan.num_new_tokens * 32000 * 4096
    assert plan.flops == pytest.approx(
        2 * computed * LanguageShape.of(LLAMA_7B).num_layer_parameters + head
    )
    # a, b, and both again where a question asks about both
    of_tower = 2 * 577 * 301_989_888 + 2 * 576 * (1024 * 4096 + 4096**2)
    assert plan.tower_flops == pytest.approx(4 * of_tower)


def test_tiled_images_count_with_the_most_tiles(subject: Subject, samples: list[Sample]) -> None:
    pinpoints = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    tiled = {"image_aspect_ratio": "anyres", "image_grid_pinpoints": pinpoints}
    one, five = (with_config(subject, LLAMA_7B | extra, VIT_LARGE) for extra in ({}, tiled))
    assert (num_views(one.checkpoint), num_views(five.checkpoint)) == (1, 5)
    as_text = with_config(
        subject, LLAMA_7B | tiled | {"image_grid_pinpoints": str(pinpoints)}, VIT_LARGE
    )
    assert num_views(as_text.checkpoint) == 5
    plans = [plan_task("gqa", samples, subject.build_renderer(), each) for each in (one, five)]
    num_shown = 7  # 3 + 2 questions about one image, one about two
    assert plans[1].num_tokens - plans[0].num_tokens == 4 * 576 * num_shown
    assert plans[1].tower_flops == pytest.approx(5 * plans[0].tower_flops)


@pytest.mark.parametrize("field", ["tokenizer_model_max_length", "max_sequence_length"])
def test_prompts_that_the_run_would_refuse_are_told(
    field: str, subject: Subject, samples: list[Sample]
) -> None:
    renderer, image = subject.build_renderer(), subject.checkpoint.tower.num_features
    lengths = [
        len(renderer.tokenize(sample)) + len(sample.images) * (image - 1) for sample in samples
    ]
    limit = sorted(lengths)[2]
    config = {**subject.checkpoint.config, field: limit}
    short = with_config(subject, config, dict(subject.checkpoint.tower.config))
    plan = plan_task("gqa", samples, renderer, short)
    # as the engine has it: a prompt leaves room for one more token, but not within its own limit
    longest = limit if field == "tokenizer_model_max_length" else limit - 1
    num_too_long = sum(length > longest for length in lengths)
    assert plan.failures == {"prompt_too_long": num_too_long}
    (told,) = _problems(plan, short.checkpoint)
    assert f"{num_too_long} of 7 questions would fail as prompt_too_long" in told
    assert f"`{field}` is {limit:,} in {short.checkpoint.path / 'config.json'}" in told
    over_base = replace(short.checkpoint, path=Path("adapter"), base=short.checkpoint.path)
    (told,) = _problems(plan, over_base)  # an adapter without a config.json leaves it to its base
    assert f"in {over_base.base / 'config.json'}" in told


def test_tiles_that_may_not_fit_are_told_apart_from_what_does_not(
    subject: Subject, samples: list[Sample]
) -> None:
    pinpoints = [[336, 672], [672, 672]]
    tiled = {"image_aspect_ratio": "anyres", "image_grid_pinpoints": pinpoints}
    large = with_config(subject, LLAMA_7B | tiled, VIT_LARGE)
    plan = plan_task("gqa", samples, subject.build_renderer(), large)
    assert not plan.failures  # two whole images and their text fit into 2,047
    assert plan.num_perhaps_too_long == 6  # five views of one image alone do not
    (told,) = _problems(plan, large.checkpoint)
    assert "6 of 7 questions would fail as prompt_too_long if their images" in told


def test_several_images_are_counted_as_they_are_read(
    subject: Subject, samples: list[Sample]
) -> None:
    tiled = {"image_aspect_ratio": "anyres_max_4", "image_grid_pinpoints": [[336, 672], [672, 672]]}
    tiled |= {"mm_patch_merge_type": "spatial_unpad"}
    (two,) = (sample for sample in samples if len(sample.images) == 2)
    renderer = subject.build_renderer()
    length = len(renderer.tokenize(two)) - 2
    for closes in (False, True):
        config = LLAMA_7B | tiled | {"image_newline_of_each": closes}
        plan = plan_task("gqa", [two], renderer, with_config(subject, config, VIT_LARGE))
        assert plan.num_tokens == plan.num_packed_tokens == length + 2 * (576 + closes)
        assert not plan.num_perhaps_too_long  # of the tiles of two images no context would be left


def count_planned(plan: TaskPlan) -> int:
    """Questions in the packs, which on a CPU are others but hold the same."""
    on_cpu, on_gpu = (sum(len(p.requests) for p in plan.packs[each]) for each in (False, True))
    assert on_cpu == on_gpu
    return on_gpu


def test_time_on_a_device_follows_from_the_packs_of_the_questions(
    subject: Subject, samples: list[Sample]
) -> None:
    large = with_config(subject, LLAMA_7B, VIT_LARGE)
    plan = plan_task("gqa", samples, subject.build_renderer(), large)
    assert count_planned(plan) == len(samples)
    half, single = (
        predict([plan], large.checkpoint, DEVICES["H200"], dtype)
        for dtype in ("float16", "float32")
    )
    assert half["prefix"] < single["prefix"]
    assert half["tower"] == single["tower"] > 0  # in float32 in either
    assert half["replays"] > single["replays"] == 0
    twice = predict([plan, plan], large.checkpoint, DEVICES["H200"], "float32")
    assert twice == {stage: pytest.approx(2 * seconds) for stage, seconds in single.items()}


def test_a_large_task_is_planned_in_part_and_counted_in_full(
    subject: Subject, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [
        replace(sample, key=f"{number}-{sample.key}", images=(ImageFile(f"{number}", Path("x")),))
        for number in range(40)
        for sample in samples[:3]
    ]
    renderer = subject.build_renderer()
    whole = plan_task("gqa", many, renderer, subject)
    monkeypatch.setattr(dry_run, "_PLANNED_QUESTIONS", 60)
    part = plan_task("gqa", many, renderer, subject)
    assert count_planned(whole) == part.num_questions == 120
    assert count_planned(part) == 60
    assert (whole.num_estimated, part.num_estimated) == (0, 60)
    assert part.num_tokens == pytest.approx(whole.num_tokens, rel=0.02)
    assert part.num_packed_tokens == pytest.approx(whole.num_packed_tokens, rel=0.02)
    assert (part.num_images, part.num_groups) == (whole.num_images, whole.num_groups) == (40, 40)
    for plan in (whole, part):
        seconds = predict([plan], subject.checkpoint, DEVICES["A100"], "float32")
        assert seconds["parent"] == pytest.approx(120 * PARENT_S_PER_QUESTION)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("word " * 3000, "prompt_too_long"),
        ("Is <image> or <image> there?", "image_count"),
        ("Half: \ud83d", "text_unreadable"),
    ],
)
def test_what_cannot_be_asked_is_found_among_the_questions_that_are_not_planned(
    text: str, cause: str, subject: Subject, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [
        replace(samples[0], key=str(n), images=(ImageFile(str(n), Path("x")),)) for n in range(9)
    ]
    for number in (2, 7):
        many[number] = replace(many[number], text=text)
    monkeypatch.setattr(dry_run, "_PLANNED_QUESTIONS", 3)
    plan = plan_task("gqa", many, subject.build_renderer(), subject)
    assert plan.failures == {cause: 2}


def test_own_questions_are_assumed_to_be_answered_at_length(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question_id": 0, "text": "Describe it."}')
    own = Custom(questions=tmp_path / "q.jsonl", max_new_tokens=1024)
    for options, length in (({}, 1024), ({"max_new_tokens": 9}, 9)):
        settings = EvalConfig(
            model=ModelConfig(path="m/llava"), generation=GenerationOptions(**options)
        )
        assert usual_answer(AskedTask(own, settings)) == length


def test_text_names_times_stages_and_devices_that_are_too_small() -> None:
    counts = dict.fromkeys(("num_images", "num_groups", "num_tokens", "num_packed_tokens"), 1)
    plan = TaskPlan(
        name="gqa", num_questions=10, num_new_tokens=40, flops=0.0, tower_flops=0.0, **counts
    )
    times = {"one H200": {"prefix": 90.0, "parent": 6.0}, "one A100": None}
    text = render_plans([plan], GIB, times)
    assert "on one H200: about 1.5 minutes (prefix 90.0 s, parent 6.0 s)" in text
    assert "on one A100: does not fit" in text
    assert "new tokens an answer, as assumed: gqa 4" in text
    short = render_plans([replace(plan, longest_answer=128)], GIB, {"one H200": {"prefix": 0.2}})
    assert "on one H200: about 1 seconds (prefix 0.2 s)" in short
    assert "as assumed: gqa 4 (at most 128)" in short


@pytest.mark.parametrize(
    ("device", "num_gpus", "num_cpus"), [(None, len(DEVICES), 1), ("cpu", 0, 1), ("cuda:1", 6, 0)]
)
def test_only_the_chosen_kind_of_device_is_told(
    device: str | None, num_gpus: int, num_cpus: int
) -> None:
    names = " ".join(choose_devices(device))
    assert names.count("one ") == num_gpus
    assert names.count("cores of this CPU") == num_cpus


def test_program_plans_without_torch_and_leaves_nothing(
    shell: Callable[[str, Path], Finished], tmp_path: Path
) -> None:
    code = (
        "import sys, runners.eval; sys.argv = ['eval', 'dry_run=true', 'data.demo.num_images=2']\n"
        "try: runners.eval.main()\n"
        "finally: print('torch' in sys.modules)"
    )
    (tmp_path / "plan.py").write_text(code)
    finished = shell("python plan.py", tmp_path)
    assert finished.code == 0, finished.stderr
    assert finished.stdout.endswith("False\n")
    for word in ("vqav2", "gqa", "scienceqa", "packed tokens", "PFLOP", "memory", "seconds"):
        assert word in finished.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["plan.py"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not PROCESS.exists(), reason=f"there is no {PROCESS} to measure memory by")
def test_the_largest_benchmark_is_planned_in_a_minute_and_a_gibibyte(
    start: Start, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    num_questions, rng = 447_793, random.Random(0)
    questions = [
        {
            "image_id": number // 5 + 1,
            "question": " ".join(rng.choices(WORDS, k=rng.randint(4, 9))) + "?",
            "question_id": number,
        }
        for number in range(num_questions)
    ]
    name = "v2_OpenEnded_mscoco_test2015_questions.json"
    (tmp_path / name).write_text(json.dumps({"questions": questions}))
    code = (
        "import re, time, runners.eval\n"
        "try: runners.eval.main()\n"
        "finally:\n"
        # unlike resource's figure, this one does not begin with what the test's own process holds
        f"    peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('{PROCESS}').read())\n"
        "    print(f'\\n[{time.process_time()}, {int(peak[1]) * 1024}]')"
    )
    (tmp_path / "plan.py").write_text(code)
    process = start(
        f"python plan.py model.path={tiny_checkpoint} task=vqav2 tasks.vqav2.split=test2015 "
        f"tasks.vqav2.data_dir={tmp_path} dry_run=true",
        tmp_path,
    )
    stdout, stderr = process.communicate(timeout=850)
    assert process.returncode == 0, stderr
    assert f"{num_questions:,}" in stdout
    seconds, peak = json.loads(stdout.splitlines()[-1])
    assert seconds < 60
    assert peak < GIB
