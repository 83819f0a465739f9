"""Samples are distributed as the softmax, and the request's key alone decides them."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest
from transformers import TopPLogitsWarper

from llava.generation.neartie import top_two
from llava.generation.request import GenerationConfig
from llava.generation.sampling import SeededSampling, gumbel_noise, sampled

LOGITS = torch.tensor([[2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0]])
PROMPT = torch.zeros(1, 0, dtype=torch.long)
NUM_SAMPLES = 5000


def samples(num_samples=NUM_SAMPLES, logits=LOGITS, **options):
    """How often each token was drawn, a request each."""
    generation = GenerationConfig(**{"temperature": 1.0, "seed": 7, **options})
    tokens = [
        int(SeededSampling(f"question {i}", generation)(PROMPT, logits).argmax())
        for i in range(num_samples)
    ]
    return np.bincount(tokens, minlength=logits.shape[1])


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax(temperature):
    counts = samples(temperature=temperature)
    expected = (LOGITS[0].double() / temperature).softmax(-1).numpy() * NUM_SAMPLES
    assert chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 0.01


def test_samples_of_the_steps_of_an_answer_follow_the_softmax():
    sampling = SeededSampling("question", GenerationConfig(temperature=1.0))
    tokens = [int(sampling(PROMPT, LOGITS).argmax()) for _ in range(NUM_SAMPLES)]
    counts = np.bincount(tokens, minlength=LOGITS.shape[1])
    expected = LOGITS[0].double().softmax(-1).numpy() * NUM_SAMPLES
    assert chisquare(counts, expected).pvalue > 0.01
    lag = np.corrcoef(tokens[:-1], tokens[1:])[0, 1]
    assert abs(lag) < 0.05


def test_another_distribution_would_show():
    counts = samples(temperature=1.0)
    other = (LOGITS[0].double() / 1.2).softmax(-1).numpy() * NUM_SAMPLES
    assert chisquare(counts, other).pvalue < 1e-6


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    ("top_p", "kept"),
    # the softmax is .41 .25 .15 .09 .06 .03 .02; the token that passes the mass is kept
    [(0.3, 1), (0.5, 2), (0.7, 3), (0.85, 4), (1.0, 7), (None, 7)],
)
def test_nucleus_keeps_the_fewest_tokens_of_that_mass(top_p, kept):
    counts = samples(top_p=top_p)
    expected = LOGITS[0, :kept].double().softmax(-1).numpy() * NUM_SAMPLES
    assert counts[kept:].sum() == 0
    assert kept == 1 or chisquare(counts[:kept], expected).pvalue > 0.01


def draw(logits, top_p, temperature=0.5):
    generation = GenerationConfig(temperature=temperature, top_p=top_p)
    return sampled(logits, [SeededSampling(str(i), generation) for i in range(len(logits))])


def logits_with_ties(num_rows=300, size=40):
    logits = 2 * torch.randn(num_rows, size, generator=torch.Generator().manual_seed(2))
    logits[::2] = (4 * logits[::2]).round() / 4  # as those of a short format
    return logits


@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9, 0.999])
def test_nucleus_draws_what_transformers_cut_leaves(top_p):
    logits = logits_with_ties()
    noise = torch.stack([gumbel_noise(0, str(i), 0, logits.shape[1]) for i in range(len(logits))])
    expected = TopPLogitsWarper(top_p)(PROMPT, logits / 0.5) + noise
    scores = draw(logits, top_p)
    assert torch.equal(scores.argmax(-1), expected.argmax(-1))
    assert torch.equal(scores[expected.isfinite()], expected[expected.isfinite()])


@pytest.mark.parametrize("top_p", [0.3, 0.5, 0.9, None])
def test_logits_that_move_by_less_than_the_margin_draw_the_same(top_p):
    logits = logits_with_ties()
    tokens, _, margins = top_two(draw(logits, top_p))
    reach = 0.5 * (torch.tensor(margins)[:, None] - 1e-4).clamp(min=0, max=4)
    for seed in range(10):
        moves = torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed)) - 0.5
        moves[:, ::2] = moves[:, ::2].sign() / 2  # some as far as can be
        assert top_two(draw(logits + reach * moves, top_p))[0] == tokens


def test_margin_tells_how_near_the_edge_of_the_nucleus_is():
    # of masses .6 .3 .1, the third token is out by the log-odds of .9 over those of .89
    scores = draw(torch.tensor([[0.6, 0.3, 0.1]]).log().expand(200, -1), 0.89, temperature=1.0)
    tokens, _, margins = map(torch.tensor, top_two(scores))
    assert tokens.max() == 1
    shift = torch.tensor(0.9).logit() - torch.tensor(0.89).logit()
    assert margins.min() < shift
    assert (margins - shift).abs().min() < 1e-6  # where the noise of the third is larger


def test_tokens_that_are_ruled_out_stay_so():
    scores = draw(torch.tensor([[1.0, -torch.inf, 0.5, -torch.inf]]), 0.6)
    assert int(scores.argmax()) == 0
    assert not scores.isnan().any()


def test_nearly_no_temperature_is_greedy():
    assert samples(200, temperature=1e-4).tolist() == [200, 0, 0, 0, 0, 0, 0]


def test_noise_follows_the_gumbel_distribution():
    noise = gumbel_noise(0, "question", 0, 20000)
    assert noise.dtype == torch.float32
    assert noise.isfinite().all()
    assert kstest(noise.numpy(), "gumbel_r").pvalue > 0.01


@pytest.mark.parametrize(
    "other",
    [(1, "a", 0), (0, "b", 0), (0, "a", 1), (0, "a\0", 0), (0, "", 0)],
    ids=["seed", "key", "step", "longer key", "no key"],
)
def test_noise_is_decided_by_seed_key_and_step(other):
    noise = gumbel_noise(0, "a", 0, 50)
    torch.manual_seed(123)
    assert torch.equal(gumbel_noise(0, "a", 0, 50), noise)
    assert not torch.equal(gumbel_noise(*other, 50), noise)


def test_drawing_leaves_torchs_own_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    gumbel_noise(0, "a", 0, 10)
    assert torch.equal(torch.rand(3), expected)


def test_scores_of_half_precision_are_sampled_in_full():
    generation = GenerationConfig(temperature=1.0)
    scores = SeededSampling("a", generation)(PROMPT, LOGITS.half())
    assert scores.dtype == torch.float32
    assert torch.equal(scores, SeededSampling("a", generation)(PROMPT, LOGITS))


def test_questions_side_by_side_draw_what_each_draws_alone():
    torch.manual_seed(0)
    steps = 4 * torch.randn(3, 6, 901)  # no multiple of what a processor takes at once
    generations = [
        GenerationConfig(temperature=0.7, top_p=0.9, seed=3),
        None,
        GenerationConfig(temperature=0.7, top_p=0.9, seed=4),
        GenerationConfig(temperature=1.3),
        GenerationConfig(temperature=1.3, top_p=1.0),
        None,
    ]

    def samplings():
        return [
            None if generation is None else SeededSampling(f"question {i}", generation)
            for i, generation in enumerate(generations)
        ]

    together, alone = samplings(), samplings()
    for scores in steps:
        before = scores.clone()
        rows = sampled(scores, together)
        assert torch.equal(scores, before)
        for row, sampling, own in zip(rows, alone, scores, strict=True):
            assert torch.equal(row, own if sampling is None else sampling(PROMPT, own[None])[0])


def test_questions_of_one_temperature_draw_what_each_draws_alone():
    scores = torch.randn(4, 901, generator=torch.Generator().manual_seed(1))
    generation = GenerationConfig(temperature=0.2, top_p=0.8)
    rows = sampled(scores, [SeededSampling(str(i), generation) for i in range(4)])
    for i, row in enumerate(rows):
        assert torch.equal(row, SeededSampling(str(i), generation)(PROMPT, scores[i : i + 1])[0])


def test_rows_without_a_sampling_are_refused():
    sampling = SeededSampling("a", GenerationConfig(temperature=1.0))
    with pytest.raises(ValueError, match="one for each of 3 rows, but are 1"):
        sampling(PROMPT, LOGITS.expand(3, -1))


def test_draws_are_those_of_earlier_versions():
    noise = gumbel_noise(7, "question", 2, 4)
    assert noise.tolist() == pytest.approx([0.784039, -0.560257, -1.604092, -0.073527], abs=1e-6)
