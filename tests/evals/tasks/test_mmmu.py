import json
import random

import pytest

from evals.errors import DataError
from evals.reading.answers import AnswerFile
from evals.reading.mmmu import DOMAINS
from evals.submission import build_submission
from evals.tasks.mmmu import MMMU
from tests.evals.small_files import put_parquet
from tests.evals.small_reasoning import mmmu_row, write_mmmu

FOUR = ["one", "two", "three", "four"]


def build(folder, rows, split="val"):
    name = "validation" if split == "val" else split
    put_parquet(folder / f"data/{name}-00000-of-00001.parquet", rows)
    return MMMU(data_dir=folder, split=split)


def answer(task, texts):
    return task.score(task.match([{"question_id": k, "text": t} for k, t in texts.items()]))


def test_images_are_those_that_are_marked_and_stand_before_the_text(tmp_path):
    write_mmmu(tmp_path)
    one, two, other = MMMU(data_dir=tmp_path).samples()
    letter = "Answer with the option's letter from the given choices directly."
    assert one.text == one.prompt == f"What is in <image 1>?\nA. class\nB. party\n\n{letter}"
    assert two.prompt == f"What is in <image 1>?\nA. Monet\nB. <image 3>\n\n{letter}"
    assert two.text == f"<image> <image>\n{two.prompt}"
    assert other.text == (
        "How long is <image 2>?\n\nAnswer the question using a single word or phrase."
    )
    assert [[key.rpartition("_")[2] for key in s.image_keys] for s in (one, two, other)] == [
        ["1"],
        ["1", "3"],
        ["2"],
    ]
    assert one.groups == {
        "domain": "Humanities and Social Science",
        "subject": "Sociology",
        "question_type": "multiple-choice",
    }


def test_marked_image_that_the_table_cannot_hold_is_missing(tmp_path):
    [sample] = build(tmp_path, [mmmu_row("Math_7", ["<image 3>", "<image 10>"], "A")]).samples()
    assert [image.exists() for image in sample.images] == [True, False, True]
    assert sample.image_keys[1] == "validation_Math_7/image_10"


def test_unread_answers_are_drawn_subject_by_subject_from_one_seed(tmp_path):
    names = ["Sociology_1", "Art_Theory_1", "Art_2", "Sociology_2", "Art_1"]
    rows = [mmmu_row(name, FOUR[: 2 + n % 3], "A") for n, name in enumerate(names)]
    task = build(tmp_path, rows)
    generator = random.Random(42)
    in_order = [rows[n] for n in (2, 4, 1, 0, 3)]  # Art, Art_Theory, Sociology; as in the table
    drawn = {row["id"]: generator.choice("ABCD"[: len(eval(row["options"]))]) for row in in_order}
    assert len(set(drawn.values())) > 1
    for order in (list, reversed):
        scores = answer(task, {row["id"]: "?" for row in order(rows)})
        assert {s.question_id: s.value for s in scores} == {
            name: float(letter == "A") for name, letter in drawn.items()
        }
        assert {s.answer for s in scores} == {None}
        figures = task.aggregate(scores)
        assert figures.metrics["accuracy_no_guess"] == figures.metrics["accuracy_lmms_eval"] == 0.0
        assert figures.num_unparsed == 5


def test_a_letter_that_is_read_and_a_question_without_an_answer_take_no_draw(tmp_path):
    rows = [mmmu_row(f"Art_{n}", FOUR, "B") for n in range(4)]
    task, first = build(tmp_path, rows), random.Random(42).choice("ABCD")
    scores = answer(task, {"validation_Art_1": "B", "validation_Art_3": "?"})
    assert [s.answer for s in scores] == [None, "B", None, None]
    assert [s.value for s in scores] == [0.0, 1.0, 0.0, float(first == "B")]
    assert task.aggregate(scores).num_unparsed == 1


def test_lists_of_answers_are_one_text_by_the_rule_of_lmms_eval(tmp_path):
    write_mmmu(tmp_path)
    task = MMMU(data_dir=tmp_path)
    texts = {"validation_Sociology_1": "B. party", "validation_Art_7": "A"}
    scores = answer(task, {**texts, "validation_Math_2": "24/7"})
    figures = task.aggregate(scores)
    drawn = float(random.Random(42).choice("AB") == "B")
    assert [s.value for s in scores] == [drawn, 1.0, 1.0]
    assert figures.metrics["accuracy_no_guess"] == pytest.approx(2 / 3)
    assert figures.metrics["accuracy_lmms_eval"] == pytest.approx(2 / 3)  # `B.`, not the list
    assert scores[2].answer == "24/7"
    assert figures.breakdowns["question_type"]["open"] == {"accuracy": 1.0, "num_questions": 1}


def test_folders_of_subjects_are_the_same_questions(tmp_path):
    for name in ("Sociology", "Art"):
        path = tmp_path / f"{name}/validation-00000-of-00001.parquet"
        put_parquet(path, [mmmu_row(f"{name}_{n}", FOUR, "A") for n in (2, 1)])
    samples = MMMU(data_dir=tmp_path).samples()
    assert [sample.key.removeprefix("validation_") for sample in samples] == [
        *("Art_2", "Art_1", "Sociology_2", "Sociology_1")
    ]
    assert all(image.exists() for sample in samples for image in sample.images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "validation_Alchemy_1"}, "one of the 30 subjects"),
        ({"id": "Art"}, "such as validation_Art_1"),
        ({"question_type": "multiple_choice"}, "is a 'multiple_choice' question with 2 options"),
        ({"question_type": "open"}, "is a 'open' question with 2 options"),
        ({"options": "[]"}, "is a 'multiple-choice' question with 0 options"),
        ({"options": "one, two"}, "`options` must be a list of texts in Python's spelling"),
        ({"options": "[1, 2]"}, "`options` must be a list of texts"),
        ({"answer": "C"}, "`answer` must be one of A, B, but is 'C'"),
        ({"answer": "?"}, "`answer` must be one of A, B"),
        ({"options": "[]", "question_type": "open", "answer": "['a', 1]"}, "`answer` must be a"),
        ({"options": "[]", "question_type": "open", "answer": ""}, "`answer` must be a text"),
        ({"question": None}, "`question` must be str"),
    ],
)
def test_broken_row_is_located(tmp_path, changes, message):
    row = {**mmmu_row("Art_1", FOUR[:2], "A"), **changes}
    with pytest.raises(DataError, match=rf"MMMU/validation: row 0.*{message}"):
        build(tmp_path, [row]).score({})


def test_official_word_for_open_questions_is_known(tmp_path):
    row = {**mmmu_row("Art_1", [], "blue"), "question_type": "short-answer"}
    task = build(tmp_path, [row])
    assert [s.value for s in answer(task, {"validation_Art_1": "It is blue"})] == [1.0]


def test_test_split_is_uploaded_with_drawn_letters(tmp_path):
    rows = [mmmu_row("Sociology_1", FOUR, "?"), mmmu_row("Art_1", FOUR, "?")]
    rows = [{**row, "id": row["id"].replace("validation", "test")} for row in rows]
    rows.append({**mmmu_row("Math_1", [], "?"), "id": "test_Math_1"})
    task = build(tmp_path, rows, "test")
    assert not task.has_annotations
    texts = {"test_Math_1": "Zo\ud83e", "test_Art_1": "E", "test_Sociology_1": "none"}
    lines = [{"question_id": key, "text": text} for key, text in texts.items()]
    given = AnswerFile(answers=lines, failed=[], unreadable=[])
    upload, generator = build_submission(task, given), random.Random(42)
    drawn = [generator.choice("ABCD") for _ in range(2)]
    assert json.loads(upload.content) == {
        "test_Sociology_1": drawn[1],
        "test_Art_1": drawn[0],
        "test_Math_1": "Zo\ud83e",  # half of a character, as a cut answer may end in
    }
    assert upload.suffix == ".json"
    with pytest.raises(DataError, match="have no answer"):
        build_submission(task, AnswerFile(answers=lines[:2], failed=[], unreadable=[]))
    partly = AnswerFile(answers=[{**lines[1], "text": " "}], failed=[], unreadable=[])
    upload = build_submission(task, partly, allow_missing=True)
    assert {text.strip() for text in json.loads(upload.content).values()} == {""}
    with pytest.raises(DataError, match="no server"):
        MMMU(data_dir=tmp_path).require_upload()


def test_all_subjects_are_of_six_domains():
    assert len(DOMAINS) == 30
    assert len(set(DOMAINS.values())) == 6
