import json
from dataclasses import asdict

import pytest

from evals.errors import DataError
from evals.reading.replies import JudgeReply, hash_request, read_replies, select_replies
from evals.scorers.judge import build_mmvet_request

REQUESTS = {key: build_mmvet_request("q", "t", f"answer {key}") for key in ("v1_0", "v1_1")}


def reply(key="v1_0", run=0, model="j", content="0.5", request=None):
    sha = "" if request is None else hash_request(request)
    return JudgeReply(question_id=key, run=run, model=model, content=content, request_sha256=sha)


def select(replies, judge="j"):
    found = select_replies(replies, REQUESTS, judge=judge, task="mmvet", remedy="Ask.")
    return {key: [one.content for one in of_one] for key, of_one in found.items()}


def test_own_replies_are_read_back(tmp_path):
    stored = [reply(run=run, request=REQUESTS["v1_0"]) for run in range(2)]
    path = tmp_path / "replies.jsonl"
    path.write_text("".join(json.dumps(asdict(x)) + "\n" for x in stored))
    assert read_replies([path]) == stored


def test_each_review_file_is_a_run(tmp_path):
    paths = [tmp_path / f"review{run}.jsonl" for run in range(2)]
    for path in paths:
        path.write_text(json.dumps({"question_id": 0, "content": "8 9"}))
    assert [(x.question_id, x.run, x.model) for x in read_replies(paths)] == [
        ("0", 0, ""),
        ("0", 1, ""),
    ]


def test_file_that_answers_again_is_another_run(tmp_path):
    names = ("first", "second", "third", "rest")
    first, second, third, rest = (tmp_path / f"{name}.jsonl" for name in names)
    for path, keys in ((first, "ab"), (second, "ab"), (third, "ab"), (rest, "c")):
        lines = [asdict(reply(key=key, content=path.stem)) for key in keys]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(x.question_id, x.run) for x in read_replies([first, second])] == [
        *(("a", 0), ("b", 0)),
        *(("a", 1), ("b", 1)),
    ]
    assert [x.run for x in read_replies([first, second, third])] == [0, 0, 1, 1, 2, 2]
    assert [x.run for x in read_replies([first, rest])] == [0, 0, 0]  # one run in two files
    lines = [asdict(reply(key="a", content="mended"))]
    rest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=r"rest\.jsonl has 1 of the 2 replies that files before"):
        read_replies([first, rest])


def test_grades_of_another_file_are_another_run(tmp_path):
    paths = [tmp_path / f"grades{number}.json" for number in range(2)]
    for path in paths:
        path.write_text(json.dumps({"v1_0": {"model": ["j", "j"], "content": ["0.5", "1"]}}))
    assert [x.run for x in read_replies(paths)] == [0, 1, 2, 3]


def test_extractions_of_mathvista_are_replies(tmp_path):
    path = tmp_path / "output.json"
    records = {"1": {"response": "It is B", "extraction": "B"}, "2": {"extraction": None}}
    records["3"] = {"response": "of which the judge has not been asked"}
    path.write_text(json.dumps(records))
    first, second = read_replies([path])
    assert (first.question_id, first.run, first.model, first.content) == ("1", 0, "", "B")
    assert second.failure is not None


def test_fields_that_say_nothing_may_be_null(tmp_path):
    path = tmp_path / "replies.jsonl"
    line = {"question_id": "v1_0", "model": None, "content": "1", "request_sha256": None}
    path.write_text(json.dumps(line))
    assert select([*read_replies([path]), reply(key="v1_1")])["v1_0"] == ["1"]


def test_replies_come_by_question_and_run():
    replies = [reply(run=run, key=key, content=f"{run}") for run in (1, 0) for key in REQUESTS]
    assert select(replies) == {"v1_0": ["0", "1"], "v1_1": ["0", "1"]}
    assert select([*replies, reply(content="again"), reply(key="v1_9")])["v1_0"] == ["again", "1"]


def test_reply_to_an_answer_that_changed_does_not_count():
    stale = reply(request=build_mmvet_request("q", "t", "an earlier answer"))
    with pytest.raises(DataError, match="1 of 2 replies of the judge j are missing"):
        select([stale, reply(key="v1_1")])
    fresh = reply(request=REQUESTS["v1_0"])
    assert select([fresh, reply(key="v1_1")])["v1_0"] == ["0.5"]


def test_run_of_which_no_reply_counts_is_missing():
    whole = [reply(key=key, request=request) for key, request in REQUESTS.items()]
    earlier = build_mmvet_request("q", "t", "an earlier answer")
    stale = [reply(key=key, run=1, request=earlier) for key in REQUESTS]
    for others in (stale, [reply(key="v1_9", run=1)]):
        with pytest.raises(DataError, match=r"2 of 4 .* are missing or are to other .* in run 1"):
            select([*whole, *others])
    elsewhere = [reply(key="v1_9"), reply(request=earlier, key="v1_0")]
    assert select([*elsewhere, *whole]) == {"v1_0": ["0.5"], "v1_1": ["0.5"]}


def test_missing_replies_are_counted_over_all_runs():
    with pytest.raises(DataError, match=r"2 of 4 .*question v1_1 in run 0\)\. Ask\."):
        select([reply(), reply(run=1)])
    with pytest.raises(DataError, match="2 of 2"):
        select([])


def test_replies_of_another_judge_are_refused():
    with pytest.raises(DataError, match="judge 'other', but `judge` is 'j'"):
        select([reply(model="other")])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.json", "[]", "must be an object of grades"),
        ("g.json", '{"v1_0": {"model": ["j"]}}', "v1_0 lacks the field `content`"),
        ("g.json", '{"v1_0": {"model": ["j"], "content": []}}', "must be of one length"),
        ("r.jsonl", '{"question_id": 1}', r"r\.jsonl:1 lacks the field `content`"),
        ("r.jsonl", "{", r"r\.jsonl:1 is not JSON"),
        ("r.jsonl", "", "holds no reply"),
    ],
)
def test_broken_reply_files_are_located(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_replies([tmp_path / name])
