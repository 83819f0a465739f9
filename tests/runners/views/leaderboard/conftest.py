"""The leaderboard as its program writes it from stored runs."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.leaderboard import leaderboard
from runners.options.program import run
from tests.runners.synthetic_runs import scores_of_mean, write_task

TITLES = {
    "VQAv2": "VQAv2",
    "GQA": "GQA",
    "VizWiz": "VizWiz",
    "ScienceQA": "SQA-I",
    "TextVQA": "TextVQA",
    "POPE": "POPE",
    "MME": "MME",
    "MMBench": "MMB",
    "MMBench-CN": "MMB-CN",
    "SEED-Bench": "SEED",
    "LLaVA-Bench-Wild": "LLaVA-W",
    "MM-Vet": "MM-Vet",
}
"""The columns of the source table under their titles here, in the paper's order."""

Build = Callable[..., "Built"]


class Built:
    """What the program wrote and said."""

    def __init__(self, code: int, folder: Path, stdout: str, stderr: str) -> None:
        self.code, self.folder, self.stdout, self.stderr = code, folder, stdout, stderr

    def text(self, suffix: str) -> str:
        return (self.folder / f"leaderboard.{suffix}").read_text(encoding="utf-8")

    def records(self) -> list[dict[str, str]]:
        with (self.folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def record(self, name: str, kind: str = "run") -> dict[str, str]:
        [found] = [r for r in self.records() if (r["name"], r["kind"]) == (name, kind)]
        return found

    def tables(self) -> list[list[list[str]]]:
        """The tables of the Markdown, heads first, cells as they stand."""
        blocks = re.findall(r"(?:^\|.*\n)+", self.stdout, re.MULTILINE)
        return [
            [
                [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                for number, line in enumerate(block.splitlines())
                if number != 1
            ]
            for block in blocks
        ]


@pytest.fixture
def build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Build:
    """Runs the program on `results`, without the picture, unless options say otherwise."""

    def built(*options: str, results: Path | None = None) -> Built:
        output = tmp_path / "output"
        words = [f"results_dir={results or tmp_path / 'results'}", f"output={output}"]
        if not any(option.startswith("formats=") for option in options):
            words.append("formats=[csv,md,tex,html]")
        code = run("leaderboard", leaderboard, [*words, *options])
        captured = capsys.readouterr()
        return Built(code, output, captured.out, captured.err)

    return built


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A run of LLaVA-1.5-7B on GQA with 63 of 100 right, and one on demo data."""
    folder = tmp_path / "results"
    write_task(folder / "llava-v1.5-7b", "gqa", scores_of_mean(0.63, 100))
    write_task(folder / "demo", "gqa", scores_of_mean(0.5, 50), options={"split": "demo"})
    return folder
