import json

import pytest

from evals.errors import DataError
from evals.reading.answers import check_keys, match_by_id, read_answers

IDS = {"1": 1, "q2": "q2"}


def write(path, *lines):
    rows = [line if isinstance(line, (str, bytes)) else json.dumps(line) for line in lines]
    path.write_bytes(b"\n".join(r if isinstance(r, bytes) else r.encode() for r in rows))
    return path


def answer(question_id, text, **more):
    return {"question_id": question_id, "text": text, **more}


def test_unreadable_lines_are_listed_and_the_rest_is_read(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        answer(1, "yes"),
        '{"question_id": 2',
        b'{"question_id": 3, "text": "\xff"}',
        "[]",
        {"text": "no id"},
        {"question_id": True, "text": "no id"},
        {"question_id": 4},
        "[" * 99_999,
        "",
        answer("5", "no"),
    )
    found = read_answers(path)
    assert [row["question_id"] for row in found.answers] == [1, "5"]
    assert [line.split(" ")[0].rsplit(":", 1)[1] for line in found.unreadable] == list("2345678")


def test_recorded_failure_is_no_answer(tmp_path):
    failed = answer(1, "", metadata={"key": "1", "error": {"cause": "image_missing"}})
    found = read_answers(write(tmp_path / "a.jsonl", failed, answer(2, "", metadata={})))
    assert [row["question_id"] for row in found.failed] == [1]
    assert [row["question_id"] for row in found.answers] == [2]


@pytest.mark.parametrize("lines", [[], ["nonsense"]])
def test_file_without_any_answer_is_refused(tmp_path, lines):
    with pytest.raises(DataError, match=r"holds no answer"):
        read_answers(write(tmp_path / "a.jsonl", *lines))


def test_ids_match_as_text_and_the_last_answer_wins():
    rows = [answer("1", "first"), answer("q2", "b", prompt="p"), answer(1, "last")]
    found = match_by_id(rows, IDS, task="t", foreign_is_error=True)
    assert {key: (p.question_id, p.text, p.prompt) for key, p in found.items()} == {
        "1": (1, "last", ""),
        "q2": ("q2", "b", "p"),
    }


def test_foreign_id_is_an_error_or_ignored():
    rows = [answer(1, "a"), answer(9, "b")]
    assert list(match_by_id(rows, IDS, task="t", foreign_is_error=False)) == ["1"]
    with pytest.raises(DataError, match=r"1 question ids .* not in t \(for example 9\)"):
        match_by_id(rows, IDS, task="t", foreign_is_error=True)


def test_answers_of_another_benchmark_are_refused_even_where_foreign_ids_are_ignored():
    with pytest.raises(DataError, match="not in t"):
        match_by_id([answer(9, "b")], IDS, task="t", foreign_is_error=False)


def test_no_answers_give_no_predictions():
    assert match_by_id([], IDS, task="t", foreign_is_error=True) == {}


def test_prediction_of_an_unknown_key_is_refused():
    found = match_by_id([answer(1, "a")], IDS, task="t", foreign_is_error=True)
    check_keys(found, {"1"}, "t")
    with pytest.raises(DataError, match="1 predictions"):
        check_keys(found, {"2"}, "t")


def test_many_alike_lines_are_counted(tmp_path):
    lines = [{"questionId": f"0{n}", "prediction": "yes"} for n in range(500)]
    found = read_answers(write(tmp_path / "a.jsonl", *lines, "{", answer(1, "yes")))
    told = found.complaints()
    assert len(found.unreadable) == 501
    assert [line.split(" ")[0] for line in told[:3]] == [
        f"{tmp_path}/a.jsonl:{n}" for n in (1, 2, 3)
    ]
    assert told[3].startswith("497 more lines like this one: has no `question_id`")
    assert "questionId, prediction" in told[0]
    assert len(told) == 5


@pytest.mark.parametrize(
    ("layout", "kind"),
    [
        ("[{},{}]", "list"),
        ("[{},\n{}]", "list"),
        ("\n[\n{},\n{}\n]\n", "list"),
        ("[\n{}\n,\n{}\n]", "list"),
        ('{{"answers": [\n{},\n{}\n]}}', "object"),
    ],
)
def test_list_of_answers_is_named_as_such(layout, kind, tmp_path):
    lines = [json.dumps(answer(number, "yes")) for number in (1, 2)]
    with pytest.raises(DataError, match=f"is one JSON {kind}, but must hold one JSON object a l"):
        read_answers(write(tmp_path / "a.json", layout.format(*lines)))


def test_answers_of_another_dialogue_format_may_number_its_rounds(tmp_path):
    lines = [answer(f"3_{number}", "yes", round_id=number) for number in (1, 2)]
    assert len(read_answers(write(tmp_path / "a.jsonl", *lines)).answers) == 2


def test_torn_line_does_not_make_a_file_one_list(tmp_path):
    for lines in (["[", answer(1, "yes")], [answer(1, "yes"), "[", "{"]):
        assert len(read_answers(write(tmp_path / "a.jsonl", *lines)).answers) == 1


def test_fields_of_lines_that_are_no_answers_are_named(tmp_path):
    with pytest.raises(DataError, match=r"holds no answer.*its fields are questionId"):
        read_answers(write(tmp_path / "a.jsonl", {"questionId": "1"}))


def test_whole_number_as_a_table_writes_it_is_an_id(tmp_path):
    lines = [answer(7.0, "yes"), answer(7.5, "no"), answer(1e300, "no")]
    found = read_answers(write(tmp_path / "a.jsonl", *lines))
    assert ([row["question_id"] for row in found.answers], len(found.unreadable)) == ([7], 2)


def test_lines_are_alike_by_what_is_wrong_whatever_their_file_is_called(tmp_path):
    path = tmp_path / "a: b:1" / "c: 2 d.jsonl"
    path.parent.mkdir()
    path.write_text('{"question_id": 1, "text": "x"}\n' + "5\n" * 9 + "x\n" * 9)
    told = read_answers(path).complaints()
    assert [line for line in told if line.startswith("6 more")] == [
        "6 more lines like this one: is no JSON object",
        "6 more lines like this one: is not JSON",
    ]
