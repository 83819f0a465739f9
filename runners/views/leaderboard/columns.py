"""The columns of the leaderboard: a figure of a benchmark, and how it is printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum

from evals.records import SHARE, Scale
from runners.storage.run_table import render_signed
from runners.storage.summary import known_scale

_NUM_DIGITS = 1
"""As in the table of the LLaVA-1.5 paper, for shares (in percent) and for points."""


class Part(IntEnum):
    """The parts of the leaderboard, each a table of its own, in their order."""

    PAPER = 0
    OTHER = 1
    DEMO = 2


PART_TITLES = {
    Part.PAPER: "Benchmarks of the LLaVA-1.5 paper",
    Part.OTHER: "Other splits, metrics and questions",
    Part.DEMO: "Generated demo data: no published benchmark",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One figure of one split of a benchmark.

    Attributes:
        task: The task's name.
        split: The split's name.
        metric: The metric's key in `summary.json`.
        definition: The rule that the figure is by, where it is another one than is usual here.
            Figures by different rules never stand in one column.
        scale: What the figure is counted in.
    """

    task: str
    split: str
    metric: str
    definition: str = ""
    # Not compared: summaries of earlier versions may say another scale of the same figure.
    scale: Scale = field(default=SHARE, compare=False)

    @property
    def key(self) -> str:
        """The column's name for machines."""
        return f"{self.task}/{self.split}/{self.metric}{self._suffix}"

    @property
    def _suffix(self) -> str:
        return f" ({self.definition})" if self.definition else ""

    @property
    def part(self) -> Part:
        """Which table the column stands in."""
        if self.split == "demo":
            return Part.DEMO
        return Part.PAPER if self in PAPER_TITLES else Part.OTHER

    @property
    def title(self) -> str:
        """The column's head, as in the paper where it has the column."""
        unknown = f"{self.task} {self.metric if self.part is Part.DEMO else self.split}"
        usual = replace(self, definition="")
        return (PAPER_TITLES.get(usual) or OTHER_TITLES.get(usual) or unknown) + self._suffix

    def render(self, value: float) -> str:
        """Returns a value as it is printed: percent, or points.

        >>> Column(task="gqa", split="testdev_balanced", metric="accuracy").render(0.62)
        '62.0'
        """
        return f"{self.scale.in_print(value):.{_NUM_DIGITS}f}"

    def render_difference(self, difference: float) -> str:
        """Returns a difference of two values with its sign, in percentage points or points."""
        return render_signed(self.scale.in_print(difference), _NUM_DIGITS)


def known_column(task: str, split: str, metric: str, definition: str = "") -> Column:
    """Returns the column of a figure whose scale no summary says."""
    scale = known_scale(task, metric)
    return Column(task=task, split=split, metric=metric, definition=definition, scale=scale)


PAPER_TITLES = {
    known_column("vqav2", "test-dev2015", "vqa_accuracy"): "VQAv2",
    known_column("gqa", "testdev_balanced", "accuracy"): "GQA",
    known_column("vizwiz", "test", "vqa_accuracy"): "VizWiz",
    known_column("scienceqa", "test", "accuracy_image"): "SQA-I",
    known_column("textvqa", "val", "vqa_accuracy"): "TextVQA",
    known_column("pope", "coco", "f1"): "POPE",
    known_column("mme", "release", "perception"): "MME",
    known_column("mmbench", "dev_20230712", "accuracy"): "MMB",
    known_column("mmbench_cn", "dev_cn_20231003", "accuracy"): "MMB-CN",
    known_column("seedbench", "v1", "accuracy"): "SEED",
    known_column("llavabench", "wild", "score"): "LLaVA-W",
    known_column("mmvet", "v1", "score"): "MM-Vet",
}
"""The columns of the paper's table, in its order."""

OTHER_TITLES = {
    known_column("scienceqa", "test", "accuracy"): "SQA",
    known_column("mme", "release", "cognition"): "MME-C",
    known_column("mmbench", "dev_20230712", "accuracy_first_pass"): "MMB 1st pass",
    known_column("seedbench", "v1", "accuracy_image"): "SEED-I",
    known_column("ai2d", "test", "accuracy"): "AI2D",
    known_column("ai2d", "test_no_mask", "accuracy"): "AI2D no mask",
    known_column("chartqa", "test", "relaxed_accuracy"): "ChartQA",
    known_column("docvqa", "val", "anls"): "DocVQA val",
    known_column("docvqa", "test", "anls"): "DocVQA test",
    known_column("infovqa", "val", "anls"): "InfoVQA val",
    known_column("infovqa", "test", "anls"): "InfoVQA test",
    known_column("mmmu", "val", "accuracy"): "MMMU",
    known_column("mmmu", "val", "accuracy_lmms_eval"): "MMMU lmms-eval",
    known_column("mathvista", "testmini", "accuracy"): "MathVista",
    known_column("mmstar", "val", "accuracy"): "MMStar",
    known_column("mmstar", "val", "accuracy_l2_mean"): "MMStar l2",
    known_column("realworldqa", "test", "accuracy"): "RealWorldQA",
    known_column("cvbench", "test", "accuracy_by_source"): "CV-Bench",
    known_column("okvqa", "val", "vqa_accuracy"): "OK-VQA",
    known_column("okvqa", "val", "vqa_accuracy_m4c"): "OK-VQA M4C",
    **{
        known_column("hallusionbench", split, metric): f"HallB {split} {metric}"
        for split in ("image", "all")
        for metric in ("aAcc", "fAcc", "qAcc", "easy", "hard")
    },
}
"""Further figures that are published for models of the family."""

_DEMO_ORDER = ("vqav2", "gqa", "scienceqa")


def in_order(columns: Iterable[Column]) -> list[Column]:
    """Returns the columns in the order of the table: the paper's, then further ones by name."""
    known = [*PAPER_TITLES, *OTHER_TITLES]
    tasks = [*_DEMO_ORDER, *(column.task for column in known)]

    # Columns outside of the table stand beside those of their benchmark.
    def place(column: Column) -> tuple[int, int, int, str]:
        usual = replace(column, definition="")
        in_table = known.index(usual) if usual in known else len(known)
        task = tasks.index(column.task) if column.task in tasks else len(tasks)
        return column.part, in_table, task, column.key

    return sorted(columns, key=place)


def columns_of(task: str, split: str, primary_metric: str) -> list[Column]:
    """Returns the columns that a task of a run has figures for.

    >>> [column.title for column in columns_of("mme", "release", "perception")]
    ['MME', 'MME-C']
    """
    known = [c for c in (*PAPER_TITLES, *OTHER_TITLES) if (c.task, c.split) == (task, split)]
    primary = Column(task=task, split=split, metric=primary_metric)
    return known if primary in known else [*known, primary]
