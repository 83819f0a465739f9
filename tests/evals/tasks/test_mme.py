from unicodedata import normalize

import pytest

from evals.errors import DataError
from evals.tasks.mme import MME, RELEASE_DIR
from tests.evals.small_data import put_lines, write_mme

SUFFIX = "\nAnswer the question using a single word or phrase."


@pytest.fixture
def folder(tmp_path):
    write_mme(tmp_path)
    return tmp_path


def lines_of(task, *texts):
    samples = task.samples()
    texts = texts or ["yes", "no"] * 14
    return [
        {"question_id": s.question_id, "prompt": s.prompt, "text": text}
        for s, text in zip(samples, texts, strict=True)
    ]


def test_both_layouts_give_llavas_ids(folder):
    samples = MME(data_dir=folder).samples()
    ids = [sample.question_id for sample in samples[::2]]
    assert ids[:2] == ["existence/images/0001.png", "count/0001.png"]
    assert [sample.text for sample in samples[:2]] == [
        "Is it existence?" + SUFFIX,
        "Is it another thing?" + SUFFIX,
    ]
    assert samples[0].images[0].exists()
    assert samples[0].key != samples[1].key


def test_line_ends_and_blanks_around_a_line_do_no_harm(folder):
    before = MME(data_dir=folder).samples()
    path = folder / RELEASE_DIR / "count/0001.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b" \r\n") + b"\r\n")
    assert MME(data_dir=folder).samples() == before


def test_pair_needs_both_answers(folder):
    task = MME(data_dir=folder)
    lines = lines_of(task)
    lines[0]["text"] = "no"
    figures = task.aggregate(task.score(task.match(lines)))
    row = figures.breakdowns["category"]["existence"]
    assert (row["score"], row["accuracy"], row["accuracy_plus"]) == (50.0, 0.5, 0.0)
    assert figures.metrics == {"perception": 1850.0, "cognition": 800.0}
    del lines[1]
    missing = task.aggregate(task.score(task.match(lines))).breakdowns["category"]["existence"]
    assert (missing["accuracy"], missing["accuracy_plus"]) == (0.0, 0.0)


def test_answer_with_a_tab_or_line_break_is_read(folder):
    task = MME(data_dir=folder)
    lines = lines_of(task, "\tyes\n", *["no"] * 27)
    predictions = task.match(lines)
    assert task.score(predictions)[0].answer == "yes"


def test_answers_are_matched_by_prompt_whatever_its_suffix(folder):
    task = MME(data_dir=folder, prompt_suffix="\nYes or no?")
    (line, *_) = lines_of(task)
    assert line["prompt"] == "Is it existence?\nYes or no?"
    assert len(task.match([line])) == 1
    released = {**line, "prompt": "Is it existence?  Please answer yes or no."}
    assert task.match([released]).keys() == task.match([line]).keys()
    placed = {**line, "prompt": f"<image>\n{line['prompt']}"}
    assert task.match([placed]).keys() == task.match([line]).keys()
    with pytest.raises(DataError, match="each must carry the prompt"):
        task.match([{**line, "prompt": "Is it a cat?"}])


def test_prompt_in_another_normal_form_asks_the_same_question(folder):
    texts = [f"{word}? Please answer yes or no.\tYes" for word in ("Où", "Là")]
    (folder / RELEASE_DIR / "count/0001.txt").write_text("\n".join(texts))
    task = MME(data_dir=folder)
    lines = [{**line, "prompt": normalize("NFD", line["prompt"])} for line in lines_of(task)]
    assert list(task.match(lines)) == [sample.key for sample in task.samples()]


def test_category_or_question_that_is_missing_is_an_error(folder):
    release = folder / RELEASE_DIR
    (release / "count/0001.txt").write_text("Is it? Please answer yes or no.\tYes\n")
    with pytest.raises(DataError, match=r"count/0001\.txt must hold two questions, but holds 1"):
        MME(data_dir=folder).score({})
    (release / "count/0001.txt").unlink()
    with pytest.raises(DataError, match="holds no question"):
        MME(data_dir=folder).score({})
    (release / "count").rename(release / "counts")
    with pytest.raises(DataError, match="lacks the categories count"):
        MME(data_dir=folder).score({})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Is it?\tmaybe\n", "0001.txt:1 must be a question, a tab, and Yes or No"),
        (b"Is it? Yes\n", "0001.txt:1 must be a question, a tab"),
        (b"Is it?\tYes\n\xff\tNo\n", "0001.txt:2 is not UTF-8"),
        (b"Is it?\tYes\nIs it?\tNo\n", "two different questions"),
    ],
)
def test_broken_release_is_located(folder, content, message):
    (folder / RELEASE_DIR / "count/0001.txt").write_bytes(content)
    with pytest.raises(DataError, match=message.replace(".", r"\.")):
        MME(data_dir=folder).score({})


def test_question_file_must_be_of_the_release(folder):
    samples = MME(data_dir=folder).samples()
    lines = [
        {"question_id": s.question_id, "image": s.image_keys[0], "text": s.text} for s in samples
    ]
    put_lines(folder / "llava_mme.jsonl", lines[::-1])
    assert [s.key for s in MME(data_dir=folder).samples()] == [s.key for s in samples][::-1]
    put_lines(folder / "llava_mme.jsonl", lines[:-1])
    with pytest.raises(DataError, match="lacks 1 questions"):
        MME(data_dir=folder).samples()
    put_lines(folder / "llava_mme.jsonl", [*lines[:-1], {**lines[-1], "text": "Why?" + SUFFIX}])
    with pytest.raises(DataError, match=r"llava_mme\.jsonl:28: the question 'Why\?'"):
        MME(data_dir=folder).samples()
