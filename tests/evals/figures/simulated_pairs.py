"""Two models on the same questions, simulated: what is true of them is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ACCURACY = 0.62


@dataclass(frozen=True)
class Design:
    """A benchmark of questions about images, and how two models differ on it.

    Attributes:
        num_questions: Questions.
        num_images: Images; as many as questions means one each.
        disagreement: Share of the questions that the models answer differently.
        loss: What a lost question loses; 1 for right and wrong, less for partial credit.
        tilt: How far an image pulls its disagreements to one side: 0 for independent questions.
    """

    num_questions: int
    num_images: int
    disagreement: float = 0.09
    loss: tuple[float, ...] = (1.0,)
    tilt: float = 0.0

    def images(self, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """The image of each question, as unevenly spread as in real benchmarks."""
        if self.num_images == self.num_questions:
            return np.arange(self.num_questions)
        weights = generator.gamma(8.0, size=self.num_images)
        rest = self.num_questions - self.num_images
        drawn = generator.choice(self.num_images, rest, p=weights / weights.sum())
        return np.sort(np.concatenate([np.arange(self.num_images), drawn]))

    def draw(
        self,
        images: npt.NDArray[np.int64],
        generator: np.random.Generator,
        drop: float = 0.0,
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The scores of baseline and candidate, of which the candidate is worse by `drop`.

        Images differ in how many answers change and to which side, both sides alike, so that
        without a drop the two models may be exchanged image by image.
        """
        rates = generator.gamma(4.0, self.disagreement / 4.0, self.num_images).clip(max=0.9)
        sides = generator.choice([-self.tilt, self.tilt], self.num_images)
        loss = generator.choice(self.loss, self.num_questions)
        to_lose = rates * (1 + sides) / 2
        to_gain = rates * (1 - sides) / 2
        uniform = generator.random(self.num_questions)
        lost = uniform < to_lose[images]
        gained = (uniform > 1 - to_gain[images]) & ~lost
        baseline = (generator.random(self.num_questions) < ACCURACY).astype(np.float64)
        baseline[lost], baseline[gained] = 1.0, 0.0
        candidate = baseline.copy()
        candidate[lost] -= loss[lost]
        candidate[gained] += loss[gained]
        # A drop of its own: some of the unchanged right answers become wrong, on any image.
        right = ~lost & ~gained & (baseline == 1)
        share = drop / (ACCURACY * (1 - self.disagreement))
        candidate[right & (generator.random(self.num_questions) < share)] = 0.0
        return baseline, candidate


GQA = Design(num_questions=12_578, num_images=398, tilt=0.35)
