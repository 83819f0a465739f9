import pytest

from evals.errors import DataError
from evals.tasks.okvqa import OKVQA
from tests.evals.small_files import cell, put_json, put_parquet
from tests.evals.small_newer import okvqa_files, write_okvqa

QUESTIONS, ANNOTATIONS = (
    "OpenEnded_mscoco_val2014_questions.json",
    "mscoco_val2014_annotations.json",
)


def score(folder, *texts):
    task = OKVQA(data_dir=folder)
    keys = ["120", "121", "132"]
    lines = [{"question_id": key, "text": text} for key, text in zip(keys, texts, strict=False)]
    scores = task.score(task.match(lines))
    return scores, task.aggregate(scores)


def test_stemmed_answers_are_compared_by_the_official_rule_and_by_that_of_m4c(tmp_path):
    write_okvqa(tmp_path)
    scores, figures = score(tmp_path, "The race", "Collie", "1990.")
    # Where all annotators agree, nothing is normalized.
    assert [(s.value, s.answer) for s in scores] == [(1.0, "race"), (0.0, "Collie"), (0.0, "1990.")]
    assert figures.metrics == {"vqa_accuracy": pytest.approx(1 / 3), "vqa_accuracy_m4c": 1.0}
    scores, figures = score(tmp_path, "racing", "races", "ride")
    assert figures.metrics == {"vqa_accuracy": 0.0, "vqa_accuracy_m4c": 0.0}
    scores, figures = score(tmp_path, "ride")
    assert scores[0].value == pytest.approx((7 * 1 + 3 * 2 / 3) / 10)
    assert figures.metrics["vqa_accuracy_m4c"] == pytest.approx(scores[0].value / 3)
    assert figures.breakdowns["question_type"]["four"]["vqa_accuracy"] == scores[0].value


def test_prompt_has_two_lines_after_the_question(tmp_path):
    write_okvqa(tmp_path)
    [sample, *_] = OKVQA(data_dir=tmp_path).samples()
    assert sample.text == (
        "What sport?\nWhen the provided information is insufficient, respond with "
        "'Unanswerable'.\nAnswer the question using a single word or phrase."
    )
    assert sample.images[0].path == tmp_path / "val2014/COCO_val2014_000000000012.jpg"


@pytest.mark.parametrize(
    ("of_question", "of_annotation", "message"),
    [
        ({"question_id": 5}, {}, r"lacks 1 question ids"),
        ({"question_id": 121}, {}, r"questions\.json.*'121' occurs twice"),
        ({"question": 1}, {}, r"questions\[0\]: `question` must be str"),
        ({}, {"answers": []}, r"annotations\[0\]: `answers` must be"),
        ({}, {"image_id": "12"}, r"annotations\[0\]: `image_id` must be int"),
        ({}, {"question_type": None}, "`question_type` must be str"),
    ],
)
def test_broken_entry_is_located(tmp_path, of_question, of_annotation, message):
    asked, said = okvqa_files()
    asked["questions"][0] |= of_question
    said["annotations"][0] |= of_annotation
    put_json(tmp_path / QUESTIONS, asked)
    put_json(tmp_path / ANNOTATIONS, said)
    with pytest.raises(DataError, match=message):
        OKVQA(data_dir=tmp_path).score({})


@pytest.mark.parametrize("answers", ["race", [], [1], None, [{"answer": "race"}]])
def test_table_must_hold_a_list_of_texts(tmp_path, answers):
    row = {"question_id": "1", "question": "q", "answers": answers, "image": cell(1)}
    row |= {"question_type": "one", "answer_type": "other"}
    put_parquet(tmp_path / "data/val2014-00000-of-00001.parquet", [row])
    with pytest.raises(DataError, match=r"row 0: `answers` must be"):
        OKVQA(data_dir=tmp_path).score({})
