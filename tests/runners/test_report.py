from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

from evals.reading.tsv import Base64Image
from runners.options import program
from runners.report import report
from runners.score import score
from runners.views.report.page import to_json
from runners.views.report.thumbnails import link_in_full, shrink
from tests.browser.synthetic_runs import Data, Reply, write_data, write_picture, write_run
from tests.runners.conftest import CHECKOUT, Finished

pytestmark = pytest.mark.usefixtures("in_own_folder")

HOSTILE = "</script><script>alert(1)</script>{{data}}<!--\u202e\x00\ud800"


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Four questions on three pictures, of which one is not there."""
    names = {"1": "a.jpg", "2": "b.jpg", "3": "a.jpg", "4": "gone.jpg"}
    records = [
        {"question_id": key, "image": name, "text": f"What is {key}?", "answer": f"thing {key}"}
        for key, name in names.items()
    ]
    data = write_data(tmp_path / "data", records)
    for seed, name in enumerate(("a.jpg", "b.jpg")):
        write_picture(data.images / name, seed)
    return data


@pytest.fixture
def runs(data: Data) -> Data:
    """Run A is right, wrong, nearly tied and failed; run B loses the first and gains the second."""
    write_run(
        Path("results/A"),
        data,
        [
            Reply("thing 1", groups={"kind": "easy"}),
            Reply("other"),
            Reply("thing 3", margin=1e-4, replayed=True),
            Reply(cause="image_missing", message="gone.jpg does not exist"),
        ],
    )
    write_run(Path("results/B"), data, [Reply("no"), Reply("thing 2"), Reply("thing 3"), None])
    return data


def make(*options: str) -> int:
    return program.run("report", report, list(options))


class Page:
    """What a page holds, read as its script reads it."""

    def __init__(self, path: str) -> None:
        self.html = Path(path).read_text()
        self.data: dict[str, Any] = json.loads(self._block("data"))
        self.pictures: list[str] = json.loads(self._block("pictures"))
        self.originals: list[str] = json.loads(self._block("originals"))
        self.texts: list[str] = self.data["texts"]

    def _block(self, name: str) -> str:
        found = re.findall(
            rf'<script type="application/json" id="{name}">(.*?)</script>', self.html
        )
        assert len(found) == 1
        return str(found[0])

    @property
    def task(self) -> dict[str, Any]:
        [task] = self.data["tasks"]
        return dict(task)

    def row(self, key: str) -> list[Any]:
        [row] = [row for row in self.task["rows"] if self.texts[row[0]] == key]
        return list(row)

    def answer(self, key: str, run: int = 0) -> list[Any] | None:
        answer = self.row(key)[6][run]
        return None if answer is None else list(answer)

    def outcome(self, key: str, run: int = 0) -> str | None:
        answer = self.answer(key, run)
        return None if answer is None else str(self.data["outcomes"][answer[0]])

    def prompt(self, key: str) -> str:
        answer = self.answer(key)
        assert answer is not None
        return "".join(self.texts[part] for part in answer[4][1:])


def test_one_run_becomes_a_page_beside_its_answers(
    runs: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make("runs=A") == 0
    assert "results/A/report.html: " in capsys.readouterr().out
    page = Page("results/A/report.html")
    assert [page.outcome(key) for key in "1234"] == ["right", "wrong", "right", "failed"]
    assert [page.texts[text] for text, _ in page.row("2")[4]] == ["thing 2"]
    assert page.task["fields"] == ["kind"]
    assert page.texts[page.row("1")[5][0]] == "easy"
    [summary] = page.task["summaries"]
    assert summary["metrics"] == {"accuracy": 0.5}
    assert summary["num_failed"] == {"image_missing": 1}
    assert "3 of 4 questions were answered" in " ".join(page.task["notes"])


def test_two_runs_are_joined_by_key(runs: Data) -> None:
    assert make("runs=[A,B]") == 0
    page = Page("results/A/report-B.html")
    assert [page.outcome(key, 1) for key in "1234"] == ["wrong", "right", "right", None]
    nothing, comparison = page.task["comparisons"]
    assert nothing is None
    assert comparison["num_common"] == 3
    assert comparison["difference"] == 0
    assert (comparison["num_better"], comparison["num_worse"]) == (1, 1)
    assert ["model", "A", "B"] in page.task["differences"]
    assert "not asked the same questions" in " ".join(page.task["notes"])


def test_further_runs_are_held_against_the_first(runs: Data) -> None:
    write_run(Path("results/C"), runs, [Reply("thing 1")] * 4, template="llava_v1")
    Path("results/D/other").mkdir(parents=True)
    Path("results/C/custom").rename("results/D/custom")
    write_run(Path("results/C"), runs, [Reply("thing 1")] * 4)
    assert make("runs=[A,B,C,D]", "output=page.html") == 0
    page = Page("page.html")
    assert [each and each["num_worse"] for each in page.task["comparisons"]] == [None, 1, 1, 1]
    assert ["conversation", "vicuna_v1", "vicuna_v1", "vicuna_v1", "llava_v1"] in (
        page.task["differences"]
    )
    assert "A and B were not asked the same questions" in " ".join(page.task["notes"])
    assert "A and C were not" not in " ".join(page.task["notes"])
    assert "<title>A and B and C and D - report</title>" in page.html


def test_many_runs_have_a_page_with_a_short_name(runs: Data) -> None:
    names = [f"{letter * 60}" for letter in "bcdefg"]
    for name in names:
        write_run(Path("results", name), runs, [Reply("x")] * 4)
    assert make(f"runs=[A,{','.join(names)}]") == 0
    assert Path(f"results/A/report-{'b' * 50}-and-5-more.html").is_file()


def test_index_lists_every_run_with_its_pages(
    runs: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(Path("results/<i>c"), runs, [Reply("x"), None, None, None], finished=False)
    make("runs=[A,B]")
    make("runs=A")
    assert "results/reports.html: all reports in results" in capsys.readouterr().out
    index = Path("results/reports.html").read_text()
    assert re.findall('href="(?!data:)(.*?)">(.*?)</a>', index) == [
        ("A/report-B.html", "report-B"),
        ("A/report.html", "report"),
    ]
    assert "50.00<small>3 / 4 answered" in index
    assert "not finished" in index
    assert "&lt;i&gt;c" in index
    assert "<script" not in index
    make("runs=all")
    found = re.findall('href="(?!data:)(.*?)"', Path("results/reports.html").read_text())
    assert "%3Ci%3Ec/report.html" in found
    assert len(found) == 4
    assert all(Path("results", unquote(link)).is_file() for link in found)


def test_index_replaces_no_file_of_somebody_else(
    runs: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("results/reports.html").write_text("mine")
    assert make("runs=A") == 0
    assert "results/reports.html is no index" in capsys.readouterr().err
    assert Path("results/reports.html").read_text() == "mine"


def test_a_run_that_cannot_be_read_keeps_no_other_back(
    runs: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("results/A/custom/manifest.json").write_text("{}")
    assert make("runs=all") == 2
    assert "results/A/custom/manifest.json" in capsys.readouterr().err
    assert not Path("results/A/report.html").exists()
    assert Path("results/B/report.html").is_file()


def test_images_in_full_are_linked_where_they_lie(runs: Data, tmp_path: Path) -> None:
    (runs.images / "a.jpg").rename(runs.images / "a #1.jpg")
    runs.questions.write_text(runs.questions.read_text().replace('"a.jpg"', '"a #1.jpg"'))
    make("runs=A", "output=sub/page.html", "max_thumbnails=1")
    page = Page("sub/page.html")
    found = [page.row(key)[3][0][2] for key in "1234"]
    assert found[3] == -1  # it is not there
    for key, number in zip("123", found, strict=False):
        named = page.texts[page.row(key)[3][0][0]]
        assert Path("sub", unquote(page.originals[number])).resolve() == runs.images / named
    assert len(page.originals) == 2


def test_images_in_full_are_put_into_the_page_up_to_a_limit(runs: Data) -> None:
    make("runs=A", "full_images=page", "output=page.html")
    page = Page("page.html")
    assert [address[:16] for address in page.originals] == ["data:image/webp;"] * 2
    limit_mb = (len(page.originals[0]) + 100) / 1e6
    make("runs=A", "full_images=page", f"full_mb={limit_mb}", "output=page.html")
    page = Page("page.html")
    assert [address[:5] for address in page.originals] == ["data:", "data/"]
    assert page.row("2")[3][0][2] == 0  # the wrong answer's goes first
    content = base64.b64decode(page.originals[0].partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (320, 240)


def test_images_in_tables_are_had_in_full_from_the_page(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (500, 400), "red").save(buffer, "PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    sources = {
        ("task", name): Base64Image(encoded=text, path=tmp_path / "t.tsv", place="row 1")
        for name, text in (("good", encoded), ("bad", "no picture"))
    }
    found = link_in_full(sources, tmp_path, embeds_all=False, max_mb=1)
    assert list(found) == [("task", "good")]
    assert found["task", "good"].startswith("data:image/webp;base64,")
    assert link_in_full(sources, tmp_path, embeds_all=False, max_mb=0) == {}


def test_prompt_is_the_template_around_the_question(runs: Data) -> None:
    make("runs=A")
    assert Page("results/A/report.html").prompt("1") == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. "
        "USER: <image>\nWhat is 1? ASSISTANT:"
    )


def test_prompt_of_a_checkpoint_that_marks_images_has_the_marks(runs: Data) -> None:
    manifest = Path("results/A/custom/manifest.json")
    content = json.loads(manifest.read_text())
    content["environment"]["marks_images"] = True
    manifest.write_text(json.dumps(content))
    make("runs=A")
    prompt = Page("results/A/report.html").prompt("1")
    assert "USER: <im_start><image><im_end>\nWhat is 1? ASSISTANT:" in prompt


def test_prompt_of_an_unknown_template_is_the_stored_question(data: Data) -> None:
    write_run(Path("results/A"), data, [Reply("x")] * 4, template="unheard_of")
    make("runs=A")
    page = Page("results/A/report.html")
    answer = page.answer("1")
    assert answer is not None
    assert answer[4][0] == 0
    assert page.prompt("1") == "What is 1?"


def test_trace_stands_beside_the_answer(runs: Data) -> None:
    make("runs=A")
    answer = Page("results/A/report.html").answer("3")
    assert answer is not None
    assert answer[9:13] == [1e-4, 1, 0, 0.012]


def test_answers_are_shown_where_the_data_are_gone(runs: Data) -> None:
    runs.questions.unlink()
    assert make("runs=A") == 0
    page = Page("results/A/report.html")
    assert "images and targets are missing" in page.task["notes"][0]
    assert str(runs.questions) in page.task["notes"][0]
    assert page.row("1")[3:5] == [[], []]
    assert page.outcome("1") == "right"
    assert page.prompt("1") == "What is 1?"
    assert page.pictures == []


def test_data_that_moved_are_read_where_they_are_now(runs: Data) -> None:
    runs.folder.rename("elsewhere")
    options = ["task=custom", "tasks.custom.questions=elsewhere/questions.jsonl"]
    assert make("runs=A", *options, "tasks.custom.images=elsewhere/images") == 0
    page = Page("results/A/report.html")
    assert [page.texts[text] for text, _ in page.row("2")[4]] == ["thing 2"]
    assert len(page.pictures) == 2


def test_data_that_changed_since_the_run_are_told(runs: Data) -> None:
    runs.questions.write_text(runs.questions.read_text().replace("thing 2", "other"))
    make("runs=A")
    assert "data files have changed" in " ".join(Page("results/A/report.html").task["notes"])


@pytest.mark.parametrize(
    ("environment", "note"),
    [
        ({}, "only the first 4 questions (limit)."),
        ({"runner": {"shard": "2/4"}}, "only shard 2/4 of the questions (runner.shard)."),
    ],
)
def test_part_of_the_questions_is_called_as_in_the_leaderboard(
    environment: dict[str, Any], note: str, runs: Data
) -> None:
    folder = Path("results/A/custom")
    environment = {"task": runs.spec, **environment}
    for name, fields in (
        ("summary", {"limited": True}),
        ("manifest", {"environment": environment}),
    ):
        content = json.loads((folder / f"{name}.json").read_text())
        (folder / f"{name}.json").write_text(json.dumps({**content, **fields}))
    assert make("runs=A") == 0
    assert note in Page("results/A/report.html").task["notes"]


def test_unfinished_run_is_shown_without_scores(data: Data) -> None:
    replies = [Reply("thing 1"), Reply(cause="error"), None, None]
    write_run(Path("results/A"), data, replies, finished=False)
    assert make("runs=A") == 0
    page = Page("results/A/report.html")
    assert [page.outcome(key) for key in "12"] == ["unscored", "failed"]
    assert len(page.task["rows"]) == 2
    assert "not finished; 2 of 4 answers so far" in page.task["notes"][0]


def test_answers_that_are_newer_than_the_scores_are_shown_without(data: Data) -> None:
    write_run(Path("results/A"), data, [Reply("thing 1"), Reply("other"), Reply("no"), None])
    scored = {f: Path("results/A/custom", f).read_bytes() for f in ("summary.json", "scores.jsonl")}
    shutil.rmtree("results/A")
    write_run(Path("results/A"), data, [Reply("no"), *[Reply("thing 2")] * 3], finished=False)
    for name, content in scored.items():
        Path("results/A/custom", name).write_bytes(content)
    assert make("runs=A") == 0
    page = Page("results/A/report.html")
    assert [page.outcome(key) for key in "1234"] == ["unscored"] * 4
    assert "was answered on since it was scored" in page.task["notes"][0]


def test_unfinished_run_was_not_asked_other_questions(data: Data) -> None:
    write_run(Path("results/A"), data, [Reply("thing 1")] * 4)
    write_run(Path("results/B"), data, [Reply("thing 1"), None, None, None], finished=False)
    assert make("runs=[A,B]") == 0
    notes = " ".join(Page("results/A/report-B.html").task["notes"])
    assert "B: not finished; 1 of 4 answers so far" in notes
    assert "same questions" not in notes


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["runs=C"], "There are: A, B"),
        (["runs=[A,..]"], "`runs` must be a run"),
        (["runs=[A,B,A]"], "different runs"),
        (["runs=[A,A]"], "different runs"),
        (["runs=[]"], "one to 26 runs"),
        (["runs=all", "output=page.html"], "runs=all writes one for each run"),
        (["runs=A", "full_images=web"], "`full_images`"),
        (["runs=A", "full_mb=-1"], "`full_mb`"),
        ([], "runs"),
        (["runs=results/nowhere"], "but is 'results/nowhere'"),
        (["runs=data"], "data holds no task"),
        (["runs=./data"], "data holds no task"),
        (["runs=A", "task=gqa"], "no answers to gqa in results/A"),
        (["runs=A", "output=data/questions.jsonl"], "must end in .html"),
        (["runs=A", "output=folder.html"], "is a folder"),
        (["runs=A", "output=mine.html"], "is no report"),
        (["runs=A", "output=data/questions.jsonl/x.html"], "cannot be written"),
        (["runs=A", "max_thumbnails=-1"], "`max_thumbnails`"),
        (["runs=A", "thumbnail_px=1"], "`thumbnail_px`"),
        (["runs=A", "max_mb=-1"], "`max_mb`"),
        (["runs=A", "max_mb=nan"], "`max_mb`"),
        (["runs=A", "max_mb=many"], "max_mb"),
    ],
)
def test_bad_options_are_named_and_write_nothing(
    runs: Data, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder.html").mkdir()
    Path("mine.html").write_text("<p>My own page.</p>")
    before = sorted(Path().rglob("*"))
    assert make(*options) == 2
    said = capsys.readouterr()
    assert named in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert sorted(Path().rglob("*")) == before


def test_a_run_is_also_named_by_its_folder(runs: Data) -> None:
    Path("results/B").rename("elsewhere")
    assert make("runs=[A,./elsewhere]", "output=page.html") == 0
    assert [run["name"] for run in Page("page.html").data["runs"]] == ["A", "elsewhere"]


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("names", "options"),
    [
        (["2026_11_27"], "runs=2026_11_27"),
        (["12", "-x"], "runs=[12,-x]"),
        (["ünï", "it's"], "runs=[ünï, it's]"),
        (["a=b", "a[1]"], "runs=[a=b,a[1]]"),
    ],
)
def test_names_of_runs_are_text(data: Data, names: list[str], options: str) -> None:
    for name in names:
        write_run(Path("results", name), data, [Reply("x")] * 4)
    assert make(options, "output=page.html") == 0
    assert [run["name"] for run in Page("page.html").data["runs"]] == names


def test_each_picture_is_held_once_and_those_that_cannot_be_opened_are_told(runs: Data) -> None:
    (runs.images / "c.jpg").write_bytes((runs.images / "a.jpg").read_bytes())
    runs.questions.write_text(runs.questions.read_text().replace('"gone.jpg"', '"c.jpg"'))
    (runs.images / "b.jpg").write_bytes(b"no picture")
    make("runs=A", "thumbnail_px=64")
    page = Page("results/A/report.html")
    assert len(page.pictures) == 1
    assert [page.row(key)[3][0][1] for key in "1234"] == [0, -2, 0, 0]
    kind, content = page.pictures[0].split(",")
    assert kind == "data:image/webp;base64"
    assert base64.b64decode(content)[8:12] == b"WEBP"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["runs=A", "max_thumbnails=1"], ["2"]),  # the first that is not right
        (["runs=[A,B]", "max_thumbnails=1"], ["1", "3"]),  # the first on which the runs differ
        (["runs=A", "max_thumbnails=0"], []),
    ],
)
def test_pictures_of_interest_come_first(runs: Data, options: list[str], shown: list[str]) -> None:
    make(*options, "output=page.html")
    page = Page("page.html")
    assert [key for key in "123" if page.row(key)[3][0][1] >= 0] == shown


def test_pictures_of_a_large_page_lie_beside_it(runs: Data) -> None:
    for _ in range(2):  # again over what is there
        assert make("runs=A", "output=sub/page.html", "max_mb=0.001") == 0
    page = Page("sub/page.html")
    assert len(page.pictures) == 2
    assert sorted(page.pictures) == [
        f"page-images/{path.name}" for path in sorted(Path("sub/page-images").iterdir())
    ]
    with Image.open(Path("sub") / page.pictures[0]) as image:
        assert image.size == (160, 120)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "I;16", "CMYK", "F"])
def test_every_kind_of_picture_becomes_small_and_rgb(mode: str) -> None:
    small = shrink(Image.new(mode, (400, 100)), 160)
    assert (small.mode, small.size) == ("RGB", (160, 40))


def test_transparent_parts_become_white() -> None:
    assert shrink(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), 160).getpixel((0, 0)) == (255,) * 3


def test_no_text_of_a_run_becomes_markup(tmp_path: Path) -> None:
    record = {"question_id": HOSTILE, "text": HOSTILE, "answer": HOSTILE}
    data = write_data(tmp_path / "data", [record])
    write_run(Path("results/A"), data, [Reply(HOSTILE, groups={HOSTILE: HOSTILE})])
    assert make("runs=A") == 0
    page = Page("results/A/report.html")
    assert HOSTILE in page.texts
    assert len(re.findall("<script", page.html)) == 5
    assert "alert(1)</script>" not in page.html
    assert "\u202e" not in page.html


def test_run_name_is_escaped_in_the_title(data: Data) -> None:
    write_run(Path("results/<i>x"), data, [Reply("x")] * 4)
    assert make("runs=['<i>x']", "output=page.html") == 0
    assert "<title>&lt;i&gt;x - report</title>" in Path("page.html").read_text()


def test_the_policy_names_this_script_and_this_style(runs: Data) -> None:
    make("runs=A")
    html = Page("results/A/report.html").html
    [policy] = re.findall('Content-Security-Policy" content="(.*?)"', html)
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        [content] = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert set(re.findall(r"https?://[^\s\"']+", html)) == {"http://www.w3.org/2000/svg"}  # a name


def test_the_same_runs_give_the_same_bytes(runs: Data) -> None:
    pages = []
    for _ in range(2):
        make("runs=[A,B]", "output=page.html")
        pages.append(Path("page.html").read_bytes())
    assert pages[0] == pages[1]


def test_numbers_that_json_lacks_become_null(data: Data) -> None:
    write_run(Path("results/A"), data, [Reply("x", margin=float("inf"))] * 4)
    assert make("runs=A") == 0
    answer = Page("results/A/report.html").answer("1")
    assert answer is not None
    assert answer[9] is None


def test_json_for_a_script_element_reads_back() -> None:
    value = {"<": ["</script>", "é", "\ud800", None]}
    assert json.loads(to_json(value)) == value
    assert "<" not in to_json(value)


@pytest.mark.slow
def test_run_of_the_program_itself_is_shown(
    shell: Callable[[str, Path], Finished], demo_run: Finished, tmp_path: Path
) -> None:
    results = demo_run.workspace / "results"
    manifest = json.loads((results / "demo/gqa/manifest.json").read_text())
    assert manifest["environment"]["marks_images"] is False
    finished = shell(
        f"python -m runners.report runs=demo results_dir={results} output=x.html", tmp_path
    )
    assert (finished.code, finished.stderr) == (0, "")
    page = Page("x.html")
    assert [task["name"] for task in page.data["tasks"]] == ["gqa", "vqav2"]
    assert page.data["runs"][0]["facts"]["conversation"] == "vicuna_v1"
    assert all(image[1] >= 0 for task in page.data["tasks"] for r in task["rows"] for image in r[3])


def test_commands_of_the_documentation_run(runs: Data) -> None:
    for name, run in (("llava-demo", "A"), ("llava-demo-early", "B")):
        Path("results", run).rename(Path("results", name))
    Path("Q.jsonl").write_text(runs.questions.read_text())
    runs.images.rename("DIR")
    page = (CHECKOUT / "docs" / "report.md").read_text()
    block = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)[0]
    commands = [line.split("#")[0].split() for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        assert command[:3] == ["python", "-m", "runners.report"]
        assert make(*command[3:]) == 0
    assert Path("results/llava-demo/report.html").exists()
    assert Path("page.html").exists()


def test_question_that_an_imported_file_lacks_is_shown_as_unanswered(data: Data) -> None:
    Path("answers.jsonl").write_text('{"question_id": "2", "prompt": "", "text": "thing 2"}\n')
    options = [f"tasks.custom.questions={data.questions}", f"tasks.custom.images={data.images}"]
    options += ["task=custom", "tasks.custom.scorer=exact", "predictions=answers.jsonl", "run=A"]
    program.run("score", score, options)
    assert make("runs=A") == 0
    page = Page("results/A/report.html")
    assert [page.outcome(key) for key in "1234"] == ["failed", "right", "failed", "failed"]
    answer = page.answer("1")
    assert answer is not None
    assert page.texts[answer[5][0]] == "no_answer"
    assert answer[4][0] == 0  # the template of an imported file is not known
    assert page.prompt("1") == "What is 1?"
