"""The typed schema of `runners.score`, and of the judge that it may ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runners.options.benchmark_options import BenchmarksConfig
from runners.options.checks import check_fields, check_positive
from runners.options.kinds import Kind, name_option, of_kind, option, path_option
from runners.options.names import is_name

JUDGES = ("none", "openai")


@dataclass(kw_only=True, slots=True)
class JudgeOptions:
    """Which judge model grades the answers of the judged benchmarks.

    Attributes:
        name: `none`, or `openai` for an endpoint that speaks OpenAI's chat completions.
        model: The model's name there; null for the one that the benchmark's figures are by.
        base_url: The endpoint; null for `$OPENAI_BASE_URL`, or OpenAI's own.
        api_key_env: The environment variable that holds the endpoint's key.
        num_runs: How often each answer is graded; the score is the mean.
        max_cost: US dollars that may be spent; null for no limit.
        price: US dollars per million tokens, [asked, replied]; null takes it from `prices`.
        prices: The known ones by model.
        requests_per_minute: Calls a minute at most.
        num_workers: Calls at a time.
        max_retries: Further attempts at a call that failed in passing.
        backoff_s: The wait before the first of them; it doubles.
        timeout_s: How long a call may take, from its beginning to the last byte of the reply.
        retry_failed: Ask again where the judge gave no text about an answer, or no grade that can
            be read. Otherwise that is final.
    """

    name: str = option("none", choices=JUDGES)
    model: str | None = name_option(None)
    base_url: str | None = name_option(None)
    api_key_env: str = "OPENAI_API_KEY"
    num_runs: int = option(1, least=1)
    max_cost: float | None = option(None, least=0)
    price: Any = option(None, allowed="[asked,replied], or null")
    prices: dict[str, Any] = field(default_factory=dict)
    requests_per_minute: float = option(120.0, allowed="number above 0")
    num_workers: int = option(4, least=1)
    max_retries: int = option(6, least=0)
    backoff_s: float = option(1.0, least=0)
    timeout_s: float = option(120.0, allowed="number above 0")
    retry_failed: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "judge.")
        for name in ("requests_per_minute", "timeout_s"):
            check_positive(f"judge.{name}", getattr(self, name))
        prices = {f"judge.prices.{model}": price for model, price in self.prices.items()}
        if self.price is not None:
            prices["judge.price"] = self.price
        for name, price in prices.items():
            is_pair = isinstance(price, list) and len(price) == 2
            if not is_pair or not all(isinstance(p, (int, float)) and p >= 0 for p in price):
                raise ValueError(f"`{name}` must be [asked, replied], but is {price}.")


@dataclass(kw_only=True, slots=True)
class ScoreConfig(BenchmarksConfig):
    """Options of `runners.score`.

    Attributes:
        tasks: The benchmarks that are scored; one for an answer file, null for all of a run.
        judge: Which judge grades the judged benchmarks.
        predictions: An answer file in LLaVA's JSONL; null scores a stored run.
        run: The stored run whose answers are scored again, or that is made of the answer file.
        results_dir: Where runs are kept.
        output: Where the results go, in a folder named after the task; null for the run's folder.
        merge: The runs that are parts of `run`, or how many shards of it there are; null for none.
        overwrite: Set a run that is there aside, and import the answer file or join the parts anew.
    """

    judge: JudgeOptions = field(default_factory=JudgeOptions)
    predictions: str | None = path_option(None)
    run: str | None = name_option(None)
    results_dir: str = path_option("results")
    output: str | None = path_option(None)
    merge: Any = field(default=None, metadata=of_kind(Kind.PARTS))
    overwrite: bool = False

    def __post_init__(self) -> None:
        merge = self.merge
        is_number = isinstance(merge, int) and not isinstance(merge, bool) and merge >= 1
        is_list = isinstance(merge, list) and bool(merge) and all(map(is_name, merge))
        if merge is not None and not is_number and not is_list:
            raise ValueError(
                "`merge` must be a list of runs such as [A-shard-1-of-2,A-shard-2-of-2], or the "
                f"number of shards, but is {merge!r}."
            )
