import pytest

from evals.errors import DataError
from evals.figures.summary import summarize
from evals.tasks.hallusionbench import HallusionBench
from tests.evals.small_files import cell, put_json, put_lines, put_parquet
from tests.evals.small_reasoning import hallusionbench_records, write_hallusionbench

KEYS = ["VD_ocr_0_0_0", "VD_ocr_0_0_1", "VD_ocr_0_1_0", "VS_map_0_0_0"]


@pytest.fixture
def folder(tmp_path):
    write_hallusionbench(tmp_path)
    return tmp_path


def answer(task, *texts):
    lines = zip(KEYS, texts, strict=False)
    return task.score(task.match([{"question_id": key, "text": text} for key, text in lines]))


def judged(folder, *replies, **options):
    """The benchmark with the replies of each run to each question."""
    lines = [
        {"question_id": key, "run": run, "model": "gpt-4", "content": content}
        for key, contents in zip(KEYS, replies, strict=False)
        for run, content in enumerate(contents)
    ]
    put_lines(folder / "replies.jsonl", lines)
    return HallusionBench(data_dir=folder, replies=folder / "replies.jsonl", **options)


def test_words_are_read_and_groups_are_right_all_through(folder):
    task = HallusionBench(data_dir=folder, split="all")
    scores = answer(task, "Yes.", "no", "Yes", "I cannot tell")
    assert [(s.value, s.answer) for s in scores] == [
        (1.0, "yes"),
        (1.0, "no"),
        (0.0, "yes"),
        (1.0, "other"),  # what the question speaks of is not shown
    ]
    figures = task.aggregate(scores)
    assert figures.metrics == {"aAcc": 0.75, "fAcc": 0.5, "qAcc": pytest.approx(2 / 3)}
    assert figures.breakdowns["category"]["VS"] == {
        "aAcc": 1.0,
        "fAcc": None,
        "qAcc": 1.0,
        "num_questions": 1,
    }
    assert set(figures.breakdowns["subcategory"]) == {"VD_ocr", "VS_map"}
    assert figures.num_unparsed == 1
    assert task.definition == "hallusionbench_yes_no/1"


def test_image_split_leaves_out_what_is_asked_without_one(folder, caplog):
    task = HallusionBench(data_dir=folder)
    assert [sample.key for sample in task.samples()] == KEYS[:3]
    assert [len(sample.images) for sample in task.samples()] == [1, 1, 1]
    assert len(answer(task, "yes", "no", "no", "yes")) == 3
    assert "1 ids are not of this split and are ignored" in caplog.text
    [*_, last] = HallusionBench(data_dir=folder, split="all").samples()
    assert (last.key, last.images, last.text) == (KEYS[3], (), "Is line 0 of map longer?")


def test_tables_are_the_same_questions(folder, tmp_path):
    rows = [
        {**record, "image": record["filename"] and cell(1)} for record in hallusionbench_records()
    ]
    place = tmp_path / "tables"
    put_parquet(place / "data/image-00000-of-00001.parquet", rows[:3])
    for split in ("image", "all"):
        if split == "all":
            with pytest.raises(DataError, match=r"data/non_image-\*.*serves as well"):
                HallusionBench(data_dir=place, split=split).samples()
            put_parquet(place / "data/non_image-00000-of-00001.parquet", rows[3:])
        samples = HallusionBench(data_dir=place, split=split).samples()
        wanted = HallusionBench(data_dir=folder, split=split).samples()
        assert [(s.key, s.text, s.target, s.details) for s in samples] == [
            (s.key, s.text, s.target, s.details) for s in wanted
        ]
        assert all(image.exists() for sample in samples for image in sample.images)
        assert len(HallusionBench(data_dir=place, split=split).data_files()) in (1, 2)


@pytest.mark.parametrize("split", ["image", "all"])
def test_row_of_the_table_of_images_must_name_one(tmp_path, split):
    rows = [{**record, "image": None} for record in hallusionbench_records()]
    rows[1]["filename"] = None
    put_parquet(tmp_path / "data/image-00000-of-00001.parquet", rows[:3])
    put_parquet(tmp_path / "data/non_image-00000-of-00001.parquet", rows[3:])
    with pytest.raises(DataError, match="image: row 1: `filename` must be str, but is null"):
        HallusionBench(data_dir=tmp_path, split=split).score({})


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ([], r"\(data/image-\*\.parquet and data/non_image-\*\.parquet of .* serve as well\)"),
        (["image"], r"\(data/non_image-\*\.parquet of .* serves as well\)"),
        (["non_image"], r"\(data/image-\*\.parquet of .* serves as well\)"),
    ],
)
def test_all_tables_that_are_missing_are_named(tmp_path, there, wanted):
    rows = [{**record, "image": None} for record in hallusionbench_records()]
    for name in there:
        put_parquet(tmp_path / f"data/{name}-00000-of-00001.parquet", rows)
    with pytest.raises(DataError, match=wanted):
        HallusionBench(data_dir=tmp_path, split="all").samples()


def test_replies_of_the_judge_decide_instead(folder):
    task = judged(folder, ["Correct"], ["incorrect"], ["unclear"], ["?"], split="all")
    scores = answer(task, "yes", "no", "no", "no")
    assert [(s.value, s.answer) for s in scores] == [
        (1.0, "correct"),
        (0.0, "incorrect"),
        (0.0, "unclear"),
        (1.0, "unclear"),
    ]
    figures = task.aggregate(scores)
    assert figures.metrics == {
        "aAcc": 0.5,
        "fAcc": 0.0,
        "qAcc": pytest.approx(1 / 3),
        "easy": pytest.approx(2 / 3),
        "hard": 0.0,
    }
    assert figures.num_unparsed == 2
    assert task.definition == "hallusionbench_gpt-4/1"
    assert all(s.answered for s in scores)  # whatever it says is a verdict


def test_figures_are_means_over_the_runs_of_the_judge(folder):
    runs = ["correct", "correct"], ["correct", "incorrect"], ["incorrect", "correct"]
    task = judged(folder, *runs)
    scores = answer(task, "yes", "no", "no")
    assert [s.value for s in scores] == [1.0, 0.5, 0.5]
    figures = task.aggregate(scores)
    assert figures.metrics["aAcc"] == pytest.approx(2 / 3)
    assert figures.metrics["fAcc"] == 0.5  # in each run one of the two
    assert figures.metrics["qAcc"] == 0.5
    missing = task.aggregate(answer(judged(folder, *runs[:2]), "yes", "no"))
    assert missing.metrics["qAcc"] == 0.25


def test_missing_reply_is_an_error_and_a_failed_one_is_not_judged(folder):
    task = judged(folder, ["correct"], ["correct"])
    with pytest.raises(DataError, match="1 of 3 replies of the judge gpt-4 are missing"):
        answer(task, "yes", "no", "no")
    scores = answer(judged(folder, ["correct"], [None], ["correct"]), "yes", "no", "no")
    assert [s.answered for s in scores] == [True, False, True]
    assert scores[1].failure.cause == "judge_refused"


def test_reply_that_failed_is_no_unclear_one(folder):
    rights = [["correct"] * 2] * 3
    task = judged(folder, *rights, [None, "?"], split="all")
    scores = answer(task, "yes", "no", "no", "no")
    assert [(s.value, s.answer, s.answered) for s in scores[2:]] == [
        (1.0, "correct", True),
        (0.5, None, False),  # an unclear answer is right here, where nothing is shown
    ]
    assert task.aggregate(scores).metrics["aAcc"] == 0.875


def test_judge_is_asked_about_each_answer_in_its_words(folder):
    task = HallusionBench(data_dir=folder)
    matched = task.match([{"question_id": KEYS[0], "text": "Maybe"}])
    [request] = task.judge_requests(matched).values()
    assert request.prompt.endswith(
        "Question:Is line 0 of ocr longer?\nReference answer: Details of ocr 0 0.\n"
        "Prediction answer:Maybe\nOutput:"
    )


def test_limit_leaves_the_figures_over_groups_open(folder):
    task = HallusionBench(data_dir=folder)
    summary = summarize(task, answer(task, "yes")[:1], {}, limit_cuts_groups=True)
    assert summary.metrics == {"aAcc": 1.0, "fAcc": None, "qAcc": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category": "VX"}, "`category` must be one of VD, VS, but is 'VX'"),
        ({"visual_input": "3"}, "`visual_input` must be one of 0, 1, 2"),
        ({"gt_answer": "yes"}, "`gt_answer` must be one of 0, 1"),
        ({"gt_answer": 1}, "`gt_answer` must be str"),
        ({"filename": 1}, "`filename` must be str or null"),
        ({"figure_id": "1", "question_id": "0"}, "occurs twice"),
    ],
)
def test_broken_entry_is_located(folder, changes, message):
    records = hallusionbench_records()
    put_json(folder / "HallusionBench.json", [{**records[0], **changes}, *records[1:]])
    with pytest.raises(DataError, match=message):
        HallusionBench(data_dir=folder).score({})
