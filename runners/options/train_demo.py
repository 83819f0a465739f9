"""The typed schema of `runners.train_demo`."""

from __future__ import annotations

from dataclasses import dataclass

from runners.options.checks import check_choice
from runners.options.kinds import path_option

FORMS = ("llava-1.5", "onevision")


@dataclass(kw_only=True, slots=True)
class TrainDemoConfig:
    """Options of `runners.train_demo`.

    Attributes:
        output: Folder for what is trained.
        form: In whose format: `llava-1.5` (`llava-demo`) or `onevision` (`llava-demo-next`).
        seed: Seed of the initial weights.
        num_tower_images: Pictures for the vision tower.
        num_tower_steps: Steps of the vision tower.
        num_steps: Steps of projector and language model.
        early_step: The step of `llava-demo-early`, which `onevision` has none of.
        trial_every: Steps between the trials whose accuracies are logged.
        num_images: Size of the held-out data for the table at the end, see `ensure_demo_data`.
    """

    output: str = path_option("results/train_demo")
    form: str = "llava-1.5"
    seed: int = 0
    num_tower_images: int = 12000
    num_tower_steps: int = 1500
    num_steps: int = 4500
    early_step: int = 800
    trial_every: int = 200
    num_images: int = 24

    def __post_init__(self) -> None:
        check_choice("form", self.form, FORMS)
        if self.form == "llava-1.5" and not 1 <= self.early_step <= self.num_steps:
            raise ValueError(
                f"`early_step` must be 1 to num_steps ({self.num_steps}), but is {self.early_step}."
            )
