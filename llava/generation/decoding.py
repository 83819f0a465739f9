"""Writing the answers of one pack: prefixes, suffixes, then token by token for all questions.

Legend: G rows of a pack, N questions, V vocabulary, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation.meter import PackMeter
from llava.generation.neartie import top_two_among
from llava.generation.plan import Pack, split_passes
from llava.generation.request import Request
from llava.generation.row_cache import NOBODY, RowCache
from llava.generation.sampling import SeededSampling, sampled
from llava.model.fusion import fuse

COMPACT_EVERY = 16
"""Decoding steps between looks at how much of the cache belongs to finished questions: what is
copied to drop them has to be outweighed by steps that read less."""


@dataclass(slots=True)
class Question:
    """One question while its answer is written.

    Attributes:
        request: What was asked.
        row: Its row in the pack.
        owner: Its number within the row.
        position: Of the next token that it is fed; at first of the one behind the prefix.
        max_new_tokens: What the context leaves of the request's.
        sampling: Turns logits into scores whose largest is the sample; None for greedy.
        tokens: New tokens so far.
        margins: Distance of the two largest scores at each step.
        tops: The largest score at each step.
    """

    request: Request
    row: int
    owner: int
    position: int
    max_new_tokens: int
    sampling: SeededSampling | None = None
    tokens: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    tops: list[float] = field(default_factory=list)


class PackDecoder:
    """Writes the answers of one pack.

    Args:
        model: A language model that is packed (`why_alone`), with or without LLaVA's parts.
        pack: What is asked.
        features: (S, D) embeddings of each image by its key.
        questions: One a request, in the order of the rows.
        stops: Tokens that end an answer.
        meter: Counts what is computed.
        max_pass_tokens: Of a pass through the prompts, padding included; None for no limit.
    """

    def __init__(
        self,
        model: Any,
        pack: Pack,
        features: Mapping[str, torch.Tensor],
        questions: Sequence[Question],
        stops: frozenset[int],
        meter: PackMeter,
        *,
        max_pass_tokens: int | None,
    ) -> None:
        self._model = model
        self._device = model.device
        self._embed = model.get_input_embeddings()
        self._pack = pack
        self._passes = split_passes(pack.rows, max_pass_tokens)
        self._features = features
        self._questions = list(questions)
        self._stops = stops
        self._meter = meter
        self._cache = RowCache(model, len(pack.rows), pack.num_slots, meter)

    @property
    def cache_bytes_moved(self) -> int:
        """Bytes of keys and values that were copied to another place."""
        return sum(layer.num_bytes_moved for layer in self._cache.layers)

    def run(self) -> None:
        """Fills in every question's tokens, margins and tops."""
        prompts = torch.cat([self._prefill(rows) for rows in self._passes])
        active = self._take(self._questions, prompts)
        self._meter.end_stage("suffix")
        steps = 0
        while active:
            numbers = {question.row for question in active}
            rows = range(min(numbers), max(numbers) + 1)
            newest = [question.tokens[-1:] for question in active]
            active = self._take(active, self._extend(rows, active, newest))
            steps += 1
            if active and steps % COMPACT_EVERY == 0:
                self._drop_finished(active)
        self._meter.end_stage("decode")

    def _prefill(self, rows: range) -> torch.Tensor:
        """(N', D): hidden states of the last token of every prompt of some rows."""
        self._meter.end_stage("suffix")  # of the rows before
        hidden = self._cache.prefill(rows, self._prefix_embeds(rows))
        self._meter.end_stage("prefix")
        if not self._pack.rows[rows.start].suffix_tokens:
            return hidden  # one question a row
        questions = [question for question in self._questions if question.row in rows]
        suffixes = [
            question.request.prompt_ids[self._pack.rows[question.row].prefix_length :].tolist()
            for question in questions
        ]
        return self._extend(rows, questions, suffixes)

    def _prefix_embeds(self, rows: range) -> list[torch.Tensor]:
        """(L_i, D): each row's shared ids, image features in place of the placeholders."""
        chosen = [self._pack.rows[row] for row in rows]
        shared = [row.requests[0].prompt_ids[: row.prefix_length] for row in chosen]
        ids = torch.from_numpy(np.concatenate(shared)).long().clamp(min=0)
        texts = self._embed(ids.to(self._device, non_blocking=True)).split(list(map(len, shared)))
        embeds = []
        for row, row_ids, text in zip(chosen, shared, texts, strict=True):
            places = np.flatnonzero(row_ids == IMAGE_TOKEN_INDEX).tolist()
            images = [self._features[image.key] for image in row.requests[0].images]
            embeds.append(fuse(text, places, images))
        return embeds

    def _extend(
        self, rows: range, questions: Sequence[Question], token_ids: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Feeds questions their tokens, side by side in some rows, each from its position on.

        Returns:
            (N, D) hidden states of each question's last token.

        Raises:
            ValueError: a question is fed nothing.
        """
        if not all(token_ids):
            raise ValueError("`token_ids` must hold a token of every question. Plan it alone.")
        ids: list[list[int]] = [[] for _ in rows]
        owners: list[list[int]] = [[] for _ in rows]
        positions: list[list[int]] = [[] for _ in rows]
        ends = []
        for question, tokens in zip(questions, token_ids, strict=True):
            row = question.row - rows.start
            ids[row] += tokens
            owners[row] += [question.owner] * len(tokens)
            positions[row] += range(question.position, question.position + len(tokens))
            question.position += len(tokens)
            ends.append((row, len(ids[row]) - 1))
        length = max(map(len, ids))
        # on its way before the pass is started: later it would wait for its end
        index = torch.tensor([row * length + column for row, column in ends])
        index = index.to(self._device, non_blocking=True)
        padded = [
            [[*row, *[padding] * (length - len(row))] for row in part]
            for part, padding in ((ids, 0), (owners, NOBODY), (positions, 0))
        ]
        hidden = self._cache.extend(rows, torch.tensor(padded))
        # layers may lie on another device than the model's input
        return hidden.flatten(0, 1)[index.to(hidden.device)]

    def _take(self, questions: Sequence[Question], hidden: torch.Tensor) -> list[Question]:
        """Appends each question's next token; returns those that go on. hidden: (N, D)."""
        samplings = [question.sampling for question in questions]
        scores = sampled(self._model.lm_head(hidden), samplings)  # (N, V)
        found = top_two_among(scores, [question.request.choices for question in questions])
        going_on = []
        for question, token, top, margin in zip(questions, *found, strict=True):
            question.tokens.append(token)
            question.tops.append(top)
            question.margins.append(margin)
            if token not in self._stops and len(question.tokens) < question.max_new_tokens:
                going_on.append(question)
        return going_on

    def _drop_finished(self, active: Sequence[Question]) -> None:
        """Frees what finished questions hold, once it is at least half."""
        rows = sorted({question.row for question in active})
        if 2 * len(rows) <= rows[-1] - rows[0] + 1:
            places = self._cache.keep_rows(rows)
            for question in active:
                question.row = places[question.row]
        num_owners = max(len(row.requests) for row in self._pack.rows)
        num_rows = max(question.row for question in active) + 1
        alive = torch.zeros(num_rows, num_owners, dtype=torch.bool)
        for question in active:
            alive[question.row, question.owner] = True
        self._cache.compact(alive.to(self._device))
