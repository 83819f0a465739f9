import pytest

from evals.errors import DataError
from evals.reading.answers import read_answers
from evals.reading.mmbench import render_row
from evals.submission import build_submission
from evals.tasks.mmbench import MMBench
from tests.evals.small_data import (
    mmbench_rows,
    put_lines,
    write_mmbench,
    write_mmbench_cn,
    write_tsv,
)

NAME = "mmbench_dev_20230712.tsv"


@pytest.fixture
def task(tmp_path):
    write_mmbench(tmp_path)
    return MMBench(data_dir=tmp_path)


def score(task, *texts):
    ids = [row["index"] for row in mmbench_rows()]
    lines = [{"question_id": i, "text": t} for i, t in zip(ids, texts, strict=True)]
    scores = task.score(task.match(lines))
    return scores, task.aggregate(scores)


def test_question_is_right_if_all_its_rows_are(task):
    scores, figures = score(task, "A", "B", "B", "B", "A")
    assert [s.value for s in scores] == [1, 1, 0, 1, 1]
    assert [s.cluster for s in scores] == ["5", "5", "5", "8", "8"]
    assert figures.metrics == {"accuracy": 0.5, "accuracy_first_pass": 1.0}
    assert figures.breakdowns["category"]["kind 8"] == {"accuracy": 1.0, "num_questions": 1}
    assert figures.breakdowns["l2-category"]["seeing"]["accuracy"] == 0.5


@pytest.mark.parametrize("with_prompts", [True, False])
def test_only_the_first_of_llavas_rounds_counts(task, with_prompts, tmp_path):
    """The further ones rotate the options of a row."""
    lines = []
    for sample in task.samples():
        for number in range(3):
            line = {"question_id": sample.question_id, "round_id": number, "option_char": ["A"]}
            prompt, text = (sample.prompt, sample.target) if number == 0 else ("Odd?", "C")
            lines.append({**line, "text": text, **({"prompt": prompt} if with_prompts else {})})
    put_lines(tmp_path / "answers.jsonl", lines)
    found = read_answers(tmp_path / "answers.jsonl")
    assert {one.value for one in task.score(task.match(found.answers))} == {1.0}
    told = found.complaints()
    assert told[0].startswith(f"{tmp_path}/answers.jsonl:2 is no answer to the options")
    assert told[3] == "7 more lines like this one: is no answer to the options as they are"
    upload = build_submission(task, found)
    assert (upload.num_repeated, upload.num_unreadable) == (0, 10)


def test_unreadable_answer_is_wrong_and_counted(task):
    scores, figures = score(task, "?", "B", "C", "Z", "A")
    assert [s.answer for s in scores] == [None, "B", "C", "Z", "A"]
    assert figures.num_unparsed == 1


def test_cells_that_pandas_reads_as_empty_are_no_options(task):
    samples = task.samples()
    assert samples[3].prompt == "Where?\nA. left\nB. right"
    (found, *_) = task.score(task.match([{"question_id": 8, "text": "None"}]))[3:]
    assert found.answer is None


@pytest.mark.parametrize(
    ("hint", "cells", "lines"),
    [
        ("", ["x", "", "y", "z"], ["q", "A. x"]),
        ("none", ["x", "NONE", "y", "z"], ["q", "A. x"]),
        ("h", ["0", "1", "2", "3"], ["h", "q", "A. 0", "B. 1", "C. 2", "D. 3"]),
    ],
)
def test_options_stop_at_the_first_empty_one(hint, cells, lines):
    assert render_row("q", hint, cells).split("\n") == lines


def test_chinese_is_asked_in_chinese(tmp_path):
    write_mmbench_cn(tmp_path)
    task = MMBench(data_dir=tmp_path, split="dev_cn_20231003", language="cn")
    assert task.name == "mmbench_cn"
    assert task.samples()[0].text.endswith("\n请直接回答选项字母。")
    brief = MMBench(data_dir=tmp_path, split="dev_cn_20231003", prompt_suffix="!")
    assert brief.samples()[0].text == brief.samples()[0].prompt + "!"


def test_image_may_stand_in_another_row(tmp_path, task):
    rows = mmbench_rows()
    rows[1]["image"] = str(rows[0]["index"])
    write_tsv(tmp_path / NAME, rows)
    first, second, *_ = MMBench(data_dir=tmp_path).samples()
    assert first.image_keys == second.image_keys
    assert second.images[0].open().size == first.images[0].open().size


def test_scoring_needs_no_image_column(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "image"} for row in mmbench_rows()]
    write_tsv(tmp_path / NAME, rows)
    task = MMBench(data_dir=tmp_path)
    assert len(task.score({})) == 5
    with pytest.raises(DataError, match="lacks the columns image"):
        task.samples()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": "x"}, r"\.tsv:2 or|`index` must be a number, but is 'x'"),
        ({"answer": "E"}, "`answer` must be a letter from A to D, but is 'E'"),
        ({"answer": "AB"}, "must be a letter"),
        ({"index": 8}, "the id '8' occurs twice"),
    ],
)
def test_broken_row_is_located(tmp_path, change, message):
    rows = mmbench_rows()
    rows[0] |= change
    write_tsv(tmp_path / NAME, rows)
    with pytest.raises(DataError, match=message):
        MMBench(data_dir=tmp_path).score({})


def test_release_is_recognized_by_its_size(tmp_path):
    rows = [{**mmbench_rows()[0], "index": n, "image": ""} for n in range(4_329)]
    write_tsv(tmp_path / NAME, rows)
    task = MMBench(data_dir=tmp_path)
    num_rows = len(task.samples())
    said = r"4,377 questions, but has 4,329: .*set tasks\.mmbench\.split=dev\."
    with pytest.raises(DataError, match=said):
        task.releases[task.split].check("mmbench dev_20230712", num_rows)


def test_unknown_language_or_split_of_the_mirror_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`language` of mmbench"):
        MMBench(data_dir=tmp_path, language="de")
    with pytest.raises(ValueError, match="`split` must be one of"):
        MMBench(data_dir=tmp_path, split="train", source="hub")


@pytest.mark.parametrize(("split", "language"), [("test", "en"), ("test_cn", "cn"), ("CC", "en")])
def test_test_table_is_scored_where_it_has_the_answers(tmp_path, split, language):
    path = tmp_path / f"mmbench_{split}.tsv"
    write_tsv(path, mmbench_rows())
    task = MMBench(data_dir=tmp_path, split=split, language=language)
    assert task.has_annotations
    scores, _ = score(task, *(row["answer"] for row in mmbench_rows()))
    assert {one.value for one in scores} == {1.0}


@pytest.mark.parametrize("answer", [None, "", "nan"])
def test_test_table_without_answers_is_for_the_server(tmp_path, answer):
    rows = [{k: answer if k == "answer" else v for k, v in row.items()} for row in mmbench_rows()]
    if answer is None:
        rows = [{k: v for k, v in row.items() if k != "answer"} for row in rows]
    write_tsv(tmp_path / "mmbench_test.tsv", rows)
    assert not MMBench(data_dir=tmp_path, split="test").has_annotations
    write_tsv(tmp_path / NAME, rows)
    with pytest.raises(DataError, match="answer"):
        MMBench(data_dir=tmp_path).samples()


def test_test_table_must_have_all_answers_or_none(tmp_path):
    rows = mmbench_rows()
    write_tsv(tmp_path / "mmbench_test.tsv", [{**rows[0], "answer": ""}, *rows[1:]])
    with pytest.raises(DataError, match="`answer` must be a letter"):
        MMBench(data_dir=tmp_path, split="test").samples()


def test_index_of_thousands_of_digits_is_named(tmp_path):
    rows = [{**mmbench_rows()[0], "index": "9" * 5000}]
    write_tsv(tmp_path / NAME, rows)
    with pytest.raises(DataError, match=r"20230712.tsv:\d: `index` must be a number"):
        MMBench(data_dir=tmp_path).samples()
