"""`runners.publish`: the hub's own format of a run's results, sent only where that is asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from huggingface_hub import errors, parse_eval_result_entries

from runners.options import program
from runners.publish import publish
from tests.runners.synthetic_runs import scores_of_mean, write_task

pytestmark = pytest.mark.usefixtures("in_own_folder")


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is sent to the hub, which takes everything."""
    calls: list[dict[str, Any]] = []

    class Commit:
        pr_url = "https://huggingface.co/me/mine/discussions/1"

    def take(_api: object, **options: Any) -> Commit:
        calls.append(options)
        return Commit()

    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", take)
    return calls


def write(name: str, mean: float = 0.625, number: int = 400, **fields: Any) -> Path:
    identity = {"conversation": "vicuna_v1", "quantization": {"name": "nf4"}}
    fields = {"expected_num_questions": number, "identity": identity, **fields}
    folder = write_task(Path("results/A"), name, scores_of_mean(mean, number), **fields)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["history"] = [{"started": "2026-01-15T10:30:00Z"}]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def run(*words: str) -> int:
    return program.run("publish", publish, ["run=A", *words])


def entry(name: str, folder: str = "results/A/hub") -> Any:
    content = yaml.safe_load(Path(folder, ".eval_results", f"{name}.yaml").read_text())
    [found] = parse_eval_result_entries(content)
    return found


def test_files_are_those_of_the_hub_and_nothing_is_sent(
    sent: Sequence[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    write("gqa")
    write("pope", 0.5)
    assert run("repo=me/mine") == 0
    gqa, pope = entry("gqa"), entry("pope")
    assert (gqa.dataset_id, gqa.task_id) == ("lmms-lab/GQA", "testdev_balanced_instructions")
    assert (pope.dataset_id, pope.task_id) == ("lmms-lab/POPE", "Full")
    assert (gqa.value, gqa.date) == (62.5, "2026-01-15T10:30:00Z")
    for part in ("accuracy in percent", "gqa_official/1", "testdev_balanced", "vicuna_v1", "nf4"):
        assert part in gqa.notes
    card = Path("results/A/hub/model_card.md").read_text()
    assert "| [gqa](https://huggingface.co/datasets/lmms-lab/GQA) | testdev_balanced |" in card
    assert "62.50" in card
    told = capsys.readouterr()
    assert card in told.out
    assert not sent


def test_pull_request_is_opened_where_it_is_asked_for(
    sent: Sequence[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    write("gqa")
    write("pope")
    assert run("repo=me/mine", "create_pr=true", "task=gqa", "output=out") == 0
    [commit] = sent
    assert (commit["repo_id"], commit["create_pr"]) == ("me/mine", True)
    [addition] = commit["operations"]
    assert addition.path_in_repo == ".eval_results/gqa.yaml"
    written = Path("out/.eval_results/gqa.yaml").read_bytes()
    assert addition.path_or_fileobj == written
    assert "discussions/1" in capsys.readouterr().out
    assert not Path("out/.eval_results/pope.yaml").exists()


def test_points_are_published_as_points() -> None:
    scales = {"perception": {"unit": "points", "largest": None}}
    write("mme", metrics={"perception": 1510.75}, interval=[1500.0, 1520.0], scales=scales)
    assert run() == 0
    assert entry("mme").value == 1510.75
    assert "in points" in entry("mme").notes


def test_failed_questions_are_noted() -> None:
    write("gqa", num_answered=390, coverage=0.975, num_failed={"image_missing": 10})
    write("llavabench", num_answered=390, coverage=0.975, judge={"model": "gpt-4-0314"})
    assert run() == 0
    lack = "400 questions, of which 390 were answered, the others count as wrong (image_missing 10)"
    assert lack in entry("gqa").notes
    card = Path("results/A/hub/model_card.md").read_text()
    assert "of which 390 were answered and judged (no answer)" in card  # the others are left out


def test_what_is_not_usual_is_noted() -> None:
    write(
        "gqa",
        identity={
            "conversation": "plain",
            "tf32": True,
            "generation": {"temperature": 1.0, "num_beams": 5, "max_new_tokens": 1},
            "engine": {"replay": "off"},
        },
        environment={"template": {"conversation": "vicuna_v1"}},
        options={"prompt_suffix": " ?"},
    )
    assert run() == 0
    for part in (
        *("plain, TF32", "temperature 1.0", "num_beams 5", "max_new_tokens 1", "replay off"),
        "though the model has the template vicuna_v1",
        "options other than the default: max_new_tokens=1, prompt_suffix=' ?'",
    ):
        assert part in entry("gqa").notes
    card = Path("results/A/hub/model_card.md").read_text()
    assert entry("gqa").notes in card


def test_figures_of_an_earlier_call_do_not_stay(capsys: pytest.CaptureFixture[str]) -> None:
    folder = write("gqa")
    write("pope")
    assert run() == 0
    hub = Path("results/A/hub")
    other = {"dataset": {"id": "a/b", "task_id": "c"}, "value": 5, "notes": "by hand"}
    (hub / ".eval_results/mine.yaml").write_text(yaml.safe_dump([other]))
    (hub / ".eval_results/broken.yaml").write_text("a: [")
    (hub / "README.md").write_text("## Evaluation results\n")
    edit(folder)
    assert run() == 0
    kept = ["README.md", "broken.yaml", "mine.yaml", "model_card.md", "pope.yaml"]
    assert sorted(path.name for path in hub.rglob("*.*") if path.is_file()) == kept
    told = capsys.readouterr().err
    for name in ("broken.yaml", "mine.yaml"):
        assert f"{name} is not from this program, and stays" in told
    assert run("task=gqa") == 2  # a refusal leaves no figure either
    assert sorted(path.name for path in hub.rglob("*.*") if path.is_file()) == kept[:3]


def test_result_of_other_origin_is_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    write("gqa")
    path = Path("out/.eval_results/gqa.yaml")
    path.parent.mkdir(parents=True)
    path.write_text("- by hand\n")
    assert run("output=out") == 2
    assert "gqa.yaml is not from this program and would be replaced" in capsys.readouterr().err
    assert path.read_text() == "- by hand\n"


def edit(folder: Path) -> None:
    with (folder / "predictions.jsonl").open("a") as file:
        file.write("{}\n")


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ({"limited": True, "limit": 400}, "Only a part of gqa"),
        ({"expected_num_questions": 12_578}, "12,578 questions as published"),
        ({"metrics": {}}, "has no score"),
        ({"definition": "gqa_official/0"}, "scored by gqa_official/0 as it was then"),
    ],
)
def test_score_of_other_data_is_not_published(
    summary: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("gqa", **summary)
    assert run() == 2
    assert message in capsys.readouterr().err
    assert not Path("results/A/hub").exists()


def test_what_cannot_be_published_is_named_beside_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(write("gqa"))
    write("mmvet")
    write("pope")
    assert run() == 0
    told = capsys.readouterr().err
    assert "predictions.jsonl has changed" in told
    assert "no data set on the hub is known for mmvet" in told
    assert "| mmvet |" in Path("results/A/hub/model_card.md").read_text()
    assert [path.name for path in Path("results/A/hub/.eval_results").iterdir()] == ["pope.yaml"]
    assert run("task=[gqa,pope]") == 2
    assert run("task=mme") == 2
    assert "`task` names mme" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create_pr=true"], "repo=OWNER/MODEL"),
        (["repo=mine"], "`repo` must be OWNER/MODEL"),
    ],
)
def test_model_on_the_hub_must_be_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("gqa")
    assert run(*words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [errors.LocalTokenNotFoundError, errors.HTTPError],
)
def test_files_stay_where_the_hub_does_not_take_them(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error("no token hf_abcdefghijklmnopqrst")

    write("gqa")
    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", refuse)
    assert run("repo=me/mine", "create_pr=true") == 1
    told = capsys.readouterr().err
    assert "hf auth login" in told
    assert "hf_abc" not in told
    assert entry("gqa").value == 62.5


def test_run_on_no_data_set_of_the_hub_has_a_card(
    sent: Sequence[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    write("gqa", options={"split": "demo"}, split="demo")
    assert run() == 0
    assert "no data set on the hub is known for gqa demo" in capsys.readouterr().err
    assert "| gqa | demo | accuracy | 62.50 |" in Path("results/A/hub/model_card.md").read_text()
    assert not Path("results/A/hub/.eval_results").exists()
    assert run("repo=me/mine", "create_pr=true") == 2
    assert "nothing to send" in capsys.readouterr().err
    assert run("task=gqa") == 2
    assert not sent


def test_own_questions_are_known_by_the_name_that_they_were_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = {"questions": "q.jsonl", "scorer": "exact", "name": "mine"}
    write("custom", options=options)
    named = ["task=custom", "tasks.custom.name=mine"]
    assert run(*named) == 2
    assert "no data set on the hub is known for mine" in capsys.readouterr().err
    assert run("task=custom") == 2
    assert "There are: mine." in capsys.readouterr().err
