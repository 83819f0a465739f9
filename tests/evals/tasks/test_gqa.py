import json

import pytest

from evals.errors import DataError
from evals.records import Prediction
from evals.tasks.gqa import GQA

SUFFIX = "\nAnswer the question using a single word or phrase."


def entry(answer, *, structural="query", balanced=True, entailed=(), group=None, **more):
    return {
        "question": "What is it called?",
        "imageId": "n1",
        "answer": answer,
        "isBalanced": balanced,
        "entailed": list(entailed),
        "groups": {"global": group, "local": "l"},
        "types": {"structural": structural, "semantic": "obj", "detailed": "d"},
        "semantic": [
            {"operation": "select", "dependencies": [], "argument": "cup (1)"},
            {"operation": "query", "dependencies": [0], "argument": "name"},
        ],
        "annotations": {"question": {"0": "1"}, "answer": {}, "fullAnswer": {}},
        **more,
    }


QUESTIONS = {
    "1": entry("cup", entailed=["1", "2", "3"]),
    "2": entry("yes", structural="verify", group="g"),
    "3": entry("no", structural="verify", balanced=False),
    "4": entry("red", balanced=False),
}


def write(folder, questions=QUESTIONS, split="demo", **evidence):
    (folder / "data").mkdir(exist_ok=True)
    (folder / f"data/{split}_questions.json").write_text(json.dumps(questions))
    for kind, content in evidence.items():
        (folder / f"data/{split.removesuffix('_all')}_{kind}.json").write_text(json.dumps(content))
    return folder


def predictions(**texts):
    return {
        key[1:]: Prediction(key=key[1:], question_id=key[1:], prompt="", text=text)
        for key, text in texts.items()
    }


def metrics(task, **texts):
    return task.aggregate(task.score(predictions(**texts))).metrics


def test_balanced_questions_and_those_they_entail_are_asked(tmp_path):
    samples = GQA(data_dir=write(tmp_path), split="demo").samples()
    assert [sample.key for sample in samples] == ["1", "2", "3"]
    sample = samples[0]
    assert sample.text == sample.prompt == "What is it called?" + SUFFIX
    assert sample.images[0].path == tmp_path / "data/images/n1.jpg"
    assert sample.image_keys == ("n1.jpg",) == (sample.cluster,)
    assert sample.target == "cup"


def test_only_balanced_questions_are_scored(tmp_path):
    task = GQA(data_dir=write(tmp_path), split="demo")
    scores = task.score(predictions(q1="Cup.", q3="no"))
    assert [(s.key, s.value, s.answer, s.answered) for s in scores] == [
        ("1", 1.0, "cup", True),
        ("2", 0.0, None, False),
    ]
    assert scores[0].groups == {
        "structural": "query",
        "semantic": "obj",
        "steps": "1",
        "words": "4",
    }


def test_accuracy_splits_into_binary_and_open(tmp_path):
    got = metrics(GQA(data_dir=write(tmp_path), split="demo"), q1="cup", q2="no", q3="no")
    assert (got["accuracy"], got["open"], got["binary"]) == (0.5, 1.0, 0.0)
    assert got["distribution"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"q1": "cup", "q2": "yes", "q3": "no"}, 1.0),
        ({"q1": "cup", "q2": "no", "q3": "no"}, 0.5),
        ({"q1": "cup", "q3": "no"}, 0.5),  # a missing balanced answer is wrong
        ({"q1": "cup", "q2": "yes"}, None),  # a missing unbalanced one is not known
        ({"q1": "mug", "q2": "yes"}, None),  # nothing right from which anything would follow
    ],
)
def test_consistency_is_asked_of_right_answers(tmp_path, texts, expected):
    assert metrics(GQA(data_dir=write(tmp_path), split="demo"), **texts)["consistency"] == expected


def test_consistency_is_unknown_if_an_entailed_question_is_elsewhere(tmp_path):
    task = GQA(data_dir=write(tmp_path, {"1": entry("cup", entailed=["99"])}), split="demo")
    assert metrics(task, q1="cup")["consistency"] is None


def test_choices_give_validity_and_plausibility(tmp_path):
    choices = {
        "1": {"valid": ["cup", "dog"], "plausible": ["cup"]},
        "2": {"valid": ["yes", "no"], "plausible": ["yes", "no"]},
    }
    task = GQA(data_dir=write(tmp_path, choices=choices), split="demo")
    got = metrics(task, q1="dog", q2="maybe")
    assert (got["validity"], got["plausibility"], got["grounding"]) == (0.5, 0.0, None)


def test_common_questions_have_choices_of_their_own(tmp_path):
    types = {"structural": "compare", "semantic": "attr", "detailed": "twoCommon"}
    questions = {"1": entry("color", types=types), "2": entry("shape", types=types)}
    task = GQA(data_dir=write(tmp_path, questions, choices={}), split="demo")
    assert metrics(task, q1="material", q2="size")["validity"] == 0.5


def test_attention_and_scenes_give_grounding(tmp_path):
    scenes = {"n1": {"width": 4, "height": 4, "objects": {"1": {"x": 0, "y": 0, "w": 2, "h": 4}}}}
    attentions = [{"questionId": key, "attention": [[0.1, 0.2], [0.3, 0.4]]} for key in "12"]
    folder = write(tmp_path, sceneGraphs=scenes, attentions=attentions)
    got = metrics(GQA(data_dir=folder, split="demo"), q1="cup")
    assert got["grounding"] == pytest.approx(0.3)


def test_overlapping_objects_count_as_often_in_grounding(tmp_path):
    box = {"x": 0, "y": 0, "w": 4, "h": 4}
    scenes = {"n1": {"width": 4, "height": 4, "objects": {"7": box, "8": box}}}
    objects = {"question": {"0": "7"}, "answer": {}, "fullAnswer": {"1": 8}}
    folder = write(
        tmp_path,
        {"1": entry("cup", annotations=objects)},
        sceneGraphs=scenes,
        attentions=[{"questionId": 1, "attention": [[0.75]]}],
    )
    assert metrics(GQA(data_dir=folder, split="demo"), q1="cup")["grounding"] == 1.5


def test_grounding_is_unknown_where_no_objects_are_named(tmp_path):
    scenes = {"n1": {"width": 4, "height": 4, "objects": {}}}
    folder = write(
        tmp_path,
        {"1": entry("cup", annotations={})},
        sceneGraphs=scenes,
        attentions=[{"questionId": "1", "attention": [[1.0]]}],
    )
    assert metrics(GQA(data_dir=folder, split="demo"), q1="cup")["grounding"] is None


def test_entailed_ids_match_as_text(tmp_path):
    questions = {"1": entry("cup", entailed=[1, 2]), "2": entry("red")}
    task = GQA(data_dir=write(tmp_path, questions), split="demo")
    assert metrics(task, q1="cup", q2="red")["consistency"] == 1.0


def test_val_reads_all_questions(tmp_path):
    choices = {key: {"valid": ["cup"], "plausible": []} for key in QUESTIONS}
    write(tmp_path, split="val_all", choices=choices)
    task = GQA(data_dir=tmp_path, split="val")
    assert [path.name for path in task.data_files()] == [
        "val_all_questions.json",
        "val_choices.json",
    ]
    assert metrics(task, q1="cup")["validity"] == 0.5


def test_question_file_of_llava_decides_what_is_asked_and_how(tmp_path):
    lines = [
        {"question_id": key, "image": "n1.jpg", "text": f"Odd {key}" + SUFFIX} for key in "421"
    ]
    path = write(tmp_path) / "llava_gqa_demo.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    samples = GQA(data_dir=tmp_path, split="demo", prompt_suffix="?").samples()
    assert [(s.key, s.text) for s in samples] == [("1", "Odd 1?"), ("2", "Odd 2?"), ("4", "Odd 4?")]

    path.write_text(json.dumps(lines[2]))
    with pytest.raises(DataError, match="lacks 1 balanced questions"):
        GQA(data_dir=tmp_path, split="demo").samples()
    path.write_text(json.dumps({**lines[0], "question_id": "9"}))
    with pytest.raises(DataError, match=r"demo\.jsonl:1: the question id '9' is not in"):
        GQA(data_dir=tmp_path, split="demo").samples()


def test_foreign_answers_are_ignored_unless_all_are(tmp_path):
    task = GQA(data_dir=write(tmp_path), split="demo")
    rows = [{"question_id": 1, "text": "cup"}, {"question_id": "99", "text": "x"}]
    assert list(task.match(rows)) == ["1"]
    with pytest.raises(DataError, match="not in gqa demo"):
        task.match(rows[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": None}, "question 1: `answer` must be str"),
        ({"isBalanced": 1}, "`isBalanced` must be bool"),
        ({"types": {"structural": "query"}}, "`types` lacks the field"),
        ({"groups": {}}, "`groups` lacks the field `global`"),
        ({"semantic": [{"operation": "select"}]}, "lacks the field `argument`"),
        ({"annotations": {"question": {}}}, "`annotations` lacks the field `fullAnswer`"),
        ({"annotations": {"question": [], "fullAnswer": {}}}, "`question` must be dict"),
    ],
)
def test_broken_question_is_named(tmp_path, change, message):
    questions = {"1": entry("cup") | change}
    with pytest.raises(DataError, match=message):
        GQA(data_dir=write(tmp_path, questions), split="demo").score({})


@pytest.mark.parametrize("content", [[], {}, "text"])
def test_file_without_questions_is_refused(tmp_path, content):
    with pytest.raises(DataError, match="must be an object of questions by id"):
        GQA(data_dir=write(tmp_path, content), split="demo").samples()


def test_missing_file_is_named_with_its_origin(tmp_path):
    with pytest.raises(DataError, match=r"testdev_balanced_questions\.json does not.*stanford"):
        GQA(data_dir=tmp_path).samples()


def test_duplicate_id_is_refused(tmp_path):
    text = json.dumps({"1": entry("cup")})
    (write(tmp_path) / "data/demo_questions.json").write_text(f"{text[:-1]}, {text[1:]}")
    with pytest.raises(DataError, match="'1' twice"):
        GQA(data_dir=tmp_path, split="demo").samples()


def test_choices_without_a_question_are_named(tmp_path):
    task = GQA(
        data_dir=write(tmp_path, choices={"2": {"valid": [], "plausible": []}}), split="demo"
    )
    with pytest.raises(DataError, match=r"demo_choices\.json lacks the field `1`"):
        task.score({})


@pytest.mark.parametrize(
    ("scenes", "attentions", "message"),
    [
        ({}, None, r"sceneGraphs\.json lacks the field `n1`"),
        ({"n1": {"width": 4, "height": 4, "objects": {}}}, None, "image n1 lacks the field `1`"),
        ({"n1": {"width": 0, "height": 4, "objects": {"1": {}}}}, None, "lacks the field `x`"),
        (None, {"1": []}, "must be a list of attention maps"),
        (None, [{"questionId": "1"}], "lacks the field `attention`"),
        (None, [{"questionId": "1", "attention": [[0.5, 0.5]]}], "must be a square grid"),
        (None, [{"questionId": "1", "attention": [[float("nan")]]}], "must be a square grid"),
        (None, [{"questionId": "1", "attention": [["0.5"]]}], "must be a square grid"),
        (None, [{"questionId": "1", "attention": []}], "must be a square grid"),
        (None, [{"questionId": q, "attention": [[1.0]]} for q in ("1", 1)], "'1' occurs twice"),
        (
            {
                "n1": {
                    "width": 4,
                    "height": 4,
                    "objects": {"1": {"x": float("nan"), "y": 0, "w": 1, "h": 1}},
                }
            },
            None,
            "image n1: the box of object 1 must be numbers",
        ),
    ],
)
def test_broken_evidence_is_named(tmp_path, scenes, attentions, message):
    box = {"x": 0, "y": 0, "w": 1, "h": 1}
    if scenes is None:
        scenes = {"n1": {"width": 4, "height": 4, "objects": {"1": box}}}
    if attentions is None:
        attentions = [{"questionId": "1", "attention": [[1.0]]}]
    folder = write(tmp_path, sceneGraphs=scenes, attentions=attentions)
    with pytest.raises(DataError, match=message):
        GQA(data_dir=folder, split="demo").score({})
