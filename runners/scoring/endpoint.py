"""A judge model behind an endpoint that speaks OpenAI's chat completions: one reply at a time.

A call that fails in passing (429, 5xx, no connection, a reply that is none) is repeated after a
wait that doubles. What is refused about one question, or fails in all attempts, is a failure of
that question (`UnansweredError`); what the endpoint would answer to any (no access, no such model,
no money) ends all calls (`JudgeError`). All calls together keep to a rate and to a budget.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import Any

from evals.reading.replies import JudgeRequest
from evals.records import Cause
from runners.errors import ConfigError, JudgeError
from runners.logs import mask_secrets, public_address, secrets_in
from runners.options.score import JudgeOptions

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S = 60.0
_BYTES_PER_TOKEN = 4  # of English; the model's own tokenizer is not at hand
_TOKENS_PER_MESSAGE = 4
_PASSING_STATUS = frozenset([408, 409, 425, 429])
_STATUS_OF_ALL = frozenset([401, 402, 404, 405, 407, 410])
"""What an endpoint says to every call alike: no access, no money, no such model or address."""
_FORBIDDEN = 403
"""No access at all, or a text that a filter in front of the model stops: only others tell which."""
_CODES_OF_ALL = frozenset(
    {
        *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"),
        *("invalid_api_key", "account_deactivated", "model_not_found"),
    }
)
_NO_TEXT = {
    "content_filter": "a content filter held it back",
    "length": "it was cut off before its first word",
}
"""Why replies without text stay without it, by the reason that the endpoint names."""
_SHOWN = 300  # characters of what an endpoint says, in messages
_LONGEST_TOLD = 100_000  # of them that are looked through for secrets
_MAX_TOKENS = 10**9  # of a call; an endpoint that counts more counts nothing


class UnansweredError(OSError):
    """The judge gave no reply about one answer, and may give one about others.

    Attributes:
        cause: Whether it gives none for good (it was asked and said nothing), or gave none so far.
    """

    def __init__(self, message: str, cause: Cause) -> None:
        super().__init__(message)
        self.cause = cause


class _PassingError(Exception):
    """A call failed in a way that may be over at the next attempt.

    Attributes:
        wait_s: How long the endpoint asks to wait.
        cause: What it is where it fails in all attempts.
    """

    def __init__(
        self, message: str, wait_s: float = 0.0, cause: Cause = Cause.JUDGE_SILENT
    ) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.cause = cause


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
        base_url: The endpoint's address, with user and password where it needs them.
        api_key: Its key; a text that is no key where the endpoint needs none.
        options: How it is asked.
        budget: What it may cost.

    Raises:
        ConfigError: the package `openai` is not installed, or `base_url` is no address.
    """

    def __init__(
        self, model: str, base_url: str, api_key: str, options: JudgeOptions, budget: Budget
    ) -> None:
        self.model = model
        self._base_url = public_address(base_url)
        self._secrets = [api_key, *secrets_in(base_url)]
        try:
            import openai

            from runners.scoring.connection import Connection
        except ModuleNotFoundError as error:
            raise ConfigError(
                "judge=openai needs the package openai. Install it with `pip install openai`, or "
                "with the extra `judge` of this package."
            ) from error
        try:
            self._connection = Connection(base_url, api_key, options.timeout_s)
        except ValueError as error:
            raise ConfigError(
                f"`judge.base_url` must be an http(s) address, but is {self._base_url!r}: "
                f"{self._public(error)}. Mend it, or the variable OPENAI_BASE_URL."
            ) from error
        self._options = options
        self._budget = budget
        self._openai = openai
        self._stopped = threading.Event()
        self._turns = threading.Lock()
        self._next_turn_s = 0.0

    def reply(self, request: JudgeRequest) -> str:
        """The text of the model's reply.

        Raises:
            JudgeError: the endpoint takes no calls, asking was stopped, or the budget is spent.
            UnansweredError: it refused this one, or gave no reply in all attempts.
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
        attempts = f"{1 + max_retries} attempts" if max_retries else "its only attempt"
        raise UnansweredError(
            f"{self._base_url} gave no reply in {attempts}: {failure}", failure.cause
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
        self._connection.close()

    def _public(self, error: BaseException) -> str:
        """The beginning of what an error says, without the key and the password."""
        told = mask_secrets(str(error)[:_LONGEST_TOLD], self._secrets)
        return told[:_SHOWN] + ("..." if len(told) > _SHOWN else "")

    def _call(self, request: JudgeRequest) -> str:
        reserved = self._budget.reserve(request)
        try:
            response = self._complete(request)
        except (_PassingError, JudgeError, UnansweredError):
            self._budget.release(reserved)  # no reply, no charge
            raise
        self._budget.settle(reserved, _read_usage(response))  # a malformed reply costs too
        try:
            return _read_text(response)
        except (_PassingError, UnansweredError) as error:
            error.args = (self._public(error),)  # an endpoint may say again what it was sent
            raise

    def _complete(self, request: JudgeRequest) -> Any:
        messages = [{"role": "user", "content": request.prompt}]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        try:
            request.prompt.encode()
        except UnicodeEncodeError as error:
            told = f"the question or the answer is no Unicode text: {self._public(error)}"
            raise UnansweredError(told, Cause.JUDGE_REFUSED) from error
        try:
            return self._connection.complete(
                model=self.model,
                messages=messages,
                temperature=request.temperature,
                max_tokens=request.max_tokens,
            )
        except self._openai.APIStatusError as error:
            if _is_passing(error):
                raise _PassingError(self._public(error), _read_wait_s(error)) from error
            if _is_about_one(error):
                raise UnansweredError(self._public(error), Cause.JUDGE_REFUSED) from error
            refused = (
                f"{self._base_url} refuses to judge with {self.model}: {self._public(error)}. "
                "Check judge.model, judge.base_url and the key"
            )
            if error.status_code == _FORBIDDEN:  # several in a row are about all, see `_run_calls`
                raise UnansweredError(refused, Cause.JUDGE_SILENT) from error
            raise JudgeError(f"{refused}; the replies so far are stored.") from error
        except self._openai.APIConnectionError as error:
            cause = f": {self._public(error.__cause__)}" if error.__cause__ else ""
            raise _PassingError(f"{self._public(error)}{cause}") from error
        except TimeoutError as error:
            raise _PassingError(f"{error} (judge.timeout_s)") from error
        except (self._openai.APIError, OSError, ValueError, RecursionError) as error:
            raise _PassingError(f"the reply is malformed: {self._public(error)}") from error


def _is_passing(error: Any) -> bool:
    if error.code in _CODES_OF_ALL:  # such as a 429 that no waiting mends
        return False
    return error.status_code >= 500 or error.status_code in _PASSING_STATUS


def _is_about_one(error: Any) -> bool:
    """Whether an endpoint that refuses a call may take another: it is about what was asked."""
    about_all = _STATUS_OF_ALL | {_FORBIDDEN}
    is_refusal = 400 <= error.status_code < 500 and error.status_code not in about_all
    return is_refusal and error.code not in _CODES_OF_ALL


def _read_wait_s(error: Any) -> float:
    try:
        wait_s = float(error.response.headers.get("retry-after", 0))
    except ValueError:  # a date, which the doubling wait stands in for
        return 0.0
    return wait_s if math.isfinite(wait_s) else 0.0


def _read_text(response: Any) -> str:
    try:
        choice = response.choices[0]
        text = choice.message.content
    except (AttributeError, LookupError, TypeError):  # whatever an endpoint takes for a completion
        choice, text = None, None
    if isinstance(text, str) and text:
        return text
    if reason := _reason(choice):
        raise UnansweredError(f"the reply holds no text: {reason}", Cause.JUDGE_REFUSED)
    if isinstance(text, str):
        return text
    try:
        shown = str(response)[:_SHOWN]
    except RecursionError:
        shown = "it is nested too deep"
    told = f"the reply is malformed, it holds no text: {shown}"
    raise _PassingError(told, cause=Cause.JUDGE_REFUSED)  # it was paid for


def _reason(choice: Any) -> str:
    """Why a reply without text would be without text again; empty where nothing says so."""
    refusal = getattr(getattr(choice, "message", None), "refusal", None)
    if isinstance(refusal, str) and refusal:
        return f"the judge refuses ({refusal[:_SHOWN]})"
    return _NO_TEXT.get(str(getattr(choice, "finish_reason", None)), "")


def _read_usage(response: Any) -> tuple[int, int] | None:
    usage = getattr(response, "usage", None)
    asked, replied = (getattr(usage, f"{kind}_tokens", None) for kind in ("prompt", "completion"))
    counts = [n for n in (asked, replied) if isinstance(n, int) and 0 <= n <= _MAX_TOKENS]
    return (counts[0], counts[1]) if len(counts) == 2 else None
