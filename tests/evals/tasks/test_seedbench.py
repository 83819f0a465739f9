import logging

import pytest

from evals.errors import DataError
from evals.tasks.seedbench import SeedBench
from tests.evals.small_data import put_json, put_lines, seed_records, write_seedbench

TYPES = {"Scene Understanding": 1, "Instance Identity": 2}


def test_only_the_bare_letter_is_right(tmp_path):
    write_seedbench(tmp_path)
    task = SeedBench(data_dir=tmp_path)
    lines = [{"question_id": q, "text": t} for q, t in ((101, "A"), ("102", "D."), ("v1", "b"))]
    scores = task.score(task.match([*lines, {"question_id": "v9", "text": "A"}]))
    assert [(s.value, s.answer) for s in scores] == [(1.0, "A"), (0.0, "D."), (0.0, "b")]
    figures = task.aggregate(scores)
    assert figures.metrics == {
        "accuracy": pytest.approx(1 / 3),
        "accuracy_image": 0.5,
        "accuracy_video": 0.0,
    }
    assert figures.breakdowns["question_type"]["Instance Identity"]["accuracy"] == 0.0


def test_kind_without_questions_has_no_figure(tmp_path):
    put_json(
        tmp_path / "SEED-Bench.json", {"questions": seed_records()[:2], "question_type": TYPES}
    )
    task = SeedBench(data_dir=tmp_path)
    assert task.aggregate(task.score({})).metrics["accuracy_video"] is None


def test_one_number_for_two_types_is_refused(tmp_path):
    types = {**TYPES, "Instance Location": 2}
    put_json(tmp_path / "SEED-Bench.json", {"questions": seed_records(), "question_type": types})
    with pytest.raises(DataError, match=r"question_type: the id '2' occurs twice"):
        SeedBench(data_dir=tmp_path).score({})


def test_question_file_of_llava_names_the_images(tmp_path):
    write_seedbench(tmp_path)
    lines = [
        {"question_id": q, "image": f"frames/{q}.png", "text": f"Odd {q}"} for q in ("v1", 102, 101)
    ]
    put_lines(tmp_path / "llava-seed-bench.jsonl", lines)
    samples = SeedBench(data_dir=tmp_path).samples()
    assert [s.text for s in samples] == ["Odd 101", "Odd 102", "Odd v1"]
    assert samples[2].images[0].path == tmp_path / "frames/v1.png"
    put_lines(
        tmp_path / "llava-seed-bench.jsonl",
        [{k: v for k, v in lines[0].items() if k != "image"}, *lines[1:]],
    )
    with pytest.raises(DataError, match=r"bench\.jsonl:1: `image` must be one file name"):
        SeedBench(data_dir=tmp_path).samples()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_type": "audio"}, "`data_type` must be image or video"),
        ({"question_type_id": 9}, "`question_type_id` a type of the file"),
        ({"answer": "E"}, "`answer` a letter"),
        ({"answer": ""}, "`answer` a letter"),
        ({"question_id": "102"}, "'102' occurs twice"),
    ],
)
def test_broken_question_is_located(tmp_path, change, message):
    records = seed_records()
    records[0] |= change
    put_json(tmp_path / "SEED-Bench.json", {"questions": records, "question_type": TYPES})
    with pytest.raises(DataError, match=message):
        SeedBench(data_dir=tmp_path).score({})


def test_empty_file_is_refused(tmp_path):
    put_json(tmp_path / "SEED-Bench.json", {"questions": [], "question_type": TYPES})
    with pytest.raises(DataError, match="`questions` is empty"):
        SeedBench(data_dir=tmp_path).score({})


def test_answers_that_are_no_letter_are_counted(tmp_path):
    write_seedbench(tmp_path)
    task = SeedBench(data_dir=tmp_path)
    lines = [{"question_id": q, "text": t} for q, t in ((101, "A."), ("102", "E"), ("v1", "C"))]
    figures = task.aggregate(task.score(task.match(lines)))
    assert (figures.metrics["accuracy"], figures.num_unparsed) == (0.0, 2)


@pytest.mark.parametrize(("split", "ids"), [("v1_image", ["101", "102"]), ("v1_video", ["v1"])])
def test_images_and_videos_can_be_asked_alone(tmp_path, split, ids, caplog):
    write_seedbench(tmp_path)
    lines = [{"question_id": q, "image": f"{q}.png", "text": f"Odd {q}"} for q in (101, 102, "v1")]
    put_lines(tmp_path / "llava-seed-bench.jsonl", lines)
    task = SeedBench(data_dir=tmp_path, split=split)
    assert [sample.text for sample in task.samples()] == [f"Odd {name}" for name in ids]
    assert list(task.match([{"question_id": q, "text": "A"} for q in (101, "102", "v1")])) == ids
    warnings = [one.message for one in caplog.records if one.levelno >= logging.WARNING]
    assert not any("not asked" in message for message in warnings)
    with pytest.raises(ValueError, match="`split` of seedbench"):
        SeedBench(data_dir=tmp_path, split="video")


def test_questions_that_a_later_release_lacks_are_left_out_and_told(tmp_path, caplog):
    write_seedbench(tmp_path)
    put_json(
        tmp_path / "SEED-Bench.json", {"questions": seed_records()[:2], "question_type": TYPES}
    )
    lines = [{"question_id": q, "image": f"{q}.png", "text": f"Odd {q}"} for q in (101, 102, "v1")]
    put_lines(tmp_path / "llava-seed-bench.jsonl", lines)
    assert len(SeedBench(data_dir=tmp_path).samples()) == 2
    assert "llava-seed-bench.jsonl: 1 questions are not asked" in caplog.text
    put_lines(tmp_path / "llava-seed-bench.jsonl", lines[1:])
    with pytest.raises(DataError, match=r"lacks 1 question ids.*move it away"):
        SeedBench(data_dir=tmp_path).samples()
