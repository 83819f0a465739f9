"""What would be computed on a GPU for real question files: padding, packs, predicted time.

    python -m tests.benchmarks.plans FILE ... [--output FILE]

The files are LLaVA's question files (JSONL, also .gz); VQAv2 and ScienceQA are there in shape, with
2,000 images. Nothing is computed: the packs that workers would plan are counted, see
`runners.bench roofline=`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from runners.lab.bench.predicting import predict_tasks
from runners.options.bench import BenchConfig


def main() -> None:
    """Prints the figures of each file and writes them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--device", default="h200")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    settings = BenchConfig(roofline=options.device, model="random-7b", dtype="bfloat16")
    shapes = replace(settings, workload=["vqav2", "scienceqa"], num_images=2000)
    results = []
    for one in [*(replace(settings, questions=str(path)) for path in options.files), shapes]:
        results += predict_tasks(one)["results"]
        print(json.dumps(results[-1]))
    report = {"roofline": options.device, "results": results}
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
