import json
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.errors import DataError
from evals.reading.textvqa import question_key, question_of_prompt
from evals.tasks.textvqa import TextVQA
from tests.evals.small_data import put_json, put_lines, textvqa_records, write_textvqa

SUFFIX = "\nAnswer the question using a single word or phrase."


@pytest.fixture
def folder(tmp_path):
    write_textvqa(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        ("What?" + SUFFIX, "What?"),
        ("What?\nReference OCR token: a, b" + SUFFIX, "What?"),
        ("What?\nReference OCR token: " + SUFFIX, "What?"),
        ("Reference OCR token: a\nWhat?" + SUFFIX, "What?"),
        ("OCR tokens: a, b. Question: What? Short answer:", "What?"),
        ("<image>\nReference OCR token: a\nWhat?" + SUFFIX, "What?"),
        ("<image>\nOCR tokens: a. Question: What? Short answer:", "What?"),
        ("OCR tokens: a. What?", None),
        ("What?", None),
        ("", None),
        ("a\nb\nc", None),
    ],
)
def test_question_is_read_from_the_official_layouts(prompt, question):
    assert question_of_prompt(prompt) == question


@given(st.text())
def test_any_prompt_is_read_or_not(prompt):
    assert question_of_prompt(prompt) is None or isinstance(question_of_prompt(prompt), str)


def test_prompt_names_the_words_in_the_image(folder):
    texts = [sample.text for sample in TextVQA(data_dir=folder).samples()]
    assert texts[0] == "What is the brand?\nReference OCR token: NOKIA, 10:08" + SUFFIX
    assert texts[2] == "What does it say?\nReference OCR token: " + SUFFIX
    plain = TextVQA(data_dir=folder, ocr_tokens=False).samples()
    assert plain[0].text == "What is the brand?" + SUFFIX


def test_question_file_of_llava_goes_before_the_tokens(folder):
    lines = [
        {
            "question_id": record["image_id"],
            "image": f"{record['image_id']}.jpg",
            "text": f"{record['question'].capitalize()}\nReference OCR token: odd{SUFFIX}",
        }
        for record in reversed(textvqa_records())
    ]
    put_lines(folder / "llava_textvqa_val_v051_ocr.jsonl", lines)
    samples = TextVQA(data_dir=folder).samples()
    assert [s.question_id for s in samples] == ["0a", "0a", "1b"]
    assert all("token: odd" in sample.text for sample in samples)
    brief = TextVQA(data_dir=folder, prompt_suffix="\nBriefly.").samples()
    assert brief[0].text == "What is the brand?\nReference OCR token: odd\nBriefly."
    put_lines(folder / "llava_textvqa_val_v051_ocr.jsonl", lines[:2])
    with pytest.raises(DataError, match="lacks 1 question ids"):
        TextVQA(data_dir=folder).samples()


def test_question_answered_twice_counts_twice(folder):
    task = TextVQA(data_dir=folder)
    samples = task.samples()
    lines = [{"question_id": s.question_id, "prompt": s.prompt, "text": "stop"} for s in samples]
    scores = task.score(task.match([*lines, lines[2]]))
    assert [score.value for score in scores] == [0.0, 0.0, 1.0, 1.0]
    assert len({score.key for score in scores}) == 4
    assert task.aggregate(scores).metrics == {"vqa_accuracy": 0.5}


def test_question_differs_by_its_text_and_not_by_its_case(folder):
    task = TextVQA(data_dir=folder)
    answer = {"question_id": "0a", "prompt": "WHAT TIME IS IT?" + SUFFIX, "text": "10:08"}
    assert list(task.match([answer])) == [question_key("0a", "what time is it?")]


def test_prompt_in_another_normal_form_asks_the_same_question(folder):
    own = "Quel est le café 한?"  # as published all are, in NFC
    records = [{**record, "question": own} for record in textvqa_records()[1:]]
    put_json(folder / "TextVQA_0.5.1_val.json", {"data": records})
    asked = normalize("NFD", own)
    lines = [{"question_id": name, "prompt": asked + SUFFIX, "text": "x"} for name in ("0a", "1b")]
    matched = TextVQA(data_dir=folder).match(lines)
    assert list(matched) == [question_key(name, own) for name in ("0a", "1b")]
    assert question_key("0a", own) != question_key("0a", asked)  # stored runs hold keys as they are


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"question_id": "0a", "text": "x"}, "from which its question cannot be read"),
        ({"question_id": "0a", "prompt": "Why?" + SUFFIX, "text": "x"}, r"no question 'Why\?'"),
        (
            {"question_id": "9z", "prompt": "What is the brand?" + SUFFIX, "text": "x"},
            "about the image '9z'",
        ),
    ],
)
def test_foreign_answer_is_refused(folder, answer, message):
    with pytest.raises(DataError, match=message):
        TextVQA(data_dir=folder).match([answer])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"answers": ["x"] * 9}, "must be 10 texts, but are 9"),
        ({"answers": [1] * 10}, "must be 10 texts"),
        ({"question": None}, "`question` must be str"),
        ({"image_id": "1b", "question": "What does it SAY?"}, "occurs twice"),
    ],
)
def test_broken_annotation_is_located(folder, record, message):
    records = textvqa_records()
    records[0] |= record
    put_json(folder / "TextVQA_0.5.1_val.json", {"data": records})
    with pytest.raises(DataError, match=message):
        TextVQA(data_dir=folder).score({})


def test_unknown_words_of_an_image_are_an_error(folder):
    put_json(folder / "TextVQA_Rosetta_OCR_v0.2_val.json", {"data": []})
    with pytest.raises(DataError, match="OCR tokens of the image '0a' are not known"):
        TextVQA(data_dir=folder).samples()


def test_test_split_is_asked_and_not_scored(tmp_path):
    records = [{k: v for k, v in row.items() if k != "answers"} for row in textvqa_records()]
    put_json(tmp_path / "TextVQA_0.5.1_test.json", {"data": records})
    task = TextVQA(data_dir=tmp_path, split="test", ocr_tokens=False)
    assert not task.has_annotations
    assert [sample.target for sample in task.samples()] == [None] * 3
    with pytest.raises(DataError, match="no public annotations"):
        task.score({})
    with pytest.raises(ValueError, match="`split` of textvqa"):
        TextVQA(data_dir=tmp_path, split="dev")


def test_summary_of_answered_questions_is_the_official_figure(folder):
    task = TextVQA(data_dir=folder)
    (first, *_) = task.samples()
    scores = task.score(
        task.match([{"question_id": first.question_id, "prompt": first.prompt, "text": "Nokia"}])
    )
    answered = [score for score in scores if score.answered]
    assert task.aggregate(answered).metrics["vqa_accuracy"] == 1.0
    assert task.aggregate(scores).metrics["vqa_accuracy"] == pytest.approx(1 / 3)
    assert json.dumps([score.to_line() for score in scores])


def test_test_split_is_scored_where_its_file_has_answers(tmp_path):
    put_json(tmp_path / "TextVQA_0.5.1_test.json", {"data": textvqa_records()})
    assert TextVQA(data_dir=tmp_path, split="test").has_annotations
    empty = [{**row, "answers": [""] * 10} for row in textvqa_records()]
    put_json(tmp_path / "TextVQA_0.5.1_test.json", {"data": empty})
    assert not TextVQA(data_dir=tmp_path, split="test").has_annotations
