import json
from pathlib import Path

import pytest

from evals.errors import DataError
from evals.reading.questions import check_same_ids, read_questions


def write(path, *lines):
    rows = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


GOOD = {"question_id": 1, "image": "a.jpg", "text": "Who?\nS"}


def test_images_may_be_one_several_or_none(tmp_path):
    path = write(
        tmp_path / "q.jsonl",
        GOOD,
        {"question_id": "2", "image": ["a.jpg", "b.jpg"], "text": "t"},
        {"question_id": 3, "text": "t"},
    )
    questions = list(read_questions(path))
    assert [q.image_names for q in questions] == [("a.jpg",), ("a.jpg", "b.jpg"), ()]
    assert [q.key for q in questions] == ["1", "2", "3"]
    assert questions[1].where == f"{path}:2"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question_id": 2,', "is not JSON"),
        ({"question_id": 2}, "lacks `text`"),
        ({"text": "t"}, "lacks `question_id`"),
        ({"uid": 1, "query": "t"}, "lacks `question_id` and `text`.*are 'uid', 'query'. Rename"),
        ({"question_id": None, "text": "t"}, "`question_id` must be str or int"),
        ({"question_id": 2, "text": "t", "image": [3]}, "`image` must be a file name"),
        ({"question_id": "1", "text": "t"}, r"repeats the question id '1' of .*q\.jsonl:1"),
    ],
)
def test_bad_line_is_named(tmp_path, line, message):
    with pytest.raises(DataError, match=rf"q\.jsonl:2.*{message}"):
        list(read_questions(write(tmp_path / "q.jsonl", GOOD, line)))


def test_file_without_questions_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no question"):
        list(read_questions(write(tmp_path / "q.jsonl")))


def test_question_without_annotation_and_the_reverse_are_refused():
    check_same_ids(["1", "2"], Path("q"), ["2", "1"], Path("a"))
    with pytest.raises(DataError, match=r"^a lacks 1 question ids of q .*for example 3"):
        check_same_ids(["1", "3"], Path("q"), ["1"], Path("a"))
    with pytest.raises(DataError, match=r"^q lacks 1 question ids of a .*for example 2"):
        check_same_ids(["1"], Path("q"), ["1", "2"], Path("a"))
    with pytest.raises(DataError, match="occurs twice"):
        check_same_ids(["1", "1"], Path("q"), ["1"], Path("a"))


@pytest.mark.parametrize("as_lines", [True, False])
def test_training_data_are_told_from_questions(tmp_path, as_lines):
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
    entries = [{"id": str(n), "image": "c.jpg", "conversations": turns} for n in range(3)]
    path = tmp_path / "train.json"
    path.write_text("\n".join(map(json.dumps, entries)) if as_lines else json.dumps(entries))
    with pytest.raises(DataError, match="`conversations`, as LLaVA's training data do"):
        list(read_questions(path))
