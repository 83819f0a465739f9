from dataclasses import replace

import pytest

from evals.errors import DataError
from evals.tasks.pope import POPE
from tests.evals.small_data import pope_records, put_lines, write_pope


@pytest.fixture
def task(tmp_path):
    write_pope(tmp_path)
    return POPE(data_dir=tmp_path)


def answers(task, *texts):
    pairs = zip(task.samples(), texts, strict=True)
    return [{"question_id": s.question_id, "text": text} for s, text in pairs]


def test_ids_follow_llavas_scheme(task):
    ids = [sample.question_id for sample in task.samples()]
    assert ids == [1, 2, 10_000_001, 10_000_002, 20_000_001, 20_000_002]


def test_figure_without_a_positive_prediction_is_null(task):
    figures = task.aggregate(task.score(task.match(answers(task, *["no"] * 6))))
    assert figures.metrics == {"f1": None}
    row = figures.breakdowns["category"]["random"]
    assert row == {
        "accuracy": 0.5,
        "precision": None,
        "recall": 0.0,
        "f1": None,
        "yes_ratio": 0.0,
        "num_questions": 2,
    }


def test_missing_answer_never_counts_as_a_right_no(task):
    right = answers(task, *["yes", "no"] * 3)
    figures = task.aggregate(task.score(task.match([right[0], *right[2:]])))
    row = figures.breakdowns["category"]["adversarial"]
    assert (row["accuracy"], row["precision"], row["recall"]) == (0.5, 0.5, 1.0)


def test_labels_follow_the_question_and_not_the_position(task, tmp_path):
    lines = [
        {
            "question_id": 100 * n,
            "image": record["image"],
            "text": record["text"] + "\nAnswer the question using a single word or phrase.",
            "category": category,
        }
        for n, (category, record) in enumerate(
            (category, record)
            for category in ("popular", "random", "adversarial")
            for record in reversed(pope_records(category))
        )
    ]
    put_lines(tmp_path / "llava_pope_test.jsonl", lines)
    renumbered = POPE(data_dir=tmp_path)
    samples = renumbered.samples()
    assert [(s.question_id, s.target) for s in samples[:2]] == [(0, "no"), (100, "yes")]
    put_lines(tmp_path / "llava_pope_test.jsonl", lines[1:])
    with pytest.raises(DataError, match="lacks 1 of the 6 questions"):
        POPE(data_dir=tmp_path).score({})
    put_lines(tmp_path / "llava_pope_test.jsonl", [*lines, {**lines[0], "question_id": 7}])
    with pytest.raises(DataError, match=r"test\.jsonl:7: popular .* has no label of its own"):
        POPE(data_dir=tmp_path).score({})


def test_suffix_can_be_replaced(task, tmp_path):
    brief = POPE(data_dir=tmp_path, prompt_suffix="\nYes or no?")
    assert brief.samples()[0].text.endswith("in the image?\nYes or no?")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_id": "x"}, "`question_id` must be a number"),
        ({"label": None}, "`label` must be str"),
        ({"text": pope_records("random")[1]["text"]}, "repeats"),
    ],
)
def test_broken_label_is_located(task, tmp_path, change, message):
    records = pope_records("random")
    put_lines(tmp_path / "coco/coco_pope_random.json", [{**records[0], **change}, records[1]])
    with pytest.raises(DataError, match=message):
        POPE(data_dir=tmp_path).score({})


def test_empty_category_or_unknown_release_is_refused(task, tmp_path):
    (tmp_path / "coco/coco_pope_random.json").write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        POPE(data_dir=tmp_path).score({})
    with pytest.raises(ValueError, match="`questions` of pope"):
        POPE(data_dir=tmp_path, questions=3_000)


def test_answers_without_prompts_to_the_other_release_are_told_by_their_number(tmp_path):
    write_pope(tmp_path)
    task = POPE(data_dir=tmp_path, questions=9000)
    number = len(task.questions)
    release = replace(
        task.releases["coco"], other_releases={number - 1: "Fetch."}, renumbered={number - 1}
    )
    task = replace(task, releases={"coco": release})
    lines = [{"question_id": s.question_id, "text": "yes"} for s in task.samples()]
    assert len(task.match(lines)) == number
    with pytest.raises(DataError, match="whose ids stand for other questions: Fetch"):
        task.match(lines[1:])


def test_file_of_llava_is_of_the_release_that_it_asks(task, tmp_path):
    put_lines(tmp_path / "llava_pope_test.jsonl", [])
    with pytest.raises(DataError, match=r"llava_pope_test\.jsonl"):
        task.samples()
    later = POPE(data_dir=tmp_path, questions=9000)
    assert len(later.samples()) == 6
    assert {path.parent.name for path in later.data_files()} == {"coco"}
    assert "llava_pope_test.jsonl" not in later.releases["coco"].files


def test_yes_for_want_of_a_no_is_counted(task):
    number = len(task.samples())
    texts = ["Yes, it is", "No.", "NO", "", *["yes"] * (number - 4)]
    scores = task.score(task.match(answers(task, *texts)))
    assert [score.answer for score in scores[:4]] == ["yes", "no", "yes", "yes"]
    assert task.aggregate(scores).num_unparsed == 2
