import json

import pytest

from evals.errors import DataError
from evals.reading.entries import file_entries, files_of, list_entries, question_about, reword
from evals.reading.images import image_in
from evals.records import Sample

QUESTIONS = {
    key: Sample(key=key, question_id=int(key), text="old", prompt="old", cluster=f"{key}.png")
    for key in ("1", "2")
}


def put_lines(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def line(question_id, **fields):
    return {"question_id": question_id, "text": f"new {question_id}", **fields}


def test_entry_knows_its_place_and_its_image(tmp_path):
    path = tmp_path / "a.json"
    first, second = file_entries({"rows": [{"n": 1}, {"n": 2}]}, "rows", path, tmp_path / "images")
    assert (first.place, second.record) == (f"{path}: rows[0]", {"n": 2})
    assert second.image("b.png") == image_in(tmp_path / "images", "b.png")
    assert not second.image("b.png", convert_rgb=False).convert_rgb


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be a JSON object"),
        ({}, "lacks the field `rows`"),
        ({"rows": {}}, "`rows` must be list"),
        ({"rows": []}, "`rows` is empty"),
    ],
)
def test_file_without_its_list_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        file_entries(content, "rows", tmp_path / "a.json", tmp_path)


@pytest.mark.parametrize("content", [{}, []])
def test_file_that_is_no_list_is_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"a\.json must be a list of questions"):
        list_entries(content, tmp_path / "a.json", tmp_path)


def test_entries_of_a_list_are_those_of_a_field(tmp_path):
    path, rows = tmp_path / "a.json", [{"n": 1}, {"n": 2}]
    [_, entry] = list_entries(rows, path, tmp_path / "images")
    assert (entry.place, entry.record) == (f"{path}: [1]", {"n": 2})
    assert entry.image("b.png") == image_in(tmp_path / "images", "b.png")


def test_question_may_be_about_several_images_or_none(tmp_path):
    one, two = image_in(tmp_path, "a.png"), image_in(tmp_path, "b.png")
    asked = [question_about(images, 7, "Q") for images in (one, [one, two], [])]
    assert [(s.image_keys, s.cluster) for s in asked] == [
        (("a.png",), "a.png"),
        (("a.png", "b.png"), "a.png,b.png"),
        ((), "7"),
    ]


def test_files_are_those_that_are_there(tmp_path):
    (tmp_path / "b.json.gz").touch()
    find = files_of(None, tmp_path / "a.json", tmp_path / "b.json")
    assert find() == [tmp_path / "b.json.gz"]
    (tmp_path / "a.json").touch()
    assert [path.name for path in find()] == ["a.json", "b.json.gz"]


def test_question_file_gives_texts_and_its_images_on_request(tmp_path):
    path = put_lines(tmp_path / "q.jsonl", line(2, image="x.png"), line(1, image="y.png"))
    told = {"prompts": path, "annotations": tmp_path / "a.json"}
    asked = reword(QUESTIONS, **told)
    assert [(s.key, s.text, s.prompt, s.images) for s in asked] == [
        ("1", "new 1", "new 1", ()),
        ("2", "new 2", "new 2", ()),
    ]
    asked = reword(QUESTIONS, **told, images=tmp_path)
    assert [s.image_keys for s in asked] == [("y.png",), ("x.png",)]
    assert [s.cluster for s in asked] == ["1.png", "2.png"]


def test_questions_stay_as_they_are_without_a_question_file(tmp_path):
    for path in (None, tmp_path / "q.jsonl"):
        asked = reword(QUESTIONS, prompts=path, annotations=tmp_path / "a.json")
        assert asked == list(QUESTIONS.values())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(1, image="a.png")], r"q\.jsonl lacks 1 question ids of .*a\.json"),
        (
            [line(n, image="a.png") for n in (1, 2, 3)],
            r"a\.json lacks 1 question ids of .*q\.jsonl",
        ),
        ([line(1, image="a.png"), line(2)], r"q\.jsonl:2: `image` must be one file name"),
    ],
)
def test_question_file_of_other_questions_is_refused(tmp_path, lines, message):
    path = put_lines(tmp_path / "q.jsonl", *lines)
    with pytest.raises(DataError, match=message):
        reword(QUESTIONS, prompts=path, annotations=tmp_path / "a.json", images=tmp_path)


def test_key_of_a_question_may_differ_from_its_id(tmp_path):
    path = put_lines(tmp_path / "q.jsonl", line("q1"), line("q2"))
    asked = reword(
        QUESTIONS, prompts=path, annotations=tmp_path / "a.json", key=lambda name: name[1:]
    )
    assert [s.text for s in asked] == ["new q1", "new q2"]
