import json

import pytest

from evals.errors import DataError
from evals.records import Prediction
from evals.tasks.custom import Custom

LINES = [
    {"question_id": "q-0", "image": "a.jpg", "text": "What?", "answer": " cat "},
    {"question_id": 7, "image": ["a.jpg", "b.jpg"], "text": "Which?", "label": 3},
    {"question_id": 8, "text": "Why?", "answer": "so"},
]


def write(folder, lines=LINES):
    path = folder / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def predictions(**texts):
    keys = {"q0": "q-0", "q7": "7", "q8": "8"}
    return {
        keys[name]: Prediction(key=keys[name], question_id=keys[name], prompt="", text=text)
        for name, text in texts.items()
    }


def test_questions_are_taken_as_they_are(tmp_path):
    samples = Custom(questions=write(tmp_path), images=tmp_path / "images").samples()
    assert [sample.question_id for sample in samples] == ["q-0", 7, 8]
    assert [sample.key for sample in samples] == ["q-0", "7", "8"]
    assert [sample.text for sample in samples] == ["What?", "Which?", "Why?"]
    assert [sample.image_keys for sample in samples] == [("a.jpg",), ("a.jpg", "b.jpg"), ()]
    assert [sample.cluster for sample in samples] == ["a.jpg", "a.jpg,b.jpg", "8"]
    assert samples[0].images[0].path == tmp_path / "images/a.jpg"
    assert all(sample.target is None for sample in samples)


def test_without_scorer_nothing_is_scored(tmp_path):
    for scorer in ("none", None):
        task = Custom(questions=write(tmp_path), scorer=scorer)
        assert not task.has_annotations
        with pytest.raises(DataError, match=r"Set tasks\.custom\.scorer=exact"):
            task.score({})


def test_exact_scorer_compares_stripped_texts(tmp_path):
    task = Custom(questions=write(tmp_path), images=tmp_path, scorer="exact")
    assert [sample.target for sample in task.samples()] == ["cat", "3", "so"]
    scores = task.score(predictions(q0="cat\n", q7="3.0"))
    assert [(s.value, s.answer, s.answered) for s in scores] == [
        (1.0, "cat", True),
        (0.0, "3.0", True),
        (0.0, None, False),
    ]
    assert task.aggregate(scores).metrics == {"accuracy": pytest.approx(1 / 3)}


def test_image_outside_the_folder_is_missing(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"")
    line = {**LINES[0], "image": "../secret.jpg"}
    (sample,) = Custom(questions=write(tmp_path, [line]), images=tmp_path / "images").samples()
    assert not sample.images[0].exists()


def test_image_that_another_field_names_is_not_passed_over(tmp_path):
    task = custom(tmp_path, {"picture": "a.png"}, images=tmp_path)
    assert not task.samples()[0].images
    (tmp_path / "a.png").touch()
    for fields in ({"picture": "a.png"}, {"picture": ["a.png"]}, {"picture": "/elsewhere/a.png"}):
        with pytest.raises(DataError, match=r"`picture` names a file in .*Call the field `image`"):
            custom(tmp_path, fields, images=tmp_path).samples()


def test_image_without_folder_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"own\.jsonl:1 names the image 'a\.jpg'.*Set tasks\.custom\.images=DIR"
    ):
        Custom(questions=write(tmp_path)).samples()
    assert len(Custom(questions=write(tmp_path, LINES[2:])).samples()) == 1


def test_question_without_target_is_refused_by_the_exact_scorer(tmp_path):
    path = write(tmp_path, [LINES[2], {"question_id": 1, "text": "t", "answer": ["x"]}])
    with pytest.raises(DataError, match=r"own\.jsonl:2 lacks an `answer`"):
        Custom(questions=path, scorer="exact").samples()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, True])
def test_target_that_is_nothing_is_refused(value, tmp_path):
    path = write(tmp_path, [{"question_id": 1, "text": "t", "answer": value}])
    with pytest.raises(DataError, match=r"own\.jsonl:1 lacks an `answer`"):
        Custom(questions=path, scorer="exact").samples()


def test_foreign_answer_is_refused(tmp_path):
    task = Custom(questions=write(tmp_path), name="mine")
    assert list(task.match([{"question_id": "7", "text": "x"}])) == ["7"]
    with pytest.raises(DataError, match="not in mine own"):
        task.match([{"question_id": 9, "text": "x"}])


def test_names_and_files(tmp_path):
    task = Custom(questions=write(tmp_path), name="mine", scorer="exact")
    assert (task.name, task.split, task.definition) == ("mine", "own", "custom_exact/1")
    assert task.data_files() == [tmp_path / "own.jsonl"]
    assert Custom(questions=tmp_path / "none.jsonl").data_files() == []


def test_unknown_scorer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`scorer` must be one of"):
        Custom(questions=tmp_path, scorer="fuzzy")


def score_of(folder, scorer, fields, text):
    path = write(folder, [{"question_id": 1, "text": "t", **fields}])
    task = Custom(questions=path, scorer=scorer)
    scores = task.score(task.match([{"question_id": 1, "text": text}]))
    return scores[0].value, scores[0].answer, task.aggregate(scores)


@pytest.mark.parametrize(
    ("scorer", "fields", "text", "value", "answer"),
    [
        ("vqa_accuracy", {"answers": ["cat"] * 2 + ["dog"] * 8}, "A cat.", 0.6, "cat"),
        ("vqa_accuracy", {"answers": ["yes"] * 3}, "Yes", 0.0, "Yes"),
        ("yes_no", {"label": "No"}, "No, there is none", 1.0, "no"),
        ("choice", {"answer": "B"}, "B. a frog", 1.0, "B"),
        ("choice", {"answer": "B"}, "b", 0.0, None),
        ("contains", {"answer": "cat"}, " a cat. ", 1.0, "a cat."),
        ("contains", {"answer": "cat"}, "a Cat", 0.0, "a Cat"),
        ("contains", {"answer": " art"}, "a cart", 0.0, "a cart"),
        ("contains", {"answer": "art "}, "Art or art here", 1.0, "Art or art here"),
        ("regex", {"answer": r"^a\ "}, "a cat", 1.0, "a cat"),
        ("regex", {"answer": " art"}, "a cart", 0.0, "a cart"),
        ("exact", {"answer": " cat\n"}, "cat", 1.0, "cat"),
        ("regex", {"answer": "^cats?$"}, "cats\n", 1.0, "cats"),
        ("regex", {"answer": "^cats?$"}, "a cat", 0.0, "a cat"),
        ("numeric", {"answer": 1200}, "It is 1,200 m.", 1.0, "1200"),
        ("numeric", {"answer": 0.3}, "3 of 10: 0.30", 1.0, "0.30"),
        ("numeric", {"answer": "-3"}, "\u22123", 1.0, "-3"),
        ("numeric", {"answer": 12}, "twelve", 0.0, None),
        ("anls", {"answers": ["New York", "N.Y."]}, "new  york", 1.0, "new york"),
        ("anls", {"answer": "abcd"}, "abc", 0.75, "abc"),
        ("relaxed", {"answer": 100}, "105", 1.0, "105"),
        ("relaxed", {"answer": "Yes"}, "yes ", 1.0, "yes"),
        ("relaxed", {"answer": "Yes"}, "yes.", 0.0, "yes."),
    ],
)
def test_named_scorers_read_answers_as_the_benchmarks_do(
    tmp_path, scorer, fields, text, value, answer
):
    got_value, got_answer, figures = score_of(tmp_path, scorer, fields, text)
    assert (got_value, got_answer) == (value, answer)
    names = {"vqa_accuracy": "vqa_accuracy", "anls": "anls", "relaxed": "relaxed_accuracy"}
    assert figures.metrics[names.get(scorer, "accuracy")] == value
    assert figures.num_unparsed == (answer is None)


def test_yes_that_only_lacks_a_no_is_counted_as_unread(tmp_path):
    for text, num_unread in (("Yes, it is", 0), ("maybe", 1), ("", 1)):
        value, answer, figures = score_of(tmp_path, "yes_no", {"answer": "yes"}, text)
        assert (value, answer, figures.num_unparsed) == (1.0, "yes", num_unread)


def test_yes_no_has_the_figures_of_pope(tmp_path):
    _, _, figures = score_of(tmp_path, "yes_no", {"label": "yes"}, "yes")
    assert figures.metrics == {
        "accuracy": 1.0,
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
        "yes_ratio": 1.0,
    }


@pytest.mark.parametrize(
    ("scorer", "fields", "message"),
    [
        ("vqa_accuracy", {"answer": "cat"}, "lacks `answers`, a list"),
        ("vqa_accuracy", {"answers": ["cat"]}, "lacks `answers`, a list of at least two texts"),
        ("vqa_accuracy", {"answers": ["", " "]}, "lacks `answers`, .* not all of them blank"),
        ("exact", {"answer": " "}, "must be a text that is not blank for scorer=exact"),
        ("anls", {"answer": ""}, "must be a text that is not blank for scorer=anls"),
        ("relaxed", {"answer": ""}, "must be a text that is not blank for scorer=relaxed"),
        ("judge", {"label": ""}, "must be a text that is not blank for scorer=judge"),
        ("yes_no", {"label": "perhaps"}, "must be one of yes, no for scorer=yes_no"),
        ("choice", {"label": "F"}, "must be one of A, B, C, D, E"),
        ("anls", {"answers": []}, "lacks `answers`, a list"),
        ("anls", {}, "lacks an `answer`"),
        ("contains", {"answer": " "}, "must be a text that is not blank for scorer=contains"),
        ("regex", {"answer": ""}, "must be a text that is not blank for scorer=regex"),
        ("regex", {"answer": "(a"}, r"must be a regular expression \(missing \)"),
        ("numeric", {"answer": "12 m"}, "must be a number for scorer=numeric, but is '12 m'"),
        ("judge", {}, "lacks an `answer`"),
    ],
)
def test_target_that_a_scorer_cannot_use_is_refused(tmp_path, scorer, fields, message):
    with pytest.raises(DataError, match=message):
        score_of(tmp_path, scorer, fields, "x")


def custom(folder, line, **options):
    return Custom(questions=write(folder, [{"question_id": 1, "text": "t", **line}]), **options)


def value_of(task, text):
    [score] = task.score(task.match([{"question_id": 1, "text": text}]))
    return score.value


@pytest.mark.parametrize(
    ("scorer", "answer", "text"),
    [("exact", "Cat", "CAT"), ("contains", "cat", "A CAT"), ("regex", "^a cat$", "A Cat")],
)
def test_capitals_can_be_ignored(tmp_path, scorer, answer, text):
    task = custom(tmp_path, {"answer": answer}, scorer=scorer, ignore_case=True)
    assert value_of(task, text) == 1.0
    assert value_of(custom(tmp_path, {"answer": answer}, scorer=scorer), text) == 0.0
    version = 1 if scorer == "exact" else 2
    assert task.definition == f"custom_{scorer}_ignore_case/{version}"


@pytest.mark.parametrize(("text", "value"), [("0.3", 1), ("0.29", 1), ("0.31", 1), ("0.3101", 0)])
def test_numbers_may_be_off_by_the_tolerance(tmp_path, text, value):
    task = custom(tmp_path, {"answer": 0.3}, scorer="numeric", tolerance=0.01)
    assert value_of(task, text) == value
    assert task.definition == "custom_numeric_tolerance_0.01/2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scorer": "numeric", "ignore_case": True},
            "`ignore_case` is an option of exact and contains and",
        ),
        ({"scorer": "exact", "tolerance": 0.1}, "`tolerance` is an option of numeric, but"),
        ({"scorer": "exact", "judge": "gpt-4"}, "`judge` is an option of judge, but"),
        ({"scorer": "numeric", "tolerance": -1.0}, "`tolerance` must be a number from 0 on"),
        ({"scorer": "numeric", "tolerance": float("nan")}, "`tolerance` must be a number"),
        ({"groups": "answer"}, "`groups` cannot be answer"),
    ],
)
def test_option_that_does_not_fit_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        Custom(questions=tmp_path, **options)


def test_figures_are_told_by_own_fields(tmp_path):
    lines = [
        {"question_id": n, "text": "t", "answer": "a", "kind": kind, "hard": n < 2}
        for n, kind in enumerate(["menu", "menu", 10, 9, None, " "])
    ]
    task = Custom(questions=write(tmp_path, lines), scorer="exact", groups=["kind", "hard"])
    scores = task.score(task.match([{"question_id": n, "text": "a"} for n in (0, 2, 4)]))
    assert scores[2].to_line()["kind"] == "10"
    assert task.aggregate(scores).breakdowns == {
        "kind": {
            "menu": {"accuracy": 0.5, "num_questions": 2},
            "9": {"accuracy": 0.0, "num_questions": 1},
            "10": {"accuracy": 1.0, "num_questions": 1},
        },
        "hard": {
            "false": {"accuracy": 0.5, "num_questions": 4},
            "true": {"accuracy": 0.5, "num_questions": 2},
        },
    }


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        (["kind", "levle"], r"no question has the field `levle`.*Did you mean `level`\?"),
        ("zzz", "no question has the field `zzz`.*There are: question_id, .*, kind, level\\."),
    ],
)
def test_group_that_no_question_has_is_told_with_what_there_is(tmp_path, groups, told):
    task = custom(tmp_path, {"answer": "a", "kind": "b", "level": 1}, scorer="exact", groups=groups)
    with pytest.raises(DataError, match=told):
        task.score({})


@pytest.mark.parametrize("fields", [{"kind": ["a"]}, {"kind": 1.5}])
def test_question_without_a_group_is_located(tmp_path, fields):
    task = custom(tmp_path, {"answer": "a", **fields}, scorer="exact", groups="kind")
    with pytest.raises(DataError, match=r"own\.jsonl:1: `kind`, which `groups` names, must be"):
        task.score({})


def test_judge_grades_own_questions(tmp_path):
    line, options = {"answer": "a {cat}"}, {"scorer": "judge", "name": "mine"}
    task = custom(tmp_path, line, **options)
    assert not task.has_annotations
    with pytest.raises(
        DataError, match=r"judge gpt-4o-mini, and there are no replies.*tasks\.custom\.replies=FILE"
    ):
        task.score({})
    matched = task.match([{"question_id": 1, "text": "a tom"}])
    [request] = task.judge_requests(matched).values()
    assert "Right answer: a {cat}\n\nGiven answer: a tom\n" in request.prompt
    replies = tmp_path / "replies.jsonl"
    for contents, value, num_unparsed in ((["1", "0.5"], 0.75, 0), (["1", "good"], 0.5, 1)):
        stored = [
            {"question_id": 1, "run": run, "model": "j", "content": content}
            for run, content in enumerate(contents)
        ]
        replies.write_text("\n".join(map(json.dumps, stored)))
        graded = custom(tmp_path, line, **options, judge="j", replies=replies)
        scores = graded.score(matched)
        assert (scores[0].value, scores[0].answer) == (value, "a tom")
        assert scores[0].answered == (num_unparsed == 0)
        assert graded.aggregate(scores).metrics == {"score": value}
        assert graded.aggregate(scores).num_unparsed == num_unparsed
        assert graded.definition == "mine_j/1"
