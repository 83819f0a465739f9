import logging
from unicodedata import normalize

import pytest

from evals.errors import DataError
from evals.reading.answers import match_by_id
from evals.reading.matching import check_prompts, with_own_ids
from evals.records import Prediction, Sample

SUFFIX = "\nAnswer briefly."
QUESTIONS = {
    "1": "Is the cat red?",
    "2": "Which one is it?\nA. a frog\nB. ice, frozen",
    "3": "Look at 3.5 things.\nWhat is this?\nA. two\nB. four",
}


def check(prompts, asked=dict, questions=QUESTIONS):
    answers = {
        key: Prediction(key=key, question_id=int(key), prompt=prompt, text="yes")
        for key, prompt in prompts.items()
    }
    texts = {key: text + SUFFIX for key, text in questions.items()}
    check_prompts(answers, texts, asked, task="letters test", suffix=SUFFIX)


@pytest.mark.parametrize(
    "form",
    [
        "{}" + SUFFIX,
        "{}",
        "{}\nGive the letter only.",
        "<image>\n{}" + SUFFIX,
        " {} \n\n Answer briefly.",
        "USER: <image> {} ASSISTANT:",
        "Question: {}\nShort answer:",
        "",
        "  ",
    ],
)
def test_other_forms_of_a_question_are_the_same_question(form, caplog):
    check({key: form.format(text) for key, text in QUESTIONS.items()})
    assert not caplog.records


@pytest.mark.parametrize(
    "prompt",
    [
        "Which one is it?\nA) a frog\nB) ice, frozen",
        "Question: WHICH ONE IS IT?\nOptions:\n(A) a frog\n(B) ice, frozen\nPlease select.",
        "Which one is it?" + SUFFIX,
    ],
)
def test_options_may_be_written_in_another_way_or_left_out(prompt, caplog):
    check({"2": prompt})
    assert not caplog.records


@pytest.mark.parametrize(
    "prompts",
    [
        {"1": QUESTIONS["2"], "2": QUESTIONS["1"]},
        {"1": QUESTIONS["1"], "2": "<image>\n" + QUESTIONS["3"] + "\nThe letter, please."},
        {"1": "How many dogs run?", "2": "Where does the train stop?"},
        {"1": "How many dogs run?"},
    ],
)
def test_another_question_is_refused(prompts):
    with pytest.raises(
        DataError, match=r"another question than letters test .* leave `prompt` out"
    ):
        check(prompts)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_question_is_the_same_in_another_normal_form(form, caplog):
    own = {"1": "Où est le café ？", "2": "Wie heißt die Straße über dem Ｔｏｒ?", "3": "한국어는?"}
    check({key: normalize(form, text) for key, text in own.items()}, questions=own)
    turned = {key: normalize("NFD", text) for key, text in own.items()}
    check(own, questions=turned)
    assert not caplog.records
    with pytest.raises(DataError, match="another question"):
        check({"1": turned["2"]}, questions=own)


def test_a_single_other_question_is_refused():
    prompts = {"1": "Ist die Katze rot?", "2": "Was ist es?\nA. a frog\nB. Eis", "3": "Und das?"}
    with pytest.raises(DataError, match="2 of 3 answers carry the prompt of another question"):
        check(prompts)  # the option of the second is alike
    with pytest.raises(DataError, match=r"1 of 3 answers .* the id 1 has the prompt"):
        check({**QUESTIONS, "1": "Ist die Katze rot?"})


@pytest.mark.parametrize("number", [1, 2, 40])
@pytest.mark.parametrize("asked", ["How many cups are there?", "Where?", "杯子在哪里"])
def test_another_question_is_refused_though_all_questions_are_alike(number, asked):
    """As where each is about another picture."""
    keys = [str(n) for n in range(number)]
    for own in ("How many squares are there?", "Count?"):
        with pytest.raises(DataError, match=f"{number} of {number} answers carry the prompt"):
            check(dict.fromkeys(keys, asked), questions=dict.fromkeys(keys, own))


@pytest.mark.parametrize("number", [2, 40])
def test_line_that_many_questions_have_makes_no_question_the_same(number):
    """As the request for one word, where it is a part of the questions themselves."""
    own = {str(n): f"What is on shelf {n}?\nAnswer in one word." for n in range(number)}
    with pytest.raises(DataError, match=f"{number} of {number} answers carry the prompt"):
        check({key: f"Who bought item {key}?\nAnswer in one word." for key in own}, questions=own)


def test_few_of_them_in_another_wording_are_told_and_scored(caplog):
    """As a question to which the data add the unit of its answer."""
    own = {str(n): f"How large is part {n}?" for n in range(8)}
    own |= {key: f"{own[key]} (Unit: cm)" for key in "03"}
    asked = {str(n): f"Hint: Answer.\nQuestion: How large is part {n}?" for n in range(8)}
    check(asked, questions=own)
    assert "2 of 8 answers carry a prompt that is not the question" in caplog.text
    with pytest.raises(DataError, match="1 of 8 answers carry the prompt of another"):
        check(asked | {"3": "Question: What is part 3 for?"}, questions=own)
    with pytest.raises(DataError, match="2 of 2 answers carry the prompt of another"):
        check({key: asked[key] for key in "03"}, questions=own)


def test_question_with_other_options_is_told_and_scored(caplog):
    check({"2": "Which one is it?\nA. a frog\nB. steam"})
    assert "1 of 1 answers carry a prompt that is not the question" in caplog.text


def test_options_in_another_order_are_another_question():
    turned = "Which one is it?\nA. ice, frozen\nB. a frog"
    with pytest.raises(DataError, match="1 of 1 answers"):
        check({"4": turned}, questions={"4": QUESTIONS["2"], "5": turned})


def test_prompt_that_is_no_question_is_told_and_scored(caplog):
    check(dict.fromkeys(QUESTIONS, "p"))
    assert "3 of 3 answers carry a prompt that is not the question" in caplog.text
    caplog.clear()
    check({"1": QUESTIONS["1"], "2": "v1_0"})
    assert "1 of 2 answers carry a prompt" in caplog.text


def test_wording_of_the_question_file_counts_as_well(caplog):
    check(
        {"1": "Does the animal have a red fur?"}, lambda: {"1": "Does the animal have a red fur?"}
    )
    assert not caplog.records


def sample(question_id, image="", **fields):
    return Sample(
        key=str(question_id), question_id=question_id, text="", prompt="", cluster=image, **fields
    )


@pytest.mark.parametrize(
    ("question_id", "given"),
    [
        (3, "00000003"),
        (3, "3.0"),
        (3, " 3"),
        (3, "VizWiz_val_00000003.jpg"),
        (3, "val/VizWiz_val_00000003.jpg"),
        (3, "VizWiz_val_00000003"),
        ("02930152", 2930152),
        ("003a8ae2ef43b901", "003a8ae2ef43b901.jpg"),
        ("003a8ae2ef43b901", 34602),
    ],
)
def test_other_forms_of_an_id_are_taken_for_it_and_told(question_id, given, caplog):
    known = sample(question_id, "VizWiz_val_00000003.jpg", aliases=("34602",))
    [line] = with_own_ids([{"question_id": given, "text": "a"}], [known, sample("x7")], "t")
    assert line == {"question_id": question_id, "text": "a"}
    assert "1 question ids are written in another form" in caplog.text


def test_what_could_be_several_ids_stays_as_it_is(caplog):
    two = [sample(1, "a.jpg"), sample(2, "a.jpg"), sample("04"), sample("4.0")]
    lines = [{"question_id": name, "text": "a"} for name in ("a.jpg", "4", "nine")]
    assert with_own_ids(lines, two, "t") == lines
    beside = [{"question_id": name, "text": "a"} for name in ("01", "1")]
    assert with_own_ids(beside, two, "t") == beside
    assert not caplog.records


def test_number_with_zeros_in_front_may_be_an_id_and_the_name_of_an_image():
    names = ["0003.jpg", "0001.jpg", "0002.jpg"]
    lines = [{"question_id": name[:4], "text": "a"} for name in names]
    shifted = [sample(n, name) for n, name in enumerate(names, start=1)]
    assert with_own_ids(lines, shifted, "t") == lines
    with pytest.raises(DataError, match=r"These are numbers with zeros in front, .* own id as"):
        match_by_id(lines, {"1": 1}, task="t", foreign_is_error=True)
    for ids in ((3, 1, 2), "abc"):
        own = [sample(n, name) for n, name in zip(ids, names, strict=True)]
        assert [line["question_id"] for line in with_own_ids(lines, own, "t")] == list(ids)


def test_number_alone_is_an_id_and_never_the_name_of_an_image():
    own = [sample("02354786", "7.jpg"), sample("x", "2354786.jpg")]
    lines = [{"question_id": 2354786, "text": "a"}, {"question_id": "2354786.jpg", "text": "b"}]
    found = with_own_ids(lines, own, "t")
    assert [line["question_id"] for line in found] == ["02354786", "x"]
    other = [{"question_id": n, "text": "a"} for n in (101, 102)]
    assert with_own_ids(other, [sample(1, "101.jpg"), sample(2, "102.jpg")], "t") == other


def test_name_of_an_image_that_is_a_number_is_no_id():
    lines = [{"question_id": f"{n}.jpg", "text": "a"} for n in (1, 2)]
    assert with_own_ids(lines, [sample(1, "cat.jpg"), sample(2, "dog.jpg")], "t") == lines
    found = with_own_ids(lines, [sample(1, "2.jpg"), sample(2, "1.jpg")], "t")
    assert [line["question_id"] for line in found] == [2, 1]


def test_remedy_for_foreign_ids_depends_on_their_form():
    def refuse(given, known):
        rows = [{"question_id": given, "text": "a"}]
        with pytest.raises(DataError) as raised:
            match_by_id(rows, {known: known}, task="t", foreign_is_error=True, note="Note this.")
        assert "Note this." in str(raised.value)
        return str(raised.value)

    assert "names of images, and an answer is looked for by numbers" in refuse("a.jpg", "17")
    assert "task and split that they were given for" in refuse("18", "17")
    assert "task and split that they were given for" not in refuse("a.jpg", "17")


def test_ignored_ids_are_told(caplog):
    rows = [{"question_id": name, "text": "a"} for name in (1, 9)]
    with caplog.at_level(logging.WARNING):
        match_by_id(rows, {"1": 1}, task="t", foreign_is_error=False)
    assert "1 ids are not of this split and are ignored, such as 9" in caplog.text


@pytest.mark.parametrize("distinct", [1, 2, 8])
@pytest.mark.parametrize(
    "form", ["{}\nAnswer with a number.", "Look closely.\nQuestion: {}\nShort answer:"]
)
def test_question_that_many_ask_is_the_same_with_another_request(distinct, form, caplog):
    asked = [f"How many things of kind {n} are there?" for n in range(distinct)]
    own = {str(n): f"{asked[n % distinct]}\nAnswer in one word." for n in range(40)}
    check({key: form.format(own[key].split("\n")[0]) for key in own}, questions=own)
    assert "40 of 40 answers carry a prompt that is not the question" in caplog.text
    with pytest.raises(DataError, match="40 of 40 answers carry the prompt of another question"):
        check(dict.fromkeys(own, "Who made it?\nAnswer in one word."), questions=own)
