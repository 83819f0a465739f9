"""The benchmark program: its figures are there, and engines give equal answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.flop_counter

from llava.generation.packed import PackedEngine
from llava.generation.sequential import SequentialEngine
from llava.tokenizer import load_tokenizer
from runners.evaluation.roofline import STAGES as ROOFLINE_STAGES
from runners.lab.bench.batched import BatchedEngine
from runners.lab.bench.measure import useful_flops
from runners.lab.bench.models import DEMO_DIR, build_model
from runners.lab.bench.workloads import build_workload, find_words
from tests.runners.conftest import Shell

FIELDS = {
    "workload",
    "engine",
    "model",
    "dtype",
    "num_questions",
    "questions_per_s",
    "ratio_to_sequential",
    "answers_equal",
    "peak_memory_bytes",
    "mfu",
    "padding_share",
    "replayed_share",
    "num_attention_shapes",
    "cache_bytes_moved",
    "num_tower_calls",
    "parent_s_per_question",
    "stages_s",
}
STAGES = ("encode", "prefix", "suffix", "decode")
COUNTED = ("padding_share", "num_attention_shapes", "cache_bytes_moved", "num_tower_calls")


@pytest.mark.slow
def test_report_holds_every_engine_on_every_workload(call: Shell, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    command = (
        "runners.bench workload=[vqav2,demo] model=llava-demo "
        f"engine=[sequential,batched,packed] num_images=2 output={output}"
    )
    done = call(command, tmp_path)
    assert done.code == 0, done.stderr
    report = json.loads(output.read_text())
    assert set(report) == {"device", "versions", "matmul_flops_per_s", "results"}
    assert len(report["results"]) == 6
    for result in report["results"]:
        assert set(result) == FIELDS
        assert result["questions_per_s"] > 0
        assert result["mfu"] > 0
        assert result["answers_equal"] == 1.0
        assert result["parent_s_per_question"] > 0
        if result["engine"] != "packed":
            assert all(result[name] is None for name in COUNTED)
            continue
        assert 0 <= result["padding_share"] < 0.15
        assert result["cache_bytes_moved"] == 0
        assert 1 <= result["num_tower_calls"] <= 2  # of two images
        assert set(result["stages_s"]) == {*STAGES, "wait", "replay"}
        assert all(result["stages_s"][stage] > 0 for stage in STAGES)
    assert "vqav2" in done.stdout


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("workload=[chess]", "chess"),
        ("engine=[magic]", "magic"),
        ("repeats=0", "repeats"),
        ("replay=foo", "replay"),
        ("roofline=abacus", "H200"),
        ("roofline=h200 model=random-1b", "random-25m"),
    ],
)
def test_unknown_values_are_named(option: str, named: str, call: Shell, tmp_path: Path) -> None:
    done = call(f"runners.bench {option}", tmp_path)
    assert done.code == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def words() -> list[int]:
    return find_words(load_tokenizer(DEMO_DIR))


def test_workloads_have_the_shape_of_the_benchmarks(words: list[int]) -> None:
    gqa = build_workload("gqa", 200, words, 0)
    assert 28 < len(gqa) / 200 < 36
    assert len(build_workload("vqav2", 30, words, 0)) == 160
    science = build_workload("scienceqa", 300, words, 0)
    lengths = sorted(len(request.prompt_ids) for request in science)
    assert len(science) == 300
    assert 90 < lengths[150] < 125
    generate = build_workload("generate", None, words, 0)
    assert {request.generation.max_new_tokens for request in generate} == {200}
    assert (len(generate), len({r.images[0].key for r in generate})) == (16, 8)


def test_real_question_file_decides_the_groups(tmp_path: Path, words: list[int]) -> None:
    questions = tmp_path / "questions.jsonl"
    lines = [json.dumps({"question_id": i, "image": f"{i // 7}.jpg"}) for i in range(21)]
    questions.write_text("\n".join(lines))
    assert len(build_workload("gqa", 4, words, 0, questions)) == 28


def test_words_are_the_same_tokens_when_their_text_is_tokenized_again(words: list[int]) -> None:
    tokenizer = load_tokenizer(DEMO_DIR)
    assert len(words) > 100
    assert tokenizer.encode_text(tokenizer.decode(words)) == [tokenizer.bos_token_id, *words]


@pytest.fixture(scope="module")
def demo() -> tuple[Any, Any, Any, int]:
    return build_model("llava-demo", device="cpu", dtype=torch.float32, tower_dtype=None)


def test_useful_operations_are_those_of_the_answers_alone(
    demo: tuple[Any, Any, Any, int], words: list[int]
) -> None:
    model, requests = demo[1], build_workload("vqav2", 2, words, 0)
    one, answers = requests[0], {request.key: (5, 6, 7) for request in requests}
    alone = useful_flops(model, [one], answers, shares_prefixes=False)
    assert useful_flops(model, [one], answers, shares_prefixes=True) == alone
    apart, shared = (
        useful_flops(model, requests, answers, shares_prefixes=shares) for shares in (False, True)
    )
    assert apart == sum(
        useful_flops(model, [request], answers, shares_prefixes=False) for request in requests
    )
    assert alone < shared < apart / 2
    model.set_attn_implementation("eager")  # of which torch counts every product
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counted:
        (completion,) = SequentialEngine(*demo).run([one])
    model.set_attn_implementation("sdpa")
    tokens = completion.token_ids
    useful = useful_flops(model, [one], {one.key: tokens}, shares_prefixes=False)
    # projector and head are left out, and attention is counted as if nothing were masked
    assert 0.8 < useful / counted.get_total_flops() < 1


def test_transformers_answers_what_the_engine_answers(
    demo: tuple[Any, Any, Any, int], words: list[int]
) -> None:
    requests = build_workload("vqav2", 1, words, 3) + build_workload("scienceqa", 2, words, 3)
    requests = [replace(request, key=str(i)) for i, request in enumerate(requests)]
    ours, theirs = SequentialEngine(*demo), BatchedEngine(*demo, batch_size=3)
    expected = {result.key: result.token_ids for result in ours.run(requests)}
    assert {result.key: result.token_ids for result in theirs.run(requests)} == expected


@pytest.mark.slow
def test_random_models_are_sure_of_most_answers(words: list[int]) -> None:
    parts = build_model("random-25m", device="cpu", dtype=torch.float32, tower_dtype=None)
    requests = build_workload("vqav2", 8, words, 0)
    margins = [result.min_margin for result in PackedEngine(*parts, replay="off").run(requests)]
    assert sorted(margins)[len(margins) // 10] > 1.0
    # and answers hang on their questions
    answers = {result.token_ids for result in SequentialEngine(*parts).run(requests[:4])}
    assert len(answers) > 1


def test_roofline_tells_a_question_file_s_time_by_stage(call: Shell, tmp_path: Path) -> None:
    questions, output = tmp_path / "questions.jsonl", tmp_path / "roofline.json"
    text = "Is it overcast?\nAnswer the question using a single word or phrase."
    records = [{"question_id": i, "image": f"{i // 7}.jpg", "text": text} for i in range(700)]
    questions.write_text("\n".join(map(json.dumps, records)))
    command = f"runners.bench roofline=h200 model=random-7b questions={questions} output={output}"
    seconds = {}
    for dtype in ("float32", "bfloat16"):
        done = call(f"{command} dtype={dtype}", tmp_path)
        assert done.code == 0, done.stderr
        assert "answers of 4 tokens assumed" in done.stdout
        (result,) = json.loads(output.read_text())["results"]
        assert result["num_questions"] == 700
        assert set(result["stages_s"]) == {*ROOFLINE_STAGES}
        seconds[dtype] = result["stages_s"]
    assert seconds["bfloat16"]["prefix"] < seconds["float32"]["prefix"] / 10
    assert seconds["bfloat16"]["replays"] > seconds["float32"]["replays"] == 0
