import json

import pytest

from evals.errors import DataError
from evals.reading.scienceqa import render_problem
from evals.records import Prediction
from evals.tasks.scienceqa import ScienceQA

SUFFIX = "\nAnswer with the option's letter from the given choices directly."


def problem(**more):
    return {
        "question": "Which is it?",
        "choices": ["a frog", "ice"],
        "answer": 1,
        "hint": "",
        "image": None,
        "subject": "natural science",
        "grade": "grade2",
        "topic": "biology",
        "split": "test",
        **more,
    }


PROBLEMS = {
    "7": problem(image="image.png", hint="Look."),
    "3": problem(subject="social science", grade="grade12", topic="civics", answer=0),
    "5": problem(),
}


def write(folder, problems=PROBLEMS, **splits):
    (folder / "problems.json").write_text(json.dumps(problems))
    splits = splits or {"test": ["7", "3"], "minitest": ["7"], "trainval": ["7"], "demo": ["5"]}
    (folder / "pid_splits.json").write_text(json.dumps(splits))
    return folder


def predictions(**texts):
    """Keyword q7="A" for the answer, with the stored prompt of an image problem for key 7."""
    return {
        key[1:]: Prediction(
            key=key[1:], question_id=key[1:], prompt="<image>\n" if key == "q7" else "", text=text
        )
        for key, text in texts.items()
    }


def test_samples_follow_the_split_file(tmp_path):
    with_image, text_only = ScienceQA(data_dir=write(tmp_path)).samples()
    text = "Context: Look.\nWhich is it?\nA. a frog\nB. ice" + SUFFIX
    assert (with_image.key, with_image.text, with_image.prompt) == ("7", text, "<image>\n" + text)
    assert with_image.images[0].path == tmp_path / "images/test/7/image.png"
    assert not with_image.images[0].convert_rgb
    assert with_image.image_keys == ("7/image.png",) == (with_image.cluster,)
    assert with_image.target == "B"
    assert text_only.text == text_only.prompt == "Which is it?\nA. a frog\nB. ice" + SUFFIX
    assert (text_only.images, text_only.cluster, text_only.target) == ((), "3", "A")


@pytest.mark.parametrize(
    ("split", "folder"), [("minitest", "test"), ("trainval", "test"), ("test", "test")]
)
def test_images_of_part_splits_lie_with_their_split(tmp_path, split, folder):
    sample = ScienceQA(data_dir=write(tmp_path), split=split).samples()[0]
    assert sample.images[0].path == tmp_path / f"images/{folder}/7/image.png"


@pytest.mark.parametrize(
    ("question", "choices", "hint", "expected"),
    [
        ("Q?", ["x", "y", "z"], "", "Q?\nA. x\nB. y\nC. z"),
        ("Q?", ["x", "y "], "H ", "Context: H \nQ?\nA. x\nB. y"),
        ("Two  spaces,   three", ["x", "y"], "", "Two spaces,  three\nA. x\nB. y"),
        (" Q?", ["x", "y"], "", "Q?\nA. x\nB. y"),
    ],
)
def test_prompt_layout(question, choices, hint, expected):
    assert render_problem(question, choices, hint) == expected


def test_question_file_of_llava_gives_the_prompts(tmp_path):
    lines = [
        {"id": "3", "conversations": [{"from": "human", "value": "Odd three"}]},
        {
            "id": "7",
            "image": "7/image.png",
            "conversations": [{"from": "human", "value": "Odd seven\n<image>"}],
        },
    ]
    path = write(tmp_path) / "llava_test_CQM-A.json"
    path.write_text(json.dumps(lines))
    samples = ScienceQA(data_dir=tmp_path).samples()
    assert [sample.prompt for sample in samples] == [
        f"<image>\nOdd seven{SUFFIX}",
        f"Odd three{SUFFIX}",
    ]
    for broken in (lines[:1], [*lines, lines[0]], {}, [{"id": "3", "conversations": []}]):
        path.write_text(json.dumps(broken))
        with pytest.raises(DataError, match="CQM-A"):
            ScienceQA(data_dir=tmp_path).samples()


def test_missing_answers_are_wrong_and_not_among_the_image_answers(tmp_path):
    task = ScienceQA(data_dir=write(tmp_path))
    scores = task.score(predictions(q3="A"))
    assert [(s.key, s.value, s.answer, s.answered) for s in scores] == [
        ("7", 0.0, None, False),
        ("3", 1.0, "A", True),
    ]
    figures = task.aggregate(scores)
    assert (figures.metrics["accuracy"], figures.metrics["accuracy_image"]) == (0.5, None)
    assert figures.num_unparsed == 0


def test_rows_are_means_over_their_members(tmp_path):
    task = ScienceQA(data_dir=write(tmp_path))
    figures = task.aggregate(task.score(predictions(q7="B. ice", q3="B")))
    assert figures.metrics == {
        "accuracy": 0.5,
        "accuracy_image": 1.0,
        "NAT": 1.0,
        "SOC": 0.0,
        "LAN": None,
        "TXT": 1.0,
        "IMG": 1.0,
        "NO": 0.0,
        "G1-6": 1.0,
        "G7-12": 0.0,
    }
    assert figures.breakdowns["topic"]["civics"] == {"accuracy": 0.0, "num_questions": 1}


def test_letter_beyond_the_choices_is_unparsed_but_shown(tmp_path):
    task = ScienceQA(data_dir=write(tmp_path))
    scores = task.score(predictions(q7="C", q3="none"))
    assert [(score.answer, score.value) for score in scores] == [("C", 0.0), (None, 0.0)]
    assert task.aggregate(scores).num_unparsed == 2


@pytest.mark.parametrize(
    ("field", "rows"),
    [("subject", ["NAT", "SOC", "LAN"]), ("grade", ["G1-6", "G7-12"])],
)
def test_rows_without_their_field_are_none(tmp_path, field, rows):
    problems = {key: {k: v for k, v in p.items() if k != field} for key, p in PROBLEMS.items()}
    task = ScienceQA(data_dir=write(tmp_path, problems))
    metrics = task.aggregate(task.score(predictions(q7="B", q3="A"))).metrics
    assert {row for row, value in metrics.items() if value is None} >= set(rows)
    assert metrics["TXT"] == metrics["accuracy"] == 1.0


def test_problems_without_topic_have_no_breakdown(tmp_path):
    problems = {key: {**p, "topic": None} for key, p in PROBLEMS.items()}
    task = ScienceQA(data_dir=write(tmp_path, problems))
    scores = task.score(predictions(q7="B"))
    assert task.aggregate(scores).breakdowns == {}
    assert scores[0].to_line()["topic"] is None


def test_answers_to_other_splits_are_ignored_unless_all_are(tmp_path):
    task = ScienceQA(data_dir=write(tmp_path), split="minitest")
    rows = [{"question_id": 7, "text": "A"}, {"question_id": "3", "text": "A"}]
    assert list(task.match(rows)) == ["7"]
    with pytest.raises(DataError, match="not in scienceqa minitest"):
        task.match(rows[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 2}, "the index is 2"),
        ({"answer": -1}, "the index is -1"),
        ({"choices": ["x"], "answer": 0}, "there are 1 choices"),
        ({"hint": 5}, "`hint` must be str or null"),
        ({"image": 5}, "`image` must be str or null"),
        ({"subject": 5}, "`subject` must be str"),
    ],
)
def test_broken_problem_is_named(tmp_path, change, message):
    folder = write(tmp_path, {"7": problem(**change)}, test=["7"])
    with pytest.raises(DataError, match=rf"problem 7.*{message}"):
        ScienceQA(data_dir=folder).score({})


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"test": ["8"]}, r"problems\.json lacks the field `8`"),
        ({"test": ["7", "7"]}, "'7' occurs twice"),
        ({"test": []}, "is empty"),
        ({"train": ["7"]}, "has no split 'test', only 'train'"),
    ],
)
def test_broken_split_is_named(tmp_path, splits, message):
    with pytest.raises(DataError, match=message):
        ScienceQA(data_dir=write(tmp_path, **splits)).samples()


def test_random_rule_draws_by_the_problem_and_is_another_definition(tmp_path):
    problems = {str(n): problem() for n in range(40)}
    write(tmp_path, problems, test=list(problems))
    answers = [{"question_id": key, "text": "no idea"} for key in problems]
    values = []
    for _ in range(2):
        task = ScienceQA(data_dir=tmp_path, unparsed="random")
        scores = task.score(task.match(answers))
        values.append([score.value for score in scores])
        assert task.aggregate(scores).num_unparsed == 40
    assert values[0] == values[1]
    assert 8 < sum(values[0]) < 32
    assert task.score({})[0].value == 0.0
    assert task.definition != ScienceQA(data_dir=tmp_path).definition
    with pytest.raises(ValueError, match="`unparsed` must be one of"):
        ScienceQA(data_dir=tmp_path, unparsed="drop")


def test_split_that_the_mirror_lacks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="on the hub"):
        ScienceQA(data_dir=tmp_path, split="minitest", source="hub")
