import json

import pytest

from evals.errors import DataError
from evals.records import Prediction
from evals.tasks.custom import Custom

LINES = [
    {"question_id": "q-0", "image": "a.jpg", "text": "What?", "answer": " cat "},
    {"question_id": 7, "image": ["a.jpg", "b.jpg"], "text": "Which?", "label": 3},
    {"question_id": 8, "text": "Why?", "answer": "so"},
]


def write(folder, lines=LINES):
    path = folder / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def predictions(**texts):
    keys = {"q0": "q-0", "q7": "7", "q8": "8"}
    return {
        keys[name]: Prediction(key=keys[name], question_id=keys[name], prompt="", text=text)
        for name, text in texts.items()
    }


def test_questions_are_taken_as_they_are(tmp_path):
    samples = Custom(questions=write(tmp_path), images=tmp_path / "images").samples()
    assert [sample.question_id for sample in samples] == ["q-0", 7, 8]
    assert [sample.key for sample in samples] == ["q-0", "7", "8"]
    assert [sample.text for sample in samples] == ["What?", "Which?", "Why?"]
    assert [sample.image_keys for sample in samples] == [("a.jpg",), ("a.jpg", "b.jpg"), ()]
    assert [sample.cluster for sample in samples] == ["a.jpg", "a.jpg,b.jpg", "8"]
    assert samples[0].images[0].path == tmp_path / "images/a.jpg"
    assert all(sample.target is None for sample in samples)


def test_without_scorer_nothing_is_scored(tmp_path):
    for scorer in ("none", None):
        task = Custom(questions=write(tmp_path), scorer=scorer)
        assert not task.has_annotations
        with pytest.raises(DataError, match="Set scorer=exact"):
            task.score({})


def test_exact_scorer_compares_stripped_texts(tmp_path):
    task = Custom(questions=write(tmp_path), images=tmp_path, scorer="exact")
    assert [sample.target for sample in task.samples()] == ["cat", "3", "so"]
    scores = task.score(predictions(q0="cat\n", q7="3.0"))
    assert [(s.value, s.answer, s.answered) for s in scores] == [
        (1.0, "cat", True),
        (0.0, "3.0", True),
        (0.0, None, False),
    ]
    assert task.aggregate(scores).metrics == {"accuracy": pytest.approx(1 / 3)}


def test_image_outside_the_folder_is_missing(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"")
    line = {**LINES[0], "image": "../secret.jpg"}
    (sample,) = Custom(questions=write(tmp_path, [line]), images=tmp_path / "images").samples()
    assert not sample.images[0].exists()


def test_image_without_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"own\.jsonl:1 names the image 'a\.jpg'.*Set `images`"):
        Custom(questions=write(tmp_path)).samples()
    assert len(Custom(questions=write(tmp_path, LINES[2:])).samples()) == 1


def test_question_without_target_is_refused_by_the_exact_scorer(tmp_path):
    path = write(tmp_path, [LINES[2], {"question_id": 1, "text": "t", "answer": ["x"]}])
    with pytest.raises(DataError, match=r"own\.jsonl:2 lacks an `answer`"):
        Custom(questions=path, scorer="exact").samples()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, True])
def test_target_that_is_nothing_is_refused(value, tmp_path):
    path = write(tmp_path, [{"question_id": 1, "text": "t", "answer": value}])
    with pytest.raises(DataError, match=r"own\.jsonl:1 lacks an `answer`"):
        Custom(questions=path, scorer="exact").samples()


def test_foreign_answer_is_refused(tmp_path):
    task = Custom(questions=write(tmp_path), name="mine")
    assert list(task.match([{"question_id": "7", "text": "x"}])) == ["7"]
    with pytest.raises(DataError, match="not in mine own"):
        task.match([{"question_id": 9, "text": "x"}])


def test_names_and_files(tmp_path):
    task = Custom(questions=write(tmp_path), name="mine", scorer="exact")
    assert (task.name, task.split, task.definition) == ("mine", "own", "custom_exact/1")
    assert task.data_files() == [tmp_path / "own.jsonl"]
    assert Custom(questions=tmp_path / "none.jsonl").data_files() == []


def test_unknown_scorer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`scorer` must be one of"):
        Custom(questions=tmp_path, scorer="fuzzy")


def score_of(folder, scorer, fields, text):
    path = write(folder, [{"question_id": 1, "text": "t", **fields}])
    task = Custom(questions=path, scorer=scorer)
    scores = task.score(task.match([{"question_id": 1, "text": text}]))
    return scores[0].value, scores[0].answer, task.aggregate(scores)


@pytest.mark.parametrize(
    ("scorer", "fields", "text", "value", "answer"),
    [
        ("vqa_accuracy", {"answers": ["cat"] * 2 + ["dog"] * 8}, "A cat.", 0.6, "cat"),
        ("vqa_accuracy", {"answers": ["yes"] * 3}, "Yes", 0.0, "Yes"),
        ("yes_no", {"label": "No"}, "No, there is none", 1.0, "no"),
        ("yes_no", {"answer": "yes"}, "maybe", 1.0, "yes"),
        ("choice", {"answer": "B"}, "B. a frog", 1.0, "B"),
        ("choice", {"answer": "B"}, "b", 0.0, None),
    ],
)
def test_named_scorers_read_answers_as_the_benchmarks_do(
    tmp_path, scorer, fields, text, value, answer
):
    got_value, got_answer, figures = score_of(tmp_path, scorer, fields, text)
    assert (got_value, got_answer) == (value, answer)
    name = "vqa_accuracy" if scorer == "vqa_accuracy" else "accuracy"
    assert figures.metrics[name] == value
    assert figures.num_unparsed == (answer is None)


def test_yes_no_has_the_figures_of_pope(tmp_path):
    _, _, figures = score_of(tmp_path, "yes_no", {"label": "yes"}, "yes")
    assert figures.metrics == {
        "accuracy": 1.0,
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
        "yes_ratio": 1.0,
    }


@pytest.mark.parametrize(
    ("scorer", "fields", "message"),
    [
        ("vqa_accuracy", {"answer": "cat"}, "lacks `answers`, a list"),
        ("vqa_accuracy", {"answers": []}, "lacks `answers`, a list"),
        ("yes_no", {"label": "perhaps"}, "must be one of yes, no for scorer=yes_no"),
        ("choice", {"label": "F"}, "must be one of A, B, C, D, E"),
    ],
)
def test_target_that_a_scorer_cannot_use_is_refused(tmp_path, scorer, fields, message):
    with pytest.raises(DataError, match=message):
        score_of(tmp_path, scorer, fields, "x")
