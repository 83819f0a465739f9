r"""MME: yes/no questions in pairs, on perception and cognition (Fu et al., arXiv:2306.13394).

Files, in `data_dir`: `MME_Benchmark_release_version/<category>/`, a text file of two lines an
image, flat or in `questions_answers_YN/` beside `images/`; LLaVA's `llava_mme.jsonl` gives prompts,
ids and order where it is there. Mirror: `lmms-lab/MME`.

One line: `Is there a train in the picture? Please answer yes or no.`, a tab, `Yes`; the id is
`<category>[/images]/<image file>`, shared by both questions of an image; the prompt: the question
without its request, and a line that asks for a single word or phrase.

Metric: a category's score is 100 times the share of right answers plus 100 times the share of
images with both answers right; perception and cognition are sums of ten and four categories.
Official code: `eval_tool` in BradyFU/Awesome-Multimodal-Large-Language-Models @ dd295090.

Known deviations: tabs and line breaks in answers, on which the official reader stops, are spaces.
A missing answer is wrong and counted. Pairs are formed by image, not by position.

Published: LLaVA-1.5-7B 1510.7, 13B 1531.3 (perception).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

from evals.benchmark import Benchmark, Questions, each, rebuildable
from evals.errors import DataError
from evals.figures.metrics import group_by
from evals.reading.entries import mirror_entries
from evals.reading.files import find_all, find_optional, visible
from evals.reading.hub import HubLocation, find_mirror
from evals.reading.mme import (
    COGNITION,
    MAX_SCORE,
    PERCEPTION,
    bare_question,
    check_pairs,
    join_prompts,
    one_line,
    pair_figures,
    parse_question,
    question_key,
    read_release,
    sum_scores,
)
from evals.reading.questions import SHORT_ANSWER_SUFFIX
from evals.reading.releases import LLAVA_ORIGIN, Release
from evals.records import Aggregate, Judgment, Sample, Scale, Score, Unit
from evals.scorers.yes_no import parse_mme

ORIGIN = (
    "https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models/tree/Evaluation "
    "(on request from its authors)"
)
RELEASE_DIR = "MME_Benchmark_release_version"
RELEASE = Release(
    num_questions=2_374,
    num_images=1_187,
    files={RELEASE_DIR: ORIGIN, "llava_mme.jsonl": LLAVA_ORIGIN},
)
_TOTALS = {"perception": PERCEPTION, "cognition": COGNITION}
_SCALES = {
    "score": Scale(unit=Unit.POINTS, largest=MAX_SCORE),
    **{
        name: Scale(unit=Unit.POINTS, largest=MAX_SCORE * len(categories))
        for name, categories in _TOTALS.items()
    },
}

_TABLE = HubLocation(repo="lmms-lab/MME", split="test")


@rebuildable
def MME(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    prompt_suffix: str = SHORT_ANSWER_SUFFIX,
    source: str = "files",
    max_new_tokens: int = 128,
) -> Benchmark:
    """MME's release."""
    folder = Path(data_dir)
    release, prompts = folder / RELEASE_DIR, folder / "llava_mme.jsonl"
    mirror = find_mirror("mme", source, _TABLE, folder)

    def data_files() -> list[Path]:
        return [*find_all([prompts]), *visible(release.rglob("*.txt"))]

    def read() -> list[Sample]:
        entries = mirror_entries(mirror) if mirror else read_release(release, ORIGIN)
        samples = [parse_question(entry) for entry in entries]
        if mirror is None and find_optional(prompts):
            samples = join_prompts(samples, prompts, release)
        check_pairs(samples, folder)
        return samples

    return Benchmark(
        name="mme",
        split="release",
        hub=_TABLE,
        definition="mme_official/1",
        primary_metric="perception",
        primary_is_mean=False,
        grouped_metrics=frozenset(["perception", "cognition", "score", "accuracy_plus"]),
        max_new_tokens=max_new_tokens,
        data_files=data_files if mirror is None else mirror.data_files,
        read=read,
        judge=each(_judge),
        figures=_figures,
        releases={"release": RELEASE},
        official_suffix=SHORT_ANSWER_SUFFIX,
        prompt_suffix=prompt_suffix,
        find=partial(_find, suffix=prompt_suffix),
    )


def _find(questions: Questions, answer: Mapping[str, Any], *, suffix: str) -> str:
    """The key of an answer's question, told by id and prompt."""
    question_id, prompt = str(answer["question_id"]), str(answer.get("prompt") or "")
    key = question_key(question_id, prompt.removesuffix(suffix))
    if key not in questions:
        key = question_key(question_id, normalize("NFC", prompt.removesuffix(suffix)))
    if key not in questions:
        raise DataError(
            f"mme has no question {bare_question(prompt)[:200]!r} with the id {question_id!r}. "
            "Score the answers with the task that they were given for; each must carry the prompt "
            "that was asked."
        )
    return key


def _judge(text: str, question: Sample) -> Judgment:
    answer = parse_mme(one_line(text))
    return float(answer == question.target.lower()), answer


def _figures(scores: Sequence[Score]) -> Aggregate:
    """Perception, cognition, and the figures of each category."""
    table = {}
    for category, group in group_by(scores, "category").items():
        images = defaultdict(list)
        for score in group:
            images[score.cluster].append(score.value == 1)
        table[category] = pair_figures(list(images.values()))
    return Aggregate(
        metrics={name: sum_scores(table, kinds) for name, kinds in _TOTALS.items()},
        breakdowns={"category": table},
        num_unparsed=sum(score.answer == "other" for score in scores),
        scales=_SCALES,
    )
