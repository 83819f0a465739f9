"""Measures the report page in Chromium: `python -m tests.browser.measure_report`.

Two runs over 10,000 questions and 2,000 photographs are written, shown on one page, opened and
filtered. Prints the figures as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from runners.options import program
from runners.report import report
from tests.browser.driving import (
    find_chromium,
    launched,
    measure_filters_ms,
    measure_opening_s,
    open_page,
)
from tests.browser.synthetic_runs import write_large_pair

NUM_QUESTIONS, NUM_IMAGES = 10_000, 2_000


def main() -> None:
    executable = find_chromium()
    if executable is None:
        sys.exit("Chromium is not installed.")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_large_pair(Path(), NUM_QUESTIONS, NUM_IMAGES)
        path = Path("page.html")
        code = program.run("report", report, ["runs=[A,B]", f"output={path}"])
        if code:
            sys.exit(code)
        with launched(executable) as browser:
            opening_s = measure_opening_s(browser, path, repeats=5)
            page = browser.new_page(viewport={"width": 1360, "height": 850})
            open_page(page, path, "#questions")
            filters_ms = measure_filters_ms(page)
            version = browser.version
        figures = {
            "chromium": version,
            "num_questions": NUM_QUESTIONS,
            "num_thumbnails": NUM_IMAGES,
            "page_mb": round(path.stat().st_size / 1e6, 1),
            "opening_s": [round(value, 3) for value in opening_s],
            "filters_ms": {name: round(value, 1) for name, value in filters_ms.items()},
        }
        print(json.dumps(figures, indent=2))
        os.chdir("/")


if __name__ == "__main__":
    main()
