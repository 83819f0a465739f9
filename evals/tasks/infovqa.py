r"""InfographicVQA: questions about infographics (Mathew et al., arXiv:2104.12756).

Files, in `data_dir`: `infographicsVQA_val_v1.0_withQT.json` or `infographicsVQA_test_v1.0.json`,
images in `images/`; or the tables `InfographicVQA/validation-*.parquet` and
`InfographicVQA/test-*.parquet` of `lmms-lab/DocVQA`.

One question: `{"questionId": 337, "question": "Which share is female?", "image_local_name":
"30000.jpeg", "image_url": "https://...", "answers": ["65%"], "answer_type": ["image span"],
"evidence": ["table/list"], "operation/reasoning": [], ...}`, in the table without the image's name
and evidence; the prompt: the question and a line that asks for a single word or phrase.

Metric: ANLS, the similarity to the nearest answer by edits, 0 below a half; also by type of answer,
evidence and operation, where a question counts in each of its labels. Official code:
`infographicsvqa_eval.py` of rrc.cvc.uab.es as in QwenLM/Qwen-VL @ aa00ed04. Test is scored by the
server.

Known deviations: a missing answer scores 0 and is counted, where the official script stops.

Published: LLaVA-OneVision-0.5B 46.3, 72B-SI 77.7 (val or test is not stated).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark, Upload, each, rebuildable
from evals.errors import check_choice
from evals.figures.metrics import mean_figures_by_label
from evals.reading.documents import SERVER, document_entries, parse_document, render_upload
from evals.reading.entries import files_of
from evals.reading.files import require
from evals.reading.hub import HubLocation, find_table, releases_here
from evals.reading.questions import SHORT_ANSWER_SUFFIX
from evals.reading.releases import Release
from evals.scorers.anls import judge_anls

ORIGIN = f"{SERVER} (task 3)"
_FILES = {
    "val": "infographicsVQA_val_v1.0_withQT.json",
    "test": "infographicsVQA_test_v1.0.json",
}
_IMAGES = "images"
_HUB_SPLITS = {"val": "validation", "test": "test"}
RELEASES: Mapping[str, Release] = {
    "val": Release(num_questions=2_801, files={_FILES["val"]: ORIGIN, _IMAGES: ORIGIN}),
    "test": Release(num_questions=3_288, files={_FILES["test"]: ORIGIN, _IMAGES: ORIGIN}),
}
_FIELDS = ("answer_type", "evidence", "operation/reasoning")


@rebuildable
def InfoVQA(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "val",
    max_new_tokens: int = 32,
    prompt_suffix: str = SHORT_ANSWER_SUFFIX,
) -> Benchmark:
    """InfographicVQA on `val` or `test`."""
    check_choice("`split` of infovqa", split, RELEASES)
    folder, has_answers = Path(data_dir), split == "val"
    path = folder / _FILES[split]
    location = HubLocation(
        repo="lmms-lab/DocVQA", config="InfographicVQA", split=_HUB_SPLITS[split]
    )
    table = find_table("infovqa", source, location, folder, [path])
    return Benchmark(
        name="infovqa",
        split=split,
        hub=location,
        definition="anls/1",
        primary_metric="anls",
        max_new_tokens=max_new_tokens,
        data_files=files_of(table, path),
        read=lambda: [
            parse_document(entry, _image_name, _FIELDS, has_answers=has_answers)
            for entry in document_entries(table, path, location.serves_for(ORIGIN))
        ],
        judge=each(judge_anls) if has_answers else None,
        figures=partial(mean_figures_by_label, metric="anls", fields=_FIELDS),
        upload=None if has_answers else Upload(suffix=".json", server=SERVER, render=render_upload),
        releases=releases_here(RELEASES, table),
        official_suffix=SHORT_ANSWER_SUFFIX,
        prompt_suffix=prompt_suffix,
    )


def _image_name(record: dict[str, Any], place: str) -> str:
    """The name in the official files; the table tells images by their addresses."""
    if "image_local_name" in record:
        return f"{_IMAGES}/{require(record, 'image_local_name', str, place)}"
    return require(record, "image_url", str, place)
