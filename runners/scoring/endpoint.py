"""A judge model behind an endpoint that speaks OpenAI's chat completions: one reply at a time.

A call that fails in passing (429, 5xx, no connection, a reply that is none) is repeated after a
wait that doubles; one that the endpoint refuses is not. All calls together keep to a rate and to a
budget.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import Any

from evals.reading.replies import JudgeRequest
from runners.errors import ConfigError
from runners.options.score import JudgeOptions

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S = 60.0
_BYTES_PER_TOKEN = 4  # of English; the model's own tokenizer is not at hand
_TOKENS_PER_MESSAGE = 4
_PASSING_STATUS = frozenset([408, 409, 425, 429])


class JudgeError(OSError):
    """The judge gave no reply; those that it gave before are stored."""


class _PassingError(Exception):
    """A call failed in a way that may be over at the next attempt.

    Attributes:
        wait_s: How long the endpoint asks to wait.
    """

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs, in US dollars per million tokens."""

    asked: float
    replied: float

    def of(self, num_prompt_tokens: int, num_new_tokens: int) -> float:
        """The cost of so many tokens.

        >>> Price(asked=30, replied=60).of(1_000, 500)
        0.06
        """
        return (self.asked * num_prompt_tokens + self.replied * num_new_tokens) / 1e6


def estimate_prompt_tokens(request: JudgeRequest) -> int:
    """About how many tokens a request has: one for four bytes, and some for each message."""
    texts = [text for text in (request.system, request.prompt) if text]
    num_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts)
    return math.ceil(num_bytes / _BYTES_PER_TOKEN) + _TOKENS_PER_MESSAGE * len(texts)


class Budget:
    """Money that calls may cost together; safe to share between threads.

    Args:
        price: What the model costs; None if that is not known, which counts nothing.
        max_cost: US dollars that may be spent; None for no limit.
    """

    def __init__(self, price: Price | None, max_cost: float | None) -> None:
        self._price = price
        self._max_cost = max_cost
        self._lock = threading.Lock()
        self._reserved = 0.0
        self.num_calls = 0
        self.spent = 0.0

    def reserve(self, request: JudgeRequest) -> float:
        """Sets aside what a call may cost at most, and returns it.

        Raises:
            JudgeError: it would be more than is left.
        """
        cost = 0.0
        if self._price is not None:
            cost = self._price.of(estimate_prompt_tokens(request), request.max_tokens)
        with self._lock:
            total = self.spent + self._reserved + cost
            if self._max_cost is not None and total > self._max_cost:
                raise JudgeError(
                    f"The next call could bring the cost to ${total:.4f}, more than judge.max_cost="
                    f"{self._max_cost:g}; ${self.spent:.4f} is spent. The replies so far are "
                    "stored: the same command with a larger judge.max_cost goes on from there."
                )
            self._reserved += cost
        return cost

    def settle(self, reserved: float, usage: tuple[int, int] | None) -> None:
        """Counts what a call has cost in the place of what was set aside for it.

        Args:
            reserved: What `reserve` returned.
            usage: Tokens asked and replied as the endpoint counts them; None if it does not, which
                counts what was set aside.
        """
        cost = reserved
        if usage is not None and self._price is not None:
            cost = self._price.of(*usage)
        with self._lock:
            self._reserved -= reserved
            self.spent += cost
            self.num_calls += 1

    def release(self, reserved: float) -> None:
        """Gives back what was set aside for a call that got no reply."""
        with self._lock:
            self._reserved -= reserved


class OpenAIJudge:
    """A judge behind an endpoint; safe to share between threads.

    Args:
        model: The model's name at the endpoint.
        base_url: The endpoint's address.
        api_key: Its key; a text that is no key where the endpoint needs none.
        options: How it is asked.
        budget: What it may cost.

    Raises:
        ConfigError: the package `openai` is not installed.
    """

    def __init__(
        self, model: str, base_url: str, api_key: str, options: JudgeOptions, budget: Budget
    ) -> None:
        try:
            import openai
        except ModuleNotFoundError as error:
            raise ConfigError(
                "judge=openai needs the package openai. Install it with `pip install openai`, or "
                "with the extra `judge` of this package."
            ) from error
        self.model = model
        self._base_url = base_url
        self._options = options
        self._budget = budget
        self._openai = openai
        self._client: Any = openai.OpenAI(
            api_key=api_key,
            base_url=base_url,
            timeout=options.timeout_s,
            max_retries=0,  # repeated here, so that the rate counts every attempt
        )
        self._stopped = threading.Event()
        self._turns = threading.Lock()
        self._next_turn_s = 0.0

    def reply(self, request: JudgeRequest) -> str:
        """The text of the model's reply.

        Raises:
            JudgeError: the endpoint refused, gave none in all attempts, or the budget is spent.
        """
        max_retries = self._options.max_retries
        for attempt in range(1 + max_retries):
            self._wait_for_turn()
            if self._stopped.is_set():
                raise JudgeError(
                    "Asking the judge was stopped. The same command goes on from there."
                )
            try:
                return self._call(request)
            except _PassingError as error:
                failure = error
            if attempt < max_retries:
                wait_s = max(self._options.backoff_s * 2**attempt, failure.wait_s)
                wait_s = min(wait_s, _LONGEST_WAIT_S)
                logger.info("judge: %s; next attempt in %.1f s", failure, wait_s)
                self._stopped.wait(wait_s)
        raise JudgeError(
            f"{self._base_url} gave no reply in {1 + max_retries} attempts: {failure}. The replies "
            "so far are stored; the same command goes on from there."
        )

    def _wait_for_turn(self) -> None:
        """Lets threads through one after another, as often as the rate allows."""
        with self._turns:
            now_s = time.monotonic()
            turn_s = max(now_s, self._next_turn_s)
            self._next_turn_s = turn_s + 60.0 / self._options.requests_per_minute
        self._stopped.wait(turn_s - now_s)  # ends at once when asking is stopped

    def stop(self) -> None:
        """Ends all waits: calls in flight end, and no further one begins."""
        self._stopped.set()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _call(self, request: JudgeRequest) -> str:
        reserved = self._budget.reserve(request)
        try:
            response = self._complete(request)
        except (_PassingError, JudgeError):
            self._budget.release(reserved)  # no reply, no charge
            raise
        self._budget.settle(reserved, _read_usage(response))  # a malformed reply costs too
        return _read_text(response)

    def _complete(self, request: JudgeRequest) -> Any:
        messages = [{"role": "user", "content": request.prompt}]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        try:
            return self._client.chat.completions.create(
                model=self.model,
                messages=messages,
                temperature=request.temperature,
                max_tokens=request.max_tokens,
            )
        except self._openai.APIStatusError as error:
            if _is_passing(error):
                raise _PassingError(str(error), _read_wait_s(error)) from error
            raise JudgeError(
                f"{self._base_url} refuses to judge with {self.model}: {error}. Check "
                "judge.model, judge.base_url and the key; the replies so far are stored."
            ) from error
        except self._openai.APIConnectionError as error:
            cause = f": {error.__cause__}" if error.__cause__ else ""
            raise _PassingError(f"{error}{cause}") from error
        except (self._openai.APIError, ValueError) as error:
            raise _PassingError(f"the reply is malformed: {error}") from error


def _is_passing(error: Any) -> bool:
    if error.code == "insufficient_quota":  # a 429 that no waiting mends
        return False
    return error.status_code >= 500 or error.status_code in _PASSING_STATUS


def _read_wait_s(error: Any) -> float:
    try:
        wait_s = float(error.response.headers.get("retry-after", 0))
    except ValueError:  # a date, which the doubling wait stands in for
        return 0.0
    return wait_s if math.isfinite(wait_s) else 0.0


def _read_text(response: Any) -> str:
    try:
        text = response.choices[0].message.content
    except (AttributeError, IndexError, TypeError):  # whatever an endpoint takes for a completion
        text = None
    if not isinstance(text, str):
        raise _PassingError(f"the reply is malformed, it holds no text: {str(response)[:200]}")
    return text


def _read_usage(response: Any) -> tuple[int, int] | None:
    usage = getattr(response, "usage", None)
    asked, replied = (getattr(usage, f"{kind}_tokens", None) for kind in ("prompt", "completion"))
    if isinstance(asked, int) and isinstance(replied, int):
        return asked, replied
    return None
