"""Trains a demo checkpoint: a small LLaVA that really answers the demo questions.

`python -m runners.train_demo [output=DIR]` writes `llava-demo`, `llava-demo-early` (the same run,
stopped early) and their common vision tower `clip-demo` in the format of LLaVA-1.5. With
`form=onevision` it writes `llava-demo-next` and its tower `siglip-demo` in that of LLaVA-OneVision.
Then it answers held-out demo questions with what it wrote and prints a table by question kind.
Everything is seeded and the number of steps is fixed, so equal versions of the libraries on equal
processors give equal files. What the committed checkpoints reach, and in what time, stands beside
them in `llava/demo/README.md`.
"""

from __future__ import annotations

import logging
import sys
from functools import partial

from omegaconf import DictConfig

from runners.errors import COMPLETE
from runners.options import program
from runners.options.build import read_settings
from runners.options.train_demo import TrainDemoConfig


def train_demo(config: DictConfig) -> int:
    """Runs one composed configuration and returns the exit code."""
    settings = read_settings(config, TrainDemoConfig)
    from runners.lab.demo.training import train  # torch, which no wrong option has to wait for

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    train(settings)
    return COMPLETE


main = partial(program.main, "train_demo", train_demo)

if __name__ == "__main__":
    main()
