import pytest

from evals.errors import DataError
from evals.tasks.mathvista import MathVista
from tests.evals.small_files import cell, put_json, put_lines, put_parquet
from tests.evals.small_reasoning import mathvista_records, write_mathvista

SENTENCES = ["It is (B).", "12 cm", "1.2", "one", "[1, 2]"]


@pytest.fixture
def folder(tmp_path):
    write_mathvista(tmp_path)
    return tmp_path


def answer(task, texts):
    lines = [{"question_id": n, "text": text} for n, text in enumerate(texts, start=1)]
    return task.score(task.match(lines))


def judged(folder, replies):
    lines = [
        {"question_id": key, "run": run, "model": "gpt-4", "content": content}
        for key, contents in replies.items()
        for run, content in enumerate(contents)
    ]
    put_lines(folder / "replies.jsonl", lines)
    return MathVista(data_dir=folder, replies=folder / "replies.jsonl")


def test_answers_are_read_directly_or_as_they_are(folder):
    task = MathVista(data_dir=folder)
    scores = answer(task, SENTENCES)
    assert [(s.value, s.answer) for s in scores] == [
        (1.0, "No"),
        (0.0, None),
        (1.0, "1.2"),
        (0.0, None),
        (1.0, "[1, 2]"),
    ]
    figures = task.aggregate(scores)
    assert figures.metrics == {"accuracy": 0.6}
    assert figures.num_unparsed == 2
    assert figures.breakdowns["answer_type"]["float"] == {"accuracy": 0.5, "num_questions": 2}
    assert figures.breakdowns["skills"] == {
        "logic": {"accuracy": 0.6, "num_questions": 5},
        "algebra": {"accuracy": 1.0, "num_questions": 3},
    }
    assert set(figures.breakdowns) == {
        *("question_type", "answer_type", "language", "source", "category", "task", "context"),
        *("grade", "skills"),
    }
    assert task.definition == "mathvista_direct/1"


def test_judge_is_needed_only_where_nothing_is_read_directly(folder):
    task = judged(folder, {"1": ["B"], "2": ["12"], "4": ["1.25"], "5": ["[1, 2]"]})
    scores = answer(task, SENTENCES)
    assert [s.answer for s in scores] == ["No", "12", "1.2", "1.25", "[1, 2]"]
    assert {s.value for s in scores} == {1.0}
    assert task.definition == "mathvista_gpt-4/1"
    assert task.aggregate(scores).breakdowns["skills"]["logic"]["num_questions"] == 5
    with pytest.raises(DataError, match=r"1 of 4 replies.*missing.*Have extract_answer\.py"):
        answer(judged(folder, {"1": ["B"], "2": ["12"], "5": ["[1, 2]"]}), SENTENCES)


def test_accuracy_is_the_mean_over_the_runs_of_the_judge(folder):
    task = judged(folder, {"2": ["12", "13"]})
    scores = answer(task, ["No", "twelve", "1.2", "1.25"])
    assert [(s.value, s.answer) for s in scores[:2]] == [(1.0, "No"), (0.5, "12")]


def test_empty_reply_is_the_choice_that_is_shortest(folder):
    scores = answer(judged(folder, {"1": [""]}), ["I do not know"])
    assert (scores[0].answer, scores[0].answered) == ("No", True)


def test_reply_that_failed_is_no_choice(folder):
    scores = answer(judged(folder, {"1": [None]}), ["I do not know"])
    assert (scores[0].value, scores[0].answer, scores[0].answered) == (0.0, None, False)


@pytest.mark.parametrize(
    ("response", "is_these"), [(" twelve\n", True), ("thirteen", False), ("", False), (None, True)]
)
def test_extraction_from_another_answer_is_no_reply_to_this_one(folder, response, is_these):
    """What `extract_answer.py` writes says which answer it is from, where it is a text."""
    extractions = {"2": {"response": response, "extraction": "12"}, "1": {"response": "x"}}
    put_json(folder / "extracted.json", extractions)
    task = MathVista(data_dir=folder, replies=folder / "extracted.json")
    answers = ["No", "twelve", "1.2", "1.25"]
    if is_these:
        assert answer(task, answers)[1].value == 1.0
    else:
        with pytest.raises(DataError, match=r"question 2 is about .* to be scored is 'twelve'"):
            answer(task, answers)


def test_judge_is_not_asked_here(folder):
    task = MathVista(data_dir=folder)
    matched = task.match([{"question_id": "2", "text": "twelve"}])
    with pytest.raises(DataError, match=r"worked examples that are not here.*replies=FILE"):
        task.judge_requests(matched)


def test_prompts_say_what_is_asked_for(folder):
    def texts(style):
        return [sample.text for sample in MathVista(data_dir=folder, prompt=style).samples()]

    short, cot, solution = map(texts, ("format", "cot", "solution"))
    assert short == [
        "What is 1?\nA. Yes\nB. No\n"
        "Answer with the option's letter from the given choices directly.",
        "What is 2?\nAnswer the question using a single integer number.",
        "What is 3? (Unit: cm)\n"
        "Answer the question using a single floating-point number with one decimal place.",
        "What is 4?\n"
        "Answer the question using a single floating-point number with two decimal places.",
        "What is 5?\nAnswer the question using a Python list.",
    ]
    assert cot[0] == (
        "Question: What is 1?\nChoices:\n(A) Yes\n(B) No\nHint: Please answer the question and "
        "provide the correct option letter, e.g., A, B, C, D, at the end."
    )
    assert cot[2].startswith("Question: What is 3? (Unit: cm)\nHint: Please answer the question")
    assert solution == [f"{text}\nSolution:" for text in cot]
    with pytest.raises(ValueError, match="`prompt` of mathvista"):
        MathVista(data_dir=folder, prompt="query")


def test_table_is_the_same_questions_with_its_images_in_another_column(folder, tmp_path):
    rows = [{**one, "decoded_image": cell(1)} for one in mathvista_records().values()]
    put_parquet(tmp_path / "table/data/testmini-00000-of-00001.parquet", rows)
    samples = MathVista(data_dir=tmp_path / "table").samples()
    wanted = MathVista(data_dir=folder).samples()
    assert [(s.key, s.text, s.target.answer, s.cluster) for s in samples] == [
        (s.key, s.text, s.target.answer, s.cluster) for s in wanted
    ]
    assert all(sample.images[0].exists() for sample in samples)


def test_test_split_has_no_answers(folder):
    records = {key: {**one, "answer": ""} for key, one in mathvista_records().items()}
    put_json(folder / "test.json", records)
    task = MathVista(data_dir=folder, split="test")
    assert not task.has_annotations
    assert len(task.samples()) == 5
    with pytest.raises(DataError, match="has no public answers"):
        task.score({})
    with pytest.raises(
        DataError, match=r"no server that takes answers\. It has no public answers; its"
    ):
        task.submission_ids()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": ""}, "`answer` must be a text, but is ''"),
        (
            {"question_type": "multi_choice", "choices": ["4", "9"], "answer": "5"},
            "`answer` must be one of the choices, but is '5'",
        ),
        ({"question_type": "open"}, "but are open and integer"),
        ({"question_type": "multi_choice"}, "`choices` must be list"),
        ({"question_type": "multi_choice", "choices": []}, "but are multi_choice and no choices"),
        ({"answer_type": "text"}, "but are free_form and text"),
        ({"answer_type": "choice"}, "but are free_form and choice"),
        ({"answer_type": "float", "precision": float("nan")}, "but are free_form and float nan"),
        ({"answer_type": "float"}, r"but are free_form and float\."),
        ({"answer_type": "float", "precision": 3}, "but are free_form and float 3"),
        ({"answer_type": "float", "precision": 1.5}, r"but are free_form and float 1\.5"),
        ({"unit": 3}, "`unit` must be str or null"),
        ({"metadata": {}}, "lacks the field `language`"),
    ],
)
def test_broken_question_is_located(folder, changes, message):
    records = mathvista_records()
    records["2"] |= changes
    put_json(folder / "testmini.json", records)
    with pytest.raises(DataError, match=rf"testmini\.json: 2.*{message}"):
        MathVista(data_dir=folder).score({})


def test_file_of_another_form_is_refused(folder):
    put_json(folder / "testmini.json", list(mathvista_records().values()))
    with pytest.raises(DataError, match="must be an object of questions"):
        MathVista(data_dir=folder).score({})
