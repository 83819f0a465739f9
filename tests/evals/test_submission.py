import io
import json

import pytest

from evals.errors import DataError
from evals.reading.answers import read_answers
from evals.submission import build_submission, render_xlsx
from evals.tasks.gqa import GQA
from evals.tasks.mmbench import MMBench
from evals.tasks.seedbench import SeedBench
from evals.tasks.vizwiz import VizWiz
from evals.tasks.vqav2 import VQAv2
from tests.evals.small_data import SMALL_DATA, mmbench_rows, put_json, put_lines, write_tsv


def line(question_id, text="yes", **fields):
    return {"question_id": question_id, "text": text, **fields}


def answer_file(folder, lines, extra=""):
    path = folder / "answers.jsonl"
    put_lines(path, lines)
    path.write_text(path.read_text() + extra)
    return read_answers(path)


@pytest.fixture
def vqav2(tmp_path):
    """Three questions in test2015, of which test-dev2015 asks two."""
    for subtype, ids in (("test2015", (1, 2, 3)), ("test-dev2015", (1, 2))):
        questions = [{"question_id": n, "image_id": 7, "question": "Is it?"} for n in ids]
        put_json(
            tmp_path / f"v2_OpenEnded_mscoco_{subtype}_questions.json", {"questions": questions}
        )
    return VQAv2(data_dir=tmp_path)


def test_upload_of_a_part_lists_the_whole_and_leaves_the_rest_empty(vqav2, tmp_path):
    upload = build_submission(vqav2, answer_file(tmp_path, [line(2, "A cat."), line("1", "It's")]))
    assert json.loads(upload.content) == [
        {"question_id": 1, "answer": "it 's"},
        {"question_id": 2, "answer": "cat"},
        {"question_id": 3, "answer": ""},
    ]
    assert (upload.num_listed, upload.num_missing, upload.num_empty) == (3, 0, 0)


FAILED = line(2, "", metadata={"error": {"cause": "error", "message": "m"}})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(1)], "1 question ids have no answer .for example 2."),
        ([line(1), FAILED], "1 question ids have no answer"),
        ([line(1), line(2, "")], "1 question ids have an empty answer"),
        ([line(1), line(2, " \n")], "1 question ids have an empty answer"),
        ([line(1), line(2), line(2, "no")], "1 question ids have several different answers"),
        ([line(1), line(2), line(3)], "not in vqav2 test-dev2015, but in the larger split"),
        ([line(1), line(2), line(9)], "1 question ids of the answers are not in vqav2"),
        ([line("a"), line("b")], "2 question ids of the answers are not in"),
        ([FAILED], "There is no answer to vqav2 test-dev2015"),
    ],
)
def test_wrong_answers_are_refused(vqav2, tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        build_submission(vqav2, answer_file(tmp_path, lines))


def test_unreadable_line_is_named_where_its_answer_is_missing(vqav2, tmp_path):
    answers = answer_file(tmp_path, [line(1)], '{"question_id": 2, "te')
    with pytest.raises(DataError, match="1 lines are unreadable"):
        build_submission(vqav2, answers)
    upload = build_submission(vqav2, answers, allow_missing=True)
    assert (upload.num_missing, upload.num_unreadable) == (1, 1)


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        ([line(1)], (1, 0, 0)),
        ([line(1), line(2, "")], (0, 1, 0)),
        ([line(1, "no"), line(1), line(2)], (0, 0, 1)),
    ],
)
def test_incomplete_answers_are_accepted_and_counted_on_request(vqav2, tmp_path, lines, counts):
    upload = build_submission(vqav2, answer_file(tmp_path, lines), allow_missing=True)
    assert (upload.num_missing, upload.num_empty, upload.num_repeated) == counts
    assert json.loads(upload.content)[0]["answer"] == "yes"


def test_foreign_ids_are_refused_even_on_request(vqav2, tmp_path):
    with pytest.raises(DataError, match="are not in"):
        build_submission(vqav2, answer_file(tmp_path, [line(1), line(9)]), allow_missing=True)


def test_repeated_equal_answers_do_no_harm(vqav2, tmp_path):
    upload = build_submission(vqav2, answer_file(tmp_path, [line(1), line(2), line(2)]))
    assert upload.num_repeated == 0


def test_answers_cannot_be_checked_without_the_questions_of_the_split(vqav2, tmp_path):
    (tmp_path / "v2_OpenEnded_mscoco_test-dev2015_questions.json").unlink()
    answers = answer_file(tmp_path, [line(1), line(2)])
    with pytest.raises(DataError, match=r"cannot be checked.*allow_missing=true"):
        build_submission(vqav2, answers)
    assert build_submission(vqav2, answers, allow_missing=True).num_listed == 3


def test_split_or_benchmark_without_a_server_is_refused(tmp_path):
    answers = answer_file(tmp_path, [line(1)])
    with pytest.raises(DataError, match="vqav2 val has no server"):
        build_submission(VQAv2(data_dir=tmp_path, split="val"), answers)
    with pytest.raises(DataError, match="gqa testdev_balanced has no server that takes answers"):
        build_submission(GQA(data_dir=tmp_path), answers)


def test_upload_of_vizwiz_names_the_images(tmp_path):
    put_json(tmp_path / "test.json", [{"image": "VizWiz_test_00000003.jpg", "question": "what?"}])
    upload = build_submission(VizWiz(data_dir=tmp_path), answer_file(tmp_path, [line(3, "A Cup.")]))
    assert json.loads(upload.content) == [{"image": "VizWiz_test_00000003.jpg", "answer": "cup"}]


def test_upload_of_seedbench_keeps_answers_as_they_are(tmp_path):
    SMALL_DATA["seedbench"].write(tmp_path)
    answers = answer_file(tmp_path, [line(101, "A"), line("102", "(B)"), line("v1", "C ")])
    upload = build_submission(SeedBench(data_dir=tmp_path), answers)
    assert [json.loads(x) for x in upload.content.splitlines()] == [
        {"question_id": "101", "prediction": "A"},
        {"question_id": "102", "prediction": "(B)"},
        {"question_id": "v1", "prediction": "C "},
    ]


def sheet_of(content):
    openpyxl = pytest.importorskip("openpyxl")
    return list(openpyxl.load_workbook(io.BytesIO(content)).active.iter_rows(values_only=True))


def test_workbook_of_a_test_split_has_no_answers(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "answer"} for row in mmbench_rows()]
    write_tsv(tmp_path / "mmbench_test.tsv", rows)
    task = MMBench(data_dir=tmp_path, split="test")
    assert not task.has_annotations
    with pytest.raises(DataError, match=r"write the file for the server with runners\.submit"):
        task.score({})
    answers = answer_file(tmp_path, [line(row["index"], "A") for row in rows])
    header, first, *_ = sheet_of(build_submission(task, answers).content)
    assert header == ("index", "question", "A", "B", "C", "D", "prediction", "split")
    assert first == (5, "Which one?", "a frog", "N/A cup", "7", None, "A", "dev")


def test_cell_of_a_workbook_is_a_text_whatever_it_begins_with():
    rows = sheet_of(render_xlsx(["index", "prediction"], [[1, "=1+1"], [2, ""], [3, "🙂 א"]]))
    assert rows == [("index", "prediction"), (1, "=1+1"), (2, None), (3, "🙂 א")]


@pytest.mark.parametrize(
    ("text", "message"),
    [("x" * 32_768, "32,768 characters"), ("a\0b", "control character"), ("\x0b", "control")],
)
def test_text_that_no_cell_holds_is_refused_with_its_row(text, message):
    pytest.importorskip("openpyxl")
    with pytest.raises(DataError, match=f"Row 7: `prediction`.*{message}"):
        render_xlsx(["index", "prediction"], [[7, text]])


def test_upload_takes_ids_in_another_form_and_refuses_other_questions(tmp_path):
    put_lines(
        tmp_path / "llava_test.jsonl",
        [
            {"question_id": n, "image": f"VizWiz_test_0000000{n}.jpg", "text": f"What is {n}?"}
            for n in (1, 2)
        ],
    )
    task = VizWiz(data_dir=tmp_path)
    names = [line(f"VizWiz_test_0000000{n}.jpg", f"cat {n}") for n in (1, 2)]
    upload = build_submission(task, answer_file(tmp_path, names))
    assert [entry["answer"] for entry in json.loads(upload.content)] == ["cat 1", "cat 2"]
    swapped = [line(1, prompt="What is 2?"), line(2, prompt="What is 1?")]
    with pytest.raises(DataError, match="another question"):
        build_submission(task, answer_file(tmp_path, swapped))
