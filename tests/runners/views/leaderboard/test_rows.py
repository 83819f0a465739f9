"""A run's figures with their intervals, differences and setups."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runners.synthetic_runs import METRICS, scores_of_mean, write_task
from tests.runners.views.leaderboard.conftest import Build


def test_a_run_stands_beside_the_published_figure_with_interval_and_difference(
    results: Path, build: Build
) -> None:
    built = build()
    record = built.record("llava-v1.5-7b")
    assert built.code == 0
    key = "gqa/testdev_balanced/accuracy"
    assert float(record[key]) == pytest.approx(0.63)
    assert float(record[f"{key} published"]) == 0.62
    assert float(record[f"{key} difference"]) == pytest.approx(0.01)
    assert float(record[f"{key} low"]) == pytest.approx(0.5349, abs=1e-4)
    assert float(record[f"{key} high"]) == pytest.approx(0.7251, abs=1e-4)
    assert record[f"{key} coverage"] == "1.0"
    details = built.tables()[1]
    assert details[1] == [
        *("llava-v1.5-7b", "GQA", "63.0", "53.5 to 72.5", "62.0", "+1.0", "100%", "")
    ]
    names = [row[0] for row in built.tables()[0]]
    assert names[1:] == ["llava-v1.5-7b", "llava-v1.5-7b", "llava-v1.5-13b"]


@pytest.mark.few_cases(4)
@pytest.mark.parametrize(
    ("identity", "setup"),
    [
        ({"quantization": {"name": "nf4"}}, "float16, nf4"),
        (
            {"quantization": {"name": "nf4", "double_quant": False, "compute_dtype": None}},
            "float16, nf4, double_quant False",
        ),
        ({"attention": "eager"}, "float16, attention eager"),
        ({"attention": "default"}, "float16"),
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"conversation": "vicuna_v1"}, "float16, vicuna_v1"),
        (
            {"generation": {"temperature": 0.2, "top_p": 0.9, "num_beams": 3}, "seed": 7},
            "float16, temperature 0.2, top_p 0.9, num_beams 3, seed 7",
        ),
        ({"generation": {"temperature": 0.0, "max_new_tokens": 128}, "seed": 7}, "float16"),
        ({"generation": {"max_new_tokens": 1}}, "float16, max_new_tokens 1"),
        ({"engine": {"replay": "near_ties"}}, "float16"),
        ({"engine": {"replay": "off"}}, "float16, replay off"),
        (
            {"engine": {"replay": "near_ties", "max_expected_flips": 5}, "tf32": True},
            "float16, TF32, max_expected_flips 5",
        ),
        ({"vision_tower_dtype": "float16"}, "float16, vision tower float16"),
        ({"vision_tower_dtype": "float16", "in_process": {}}, "float16"),
        ({"imported": "sha"}, "imported"),
    ],
)
def test_setup_says_what_the_answers_were_computed_with(
    identity: dict[str, object], setup: str, tmp_path: Path, build: Build
) -> None:
    write_task(tmp_path / "results/mine", "gqa", [1.0, 0.0], identity=identity)
    assert build().record("mine")["setup"] == setup


def test_tasks_of_a_run_with_different_setups_are_marked(tmp_path: Path, build: Build) -> None:
    write_task(tmp_path / "results/mine", "gqa", [1.0, 0.0])
    write_task(tmp_path / "results/mine", "textvqa", [1.0, 0.0], identity={"dtype": "float32"})
    record = build().record("mine")
    assert record["setup"] == "mixed"
    assert record["textvqa/val/vqa_accuracy notes"] == "computed with float32"
    assert record["gqa/testdev_balanced/accuracy notes"] == "computed with float16"


def test_model_of_a_run_is_the_one_that_its_options_name(tmp_path: Path, build: Build) -> None:
    named = {"options": {"model": {"published": "llava-v1.5-7b"}}}
    write_task(tmp_path / "results/a", "gqa", [1.0, 0.0], environment=named)
    unnamed = {"options": {"model": {"published": None}}}
    own = tmp_path / "results/b"
    write_task(own, "gqa", [1.0, 0.0], environment=unnamed, identity={"model": "llava-v1.5-7b"})
    built = build()
    key = "gqa/testdev_balanced/accuracy difference"
    assert float(built.record("a")[key]) == pytest.approx(0.5 - 0.62)
    assert built.record("b")[key] == ""


def test_ranked_answers_stand_in_a_column_of_their_own_without_published_figures(
    tmp_path: Path, build: Build
) -> None:
    folder, ranked = tmp_path / "results", {"answer": "rank"}
    named = {"options": {"model": {"published": "llava-v1.5-7b"}}}
    write_task(folder / "written", "seedbench", [1.0, 0.0], environment=named)
    write_task(folder / "ranked", "seedbench", [1.0, 1.0], environment=named, options=ranked)
    built, column = build(), "seedbench/v1/accuracy"
    own = f"{column} (seedbench_letter_rank/1)"
    written, record = built.record("written"), built.record("ranked")
    assert (written[column], written[f"{column} published"], written[own]) == ("0.5", "0.586", "")
    assert (record[column], record[own], record[f"{own} notes"]) == ("", "1.0", "")
    assert record[f"{own} published"] == record[f"{own} difference"] == ""
    assert built.record("llava-v1.5-7b", "published")[own] == ""
    assert "SEED (seedbench_letter_rank/1)" in built.tables()[2][0]


def test_interval_of_image_questions_comes_from_their_scores(tmp_path: Path, build: Build) -> None:
    scores = scores_of_mean(0.6, 200)
    image = scores[1::2]
    metrics = {"accuracy": sum(scores) / 200, "accuracy_image": sum(image) / 100}
    folder = tmp_path / "results/mine"
    write_task(folder, "scienceqa", scores, metrics=metrics)
    key = "scienceqa/test/accuracy_image"
    half_width = (
        1.959964 * (metrics["accuracy_image"] * (1 - metrics["accuracy_image"]) / 99) ** 0.5
    )
    record = build().record("mine")
    assert float(record[f"{key} high"]) - float(record[key]) == pytest.approx(half_width)
    (folder / "scienceqa/scores.jsonl").write_text("")
    assert build().record("mine")[f"{key} high"] == ""


@pytest.mark.parametrize(
    ("name", "value", "interval", "shown"),
    [
        ("pope", 0.859, [0.85, 0.868], "85.0 to 86.8"),
        ("mme", 1531.3, [1507.2, 1555.4], "1507.2 to 1555.4"),
    ],
)
def test_figures_that_are_no_means_have_their_interval(
    name: str, value: float, interval: list[float], shown: str, tmp_path: Path, build: Build
) -> None:
    metrics = {METRICS[name]: value}
    write_task(tmp_path / "results/mine", name, [1.0], metrics=metrics, interval=interval)
    [row] = [row for row in build("published=none").tables()[1] if row[0] == "mine"]
    assert row[3] == shown
