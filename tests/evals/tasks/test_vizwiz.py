import pytest

from evals.errors import DataError
from evals.tasks.vizwiz import VizWiz
from tests.evals.small_data import put_json, put_lines, vizwiz_records, write_vizwiz

PROMPT = (
    "What is this?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
    "Answer the question using a single word or phrase."
)


def test_id_is_the_number_in_the_image_name(tmp_path):
    write_vizwiz(tmp_path)
    samples = VizWiz(data_dir=tmp_path, split="val").samples()
    assert [sample.question_id for sample in samples] == [7, 8, 9]
    assert samples[0].text == PROMPT
    assert samples[0].image_keys == ("VizWiz_val_00000007.jpg",)
    brief = VizWiz(data_dir=tmp_path, split="val", prompt_suffix=" Briefly.").samples()
    assert brief[0].text == "What is this? Briefly."


def test_answer_is_normalized_and_annotators_are_not(tmp_path):
    records = vizwiz_records()
    records[0]["answers"] = [{"answer": a} for a in ["Soup"] * 6 + ["two soups"] * 4]
    put_json(tmp_path / "val.json", records)
    task = VizWiz(data_dir=tmp_path, split="val")
    for text, value in (("Soup", 0.0), ("soup", 0.0), ("two soups", 0.0)):
        (score, *_) = task.score(task.match([{"question_id": 7, "text": text}]))
        assert (score.value, score.answer) == (value, text.lower().replace("two", "2"))
    figures = task.aggregate(task.score(task.match([{"question_id": "8", "text": "No!"}])))
    assert figures.breakdowns["answer_type"]["yes/no"]["vqa_accuracy"] == 1.0


def test_question_file_of_llava_serves_for_the_test_split(tmp_path):
    line = {"question_id": 4, "image": "VizWiz_test_00000003.jpg", "text": PROMPT}
    put_lines(tmp_path / "llava_test.jsonl", [line])
    task = VizWiz(data_dir=tmp_path)
    (sample,) = task.samples()
    assert (sample.question_id, sample.text, sample.target) == (4, PROMPT, None)
    assert sample.images[0].path == tmp_path / "test/VizWiz_test_00000003.jpg"
    with pytest.raises(DataError, match="no public annotations"):
        task.score({})


def test_prompts_of_an_annotated_split_come_from_llavas_file(tmp_path):
    write_vizwiz(tmp_path)
    lines = [
        {"question_id": n, "image": f"VizWiz_val_{n:08d}.jpg", "text": f"Odd {n}"}
        for n in (9, 8, 7)
    ]
    put_lines(tmp_path / "llava_val.jsonl", lines)
    samples = VizWiz(data_dir=tmp_path, split="val").samples()
    assert [sample.text for sample in samples] == ["Odd 7", "Odd 8", "Odd 9"]
    put_lines(tmp_path / "llava_val.jsonl", lines[1:])
    with pytest.raises(DataError, match="lacks 1 question ids"):
        VizWiz(data_dir=tmp_path, split="val").samples()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "photo.jpg"}, "must end in a number"),
        ({"answers": []}, "`answers` must not be empty"),
        ({"answers": [{}]}, "lacks the field `answer`"),
        ({"image": "VizWiz_val_00000009.jpg"}, "occurs twice"),
    ],
)
def test_broken_annotation_is_located(tmp_path, change, message):
    records = vizwiz_records()
    records[0] |= change
    put_json(tmp_path / "val.json", records)
    with pytest.raises(DataError, match=message):
        VizWiz(data_dir=tmp_path, split="val").score({})


def test_unknown_split_or_empty_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`split` of vizwiz"):
        VizWiz(data_dir=tmp_path, split="dev")
    put_json(tmp_path / "val.json", [])
    with pytest.raises(DataError, match="must be a list of questions"):
        VizWiz(data_dir=tmp_path, split="val").samples()


def test_test_split_is_scored_where_its_file_has_answers(tmp_path):
    records = vizwiz_records()
    put_json(tmp_path / "test.json", records)
    names = [record["image"] for record in records]
    lines = [{"question_id": n, "image": names[n - 7], "text": f"Odd {n}"} for n in (7, 8, 9)]
    put_lines(tmp_path / "llava_test.jsonl", lines)
    task = VizWiz(data_dir=tmp_path)
    assert task.has_annotations
    assert [sample.text for sample in task.samples()] == ["Odd 7", "Odd 8", "Odd 9"]
    bare = [{k: v for k, v in record.items() if k != "answers"} for record in records]
    put_json(tmp_path / "test.json", bare)
    assert not VizWiz(data_dir=tmp_path).has_annotations
