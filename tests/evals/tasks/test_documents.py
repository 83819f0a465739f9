"""DocVQA and InfographicVQA."""

import json

import pytest

from evals.errors import DataError
from evals.reading.answers import AnswerFile
from evals.submission import build_submission
from evals.tasks.docvqa import DocVQA
from evals.tasks.infovqa import InfoVQA
from tests.evals.small_files import cell, put_json, put_parquet
from tests.evals.small_newer import docvqa_records, infovqa_records, write_docvqa, write_infovqa

TASKS = [
    (DocVQA, docvqa_records, write_docvqa, "val_v1.0_withQT.json"),
    (InfoVQA, infovqa_records, write_infovqa, "infographicsVQA_val_v1.0_withQT.json"),
]


def given(lines):
    return AnswerFile(answers=lines, failed=[], unreadable=[])


def answer(task, *texts):
    lines = [
        {"question_id": s.question_id, "text": text}
        for s, text in zip(task.samples(), texts, strict=True)
    ]
    return task.score(task.match(lines))


def test_question_counts_in_each_of_its_types(tmp_path):
    write_docvqa(tmp_path)
    task = DocVQA(data_dir=tmp_path)
    scores = answer(task, "J. Do", "never", "new  york")
    assert [score.value for score in scores] == [pytest.approx(1 - 1 / 6), 0.0, 1.0 - 0 / 9]
    figures = task.aggregate(scores)
    assert figures.metrics["anls"] == pytest.approx((5 / 6 + 1) / 3)
    assert figures.breakdowns["question_types"] == {
        "form": {"anls": pytest.approx(5 / 12), "num_questions": 2},
        "layout": {"anls": pytest.approx(5 / 6), "num_questions": 1},
    }
    assert [s.to_line()["question_types"] for s in scores] == ["form, layout", "form", None]


def test_infographics_are_told_by_all_that_their_file_has(tmp_path):
    write_infovqa(tmp_path)
    task = InfoVQA(data_dir=tmp_path)
    figures = task.aggregate(answer(task, "65%", "no", "red, blue"))
    assert {field: set(groups) for field, groups in figures.breakdowns.items()} == {
        "answer_type": {"image span", "non span", "multiple spans"},
        "evidence": {"table/list", "textual", "map", "figure"},
        "operation/reasoning": {"counting"},
    }
    assert figures.breakdowns["answer_type"]["image span"] == {"anls": 1.0, "num_questions": 2}


def test_prompt_is_the_question_and_a_line(tmp_path):
    write_docvqa(tmp_path)
    [sample, *_] = DocVQA(data_dir=tmp_path).samples()
    assert sample.text == "Who?\nAnswer the question using a single word or phrase."
    assert sample.images[0].path == tmp_path / "documents/a_1.png"
    write_infovqa(tmp_path)
    [sample, *_] = InfoVQA(data_dir=tmp_path).samples()
    assert sample.images[0].path == tmp_path / "images/1.jpg"


@pytest.mark.parametrize(("build", "records", "write", "name"), TASKS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": []}, r"data\[0\]: `answers` must not be empty"),
        ({"answers": "65%"}, "`answers` must be list"),
        ({"answers": [65]}, "`answers` must be a list of texts"),
        ({"question": None}, "`question` must be str"),
        ({"questionId": 1.5}, "`questionId` must be"),
        ({"question_types": "form", "answer_type": "a span"}, "must be list"),
        ({"image": 7, "image_local_name": 7}, "must be str"),
    ],
)
def test_broken_entry_is_located(tmp_path, build, records, write, name, changes, message):
    first, *rest = records()
    put_json(tmp_path / name, {"data": [{**first, **changes}, *rest]})
    with pytest.raises(DataError, match=message):
        build(data_dir=tmp_path).score({})


def test_upload_lists_the_test_split_in_its_order(tmp_path):
    write_docvqa(tmp_path)
    task = DocVQA(data_dir=tmp_path, split="test")
    lines = [{"question_id": 340 + n, "text": f"Zoë {n}"} for n in (2, 0, 1)]
    upload = build_submission(task, given(lines))
    assert upload.suffix == ".json"
    assert json.loads(upload.content) == [
        {"questionId": 340 + n, "answer": f"Zoë {n}"} for n in range(3)
    ]
    for found, message in (
        (lines[1:], "have no answer"),
        ([*lines, {"question_id": 999, "text": "a"}], "999"),
        ([{**lines[0], "text": " "}, *lines[1:]], "have an empty answer"),
    ):
        with pytest.raises(DataError, match=message):
            build_submission(task, given(found))
    with pytest.raises(DataError, match="no public annotations"):
        task.score({})
    with pytest.raises(DataError, match="no server"):
        DocVQA(data_dir=tmp_path).require_upload()


def test_upload_of_a_table_has_numbers_for_ids(tmp_path):
    rows = [{"questionId": "57343", "question": "q", "image_url": "u", "image": cell(1)}]
    put_parquet(tmp_path / "InfographicVQA/test-00000-of-00001.parquet", rows)
    task = InfoVQA(data_dir=tmp_path, split="test")
    assert json.loads(task.render_submission({"57343": "a"}))[0]["questionId"] == 57343
    put_parquet(
        tmp_path / "InfographicVQA/test-00000-of-00001.parquet", [{**rows[0], "questionId": "q1"}]
    )
    with pytest.raises(DataError, match="takes numbers for ids"):
        InfoVQA(data_dir=tmp_path, split="test").render_submission({"q1": "a"})
