import json
from pathlib import Path

import pytest

from evals.errors import DataError
from evals.records import Prediction
from evals.tasks.vqav2 import VQAv2, score_vqa

SUFFIX = "\nAnswer the question using a single word or phrase."


def question(question_id, image_id, text):
    return {"question_id": question_id, "image_id": image_id, "question": text}


def annotation(question_id, image_id, answers, answer_type="other"):
    return {
        "question_id": question_id,
        "image_id": image_id,
        "question_type": "what",
        "answer_type": answer_type,
        "multiple_choice_answer": answers[0],
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": number}
            for number, answer in enumerate(answers, start=1)
        ],
    }


QUESTIONS = [question(420, 42, "What is it?"), question(421, 42, "Is it red?")]
ANNOTATIONS = [
    annotation(421, 42, ["yes"] * 10, "yes/no"),
    annotation(420, 42, ["cat"] * 8 + ["dog"] * 2),
]


def write(folder, subtype="val2014", questions=QUESTIONS, annotations=ANNOTATIONS):
    if questions is not None:
        path = folder / f"v2_OpenEnded_mscoco_{subtype}_questions.json"
        path.write_text(json.dumps({"questions": questions}))
    if annotations is not None:
        path = folder / f"v2_mscoco_{subtype}_annotations.json"
        path.write_text(json.dumps({"annotations": annotations}))
    return folder


def predictions(**texts):
    return {
        key.lstrip("q"): Prediction(key=key.lstrip("q"), question_id=0, prompt="", text=text)
        for key, text in texts.items()
    }


def test_nothing_is_read_at_construction(tmp_path):
    assert VQAv2(data_dir=tmp_path / "nowhere").data_files() == []


def test_samples_follow_the_annotations_and_carry_their_fields(tmp_path):
    samples = VQAv2(data_dir=write(tmp_path), split="val").samples()
    assert [sample.question_id for sample in samples] == [421, 420]
    sample = samples[1]
    assert sample.key == "420"
    assert sample.text == sample.prompt == "What is it?" + SUFFIX
    assert sample.image_keys == ("COCO_val2014_000000000042.jpg",) == (sample.cluster,)
    assert sample.images[0].path == tmp_path / "val2014/COCO_val2014_000000000042.jpg"
    assert sample.groups == {"answer_type": "other", "question_type": "what"}
    assert sample.target == ("cat",) * 8 + ("dog",) * 2


def test_scores_follow_the_annotations_and_missing_answers_score_zero(tmp_path):
    task = VQAv2(data_dir=write(tmp_path), split="val")
    scores = task.score(predictions(q420="A dog."))
    assert [(s.key, s.value, s.answer, s.answered) for s in scores] == [
        ("421", 0.0, None, False),
        ("420", 0.6, "dog", True),
    ]
    figures = task.aggregate(scores)
    assert figures.metrics == {"vqa_accuracy": 0.3}
    assert figures.breakdowns["answer_type"] == {
        "other": {"vqa_accuracy": 0.6, "num_questions": 1},
        "yes/no": {"vqa_accuracy": 0.0, "num_questions": 1},
    }


def test_scoring_needs_the_annotations_only(tmp_path):
    task = VQAv2(data_dir=write(tmp_path, questions=None), split="val")
    assert [score.value for score in task.score(predictions(q421="yes"))] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("Yes", ["yes"] * 10, (0.0, "Yes")),
        (" yes\n", ["yes"] * 9 + ["yes\t"], (1.0, "yes")),
        ("Yes", ["yes"] * 9 + ["Yes"], (1.0, "yes")),
        ("two", ["2"] * 4 + ["three"] * 6, (1.0, "2")),
    ],
)
def test_normalization_only_where_annotators_differ(text, answers, expected):
    records = annotation(1, 1, answers)["answers"]
    assert score_vqa(text, answers) == score_vqa(text, answers, records=records) == expected


@pytest.mark.parametrize(
    ("split", "subtype", "images", "count"),
    [
        ("test-dev2015", "test-dev2015", "test2015", 107_394),
        ("test2015", "test2015", "test2015", 447_793),
    ],
)
def test_test_splits_are_asked_but_not_scored(tmp_path, split, subtype, images, count):
    write(tmp_path, subtype, annotations=None)
    task = VQAv2(data_dir=tmp_path, split=split)
    assert (task.has_annotations, task.releases[split].num_questions) == (False, count)
    samples = task.samples()
    assert [sample.question_id for sample in samples] == [420, 421]
    assert samples[0].images[0].path == tmp_path / images / f"COCO_{images}_000000000042.jpg"
    assert samples[0].target is None
    assert list(task.match([{"question_id": "421", "text": "no"}])) == ["421"]
    with pytest.raises(DataError, match="no public annotations"):
        task.score({})


def test_question_file_of_llava_gives_the_prompts(tmp_path):
    line = {
        "question_id": 7,
        "image": "COCO_test2015_000000000001.jpg",
        "text": "Odd text" + SUFFIX,
    }
    (tmp_path / "llava_vqav2_mscoco_test-dev2015.jsonl").write_text(json.dumps(line))
    (sample,) = VQAv2(data_dir=tmp_path).samples()
    assert (sample.text, sample.image_keys) == (line["text"], (line["image"],))
    (sample,) = VQAv2(data_dir=tmp_path, prompt_suffix=" Briefly.").samples()
    assert sample.text == sample.prompt == "Odd text Briefly."


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="`split` of vqav2 must be one of"):
        VQAv2(data_dir=Path(), split="test-dev")


@pytest.mark.parametrize(
    ("questions", "annotations", "message"),
    [
        (QUESTIONS[:1], ANNOTATIONS, r"questions\.json lacks 1 question ids"),
        (QUESTIONS, ANNOTATIONS[:1], r"annotations\.json lacks 1 question ids"),
        (QUESTIONS, [*ANNOTATIONS, ANNOTATIONS[0]], "'421' occurs twice"),
        (QUESTIONS, [], "`annotations` is empty"),
        (QUESTIONS, [{"question_id": 420}], "lacks the field"),
        (
            QUESTIONS,
            [{**ANNOTATIONS[0], "answers": []}],
            "`answers` must be a list of at least one",
        ),
        (QUESTIONS, [{**ANNOTATIONS[0], "answers": ["yes"]}], "with a text under `answer`"),
        (QUESTIONS, [{"image_id": 42}], r"annotations\[0\] lacks the field `question_id`"),
        (QUESTIONS, None, r"annotations\.json does not exist.*visualqa\.org"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, questions, annotations, message):
    task = VQAv2(data_dir=write(tmp_path, "val2014", questions, annotations), split="val")
    with pytest.raises(DataError, match=message):
        task.score({})
    with pytest.raises(DataError):
        VQAv2(data_dir=tmp_path, split="val").samples()


def test_prediction_of_another_split_is_refused(tmp_path):
    task = VQAv2(data_dir=write(tmp_path), split="val")
    with pytest.raises(DataError, match="not in vqav2 val"):
        task.score(predictions(q999="yes"))


def test_figure_over_no_scores_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="at least one score"):
        VQAv2(data_dir=tmp_path, split="val").aggregate([])


def test_normalization_is_a_named_choice(tmp_path):
    write(tmp_path)
    for normalization, value in (("official", 0.0), ("always", 1.0)):
        task = VQAv2(data_dir=tmp_path, split="val", normalization=normalization)
        assert task.score(predictions(q421="Yes."))[0].value == value
    with pytest.raises(ValueError, match="`normalization` must be one of"):
        VQAv2(data_dir=tmp_path, normalization="m4c")
