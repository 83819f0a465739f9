"""Demo questions in the style of GQA: programs, groups, types and entailment between questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any

import numpy as np

from evals.demo.asking import (
    Look,
    Question,
    ask_different,
    described,
    sample_look,
    with_article,
)
from evals.demo.scene import COLORS, GRID_SIZE, SHAPES, Scene, Thing, pick, shuffled

Claim = tuple[bool, Look]
"""Whether something of that look is in the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of a question's program; `dependencies` are positions of earlier steps."""

    operation: str
    dependencies: tuple[int, ...] = ()
    argument: str

    def __str__(self) -> str:
        """The step as the official one-line programs write it.

        >>> str(Step(operation="query", argument="color", dependencies=(0,)))
        'query: color [0]'
        """
        sources = f" [{','.join(map(str, self.dependencies))}]" if self.dependencies else ""
        return f"{self.operation}: {self.argument}{sources}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GQAQuestion(Question):
    """A question with what the official files say of it; its `kind` is the detailed type.

    Attributes:
        structural: `verify`, `query`, `choose` or `logical`.
        semantic: `attr`, `cat` or `obj`.
        full_answer: A sentence.
        program: The steps that lead to the answer.
        things: What question and answer speak of.
        global_group: The group whose answers are compared as a distribution, or None.
        local_group: The finer group.
        valid: The answers that fit the question.
        claims: What decides the answer: whoever knows these claims knows the answer.
        implied: Everything that follows from question and answer.
    """

    structural: str
    semantic: str
    full_answer: str
    program: tuple[Step, ...]
    things: tuple[Thing, ...] = ()
    global_group: str | None = None
    local_group: str
    valid: tuple[str, ...] = ("yes", "no")
    claims: frozenset[Claim]
    implied: frozenset[Claim]

    def entails(self, other: GQAQuestion) -> bool:
        """Whether the other question's answer follows from this question and its answer."""
        return other.claims <= self.implied


def ask_gqa(scene: Scene, rng: np.random.Generator, num_questions: int) -> list[GQAQuestion]:
    """`num_questions` different questions about a scene, yes and no about equally likely."""
    return ask_different(_SHARES, scene, rng, num_questions)


def _implied_by_presence(color: str | None, shape: str | None) -> frozenset[Claim]:
    # A red ring is something red, and a ring; of two Nones nothing is said.
    looks: set[Look] = {(color, shape), (color, None), (None, shape)}
    return frozenset((True, look) for look in looks if look != (None, None))


def _implied_by_absence(color: str | None, shape: str | None) -> frozenset[Claim]:
    # Where nothing is red, there is no red ring either.
    colors = [color] if color else [None, *COLORS]
    shapes = [shape] if shape else [None, *SHAPES]
    return frozenset((False, (c, s)) for c in colors for s in shapes)


def _implied_by_color(thing: Thing) -> frozenset[Claim]:
    """What follows from "the <shape> is <color>": it has no other color."""
    others = frozenset((False, (c, thing.shape)) for c in COLORS if c != thing.color)
    return _implied_by_presence(thing.color, thing.shape) | others


def _implied_by_shape(thing: Thing) -> frozenset[Claim]:
    """What follows from "the <color> one is a <shape>": it has no other shape."""
    others = frozenset((False, (thing.color, s)) for s in SHAPES if s != thing.shape)
    return _implied_by_presence(thing.color, thing.shape) | others


def _object_id(thing: Thing) -> str:
    """The id of a thing in programs and annotations of its picture."""
    return str(1_000_000 + thing.row * GRID_SIZE + thing.column)  # seven digits, as real ids


def _select(name: str, things: Sequence[Thing]) -> Step:
    numbers = ",".join(_object_id(thing) for thing in things) or "-"  # "-": as in GQA, for none
    return Step(operation="select", argument=f"{name} ({numbers})")


def _chain(first: Step, *others: tuple[str, str]) -> tuple[Step, ...]:
    """A program: the first step, then operations with arguments, each on the result before it."""
    steps = (Step(operation=o, argument=a, dependencies=(i,)) for i, (o, a) in enumerate(others))
    return (first, *steps)


def _ask_color(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    thing = pick(rng, scene.things_known_by_shape)
    texts = ("What color is the {}?", "Which color is the {}?", "What is the color of the {}?")
    text = pick(rng, texts)
    kind = "directOf" if " of " in text else "directWhich"  # GQA's types follow the wording
    return _about_color(thing, kind, text.format(thing.shape))


def _ask_which_color(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    thing = pick(rng, scene.things_known_by_shape)
    wrong = pick(rng, sorted(set(COLORS) - {thing.color}))
    options = shuffled(rng, [thing.color, wrong])
    text = pick(rng, ("Is the {} {} or {}?", "Which color is the {}, {} or {}?"))
    return _about_color(thing, "chooseAttr", text.format(thing.shape, *options), options)


def _about_color(thing: Thing, kind: str, text: str, options: Sequence[str] = ()) -> GQAQuestion:
    """What color a thing has that is known by its shape; with options, which of them."""
    verb, argument = ("choose color", "|".join(options)) if options else ("query", "color")
    return GQAQuestion(
        kind=kind,
        structural="choose" if options else "query",
        semantic="attr",
        text=text,
        answer=thing.color,
        full_answer=f"The {thing.shape} is {thing.color}.",
        program=_chain(_select(thing.shape, [thing]), (verb, argument)),
        things=(thing,),
        global_group="color",
        local_group=f"10{'c' if options else 'q'}-{thing.shape}_color",
        valid=tuple(options or COLORS),
        claims=frozenset({(True, (thing.color, thing.shape))}),
        implied=_implied_by_color(thing),
    )


def _ask_shape(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    thing = pick(rng, scene.things_known_by_color)
    text = pick(rng, ("What shape is {}?", "Which shape is {}?", "What is the {} shape?"))
    return _about_shape(scene, thing, text.format(thing.color))


def _ask_which_shape(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    thing = pick(rng, scene.things_known_by_color)
    wrong = pick(rng, sorted(set(SHAPES) - {thing.shape}))
    options = shuffled(rng, [thing.shape, wrong])
    text = pick(rng, ("Is the {} shape {} or {}?", "What is the {} shape, {} or {}?"))
    text = text.format(thing.color, *map(with_article, options))
    return _about_shape(scene, thing, text, options)


def _about_shape(scene: Scene, thing: Thing, text: str, options: Sequence[str] = ()) -> GQAQuestion:
    """What shape a thing has that is known by its color; with options, which of them."""
    verb, argument = ("choose name", "|".join(options)) if options else ("query", "name")
    select = _select("shape", scene.things)
    return GQAQuestion(
        kind="objThisChoose" if options else "categoryAttr",
        structural="choose" if options else "query",
        semantic="cat",
        text=text,
        answer=thing.shape,
        full_answer=f"The {thing.color} shape is {with_article(thing.shape)}.",
        program=_chain(select, ("filter color", thing.color), (verb, argument)),
        things=(thing,),
        global_group="shape",
        local_group=f"09{'c' if options else 'q'}-{thing.color}_shape",
        valid=tuple(options or SHAPES),
        claims=frozenset({(True, (thing.color, thing.shape))}),
        implied=_implied_by_shape(thing),
    )


def _ask_whether_color(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    thing = pick(rng, scene.things_known_by_shape)
    is_true = rng.random() < 0.5
    color = thing.color if is_true else pick(rng, sorted(set(COLORS) - {thing.color}))
    text = pick(rng, ("Is the {} {}?", "Is the color of the {} {}?")).format(thing.shape, color)
    # "No" says that the thing is there, but not of which color it is.
    denied = frozenset({(False, (color, thing.shape)), (True, (None, thing.shape))})
    return GQAQuestion(
        kind="verifyAttr",
        structural="verify",
        semantic="attr",
        text=text,
        answer="yes" if is_true else "no",
        full_answer=f"{'Yes' if is_true else 'No'}, the {thing.shape} is {thing.color}.",
        program=_chain(_select(thing.shape, [thing]), ("verify color", color)),
        things=(thing,),
        local_group=f"06-{thing.shape}_{color}",
        claims=frozenset({(is_true, (color, thing.shape))}),
        implied=_implied_by_color(thing) if is_true else denied,
    )


def _ask_presence(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    color, shape = sample_look(scene, rng)
    things = scene.find(color=color, shape=shape)
    noun = described(color, shape)
    select = _select(shape or "shape", scene.find(shape=shape))
    filters = [("filter color", color)] if color else []
    texts = (
        f"Is there {with_article(noun)}?",
        f"Is there {with_article(noun)} in the picture?",
        f"Are there any {described(color, shape, plural=True)}?",
    )
    implied = _implied_by_presence(color, shape) if things else _implied_by_absence(color, shape)
    return GQAQuestion(
        kind="existAttr" if color else "exist",
        structural="verify",
        semantic="obj",
        text=pick(rng, texts),
        answer="yes" if things else "no",
        full_answer=f"Yes, there is {with_article(noun)}."
        if things
        else f"No, there is no {noun}.",
        program=_chain(select, *filters, ("exist", "?")),
        things=things,
        local_group="13-there" if color else f"12-{shape}_there",
        claims=frozenset({(bool(things), (color, shape))}),
        implied=implied,
    )


def _ask_both_or_either(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    wants_both, is_true = rng.random() < 0.5, rng.random() < 0.5
    holds = all if wants_both else any
    pairs = list(permutations(SHAPES, 2))
    # Drawn by its answer: of two random shapes, "either" would nearly always be right.
    fitting = [p for p in pairs if holds(shape in scene.shapes for shape in p) == is_true]
    pair = pick(rng, fitting or pairs)
    answer = holds(shape in scene.shapes for shape in pair)

    word = "and" if wants_both else "or"
    nouns = f" {word} ".join(with_article(shape) for shape in pair)
    first, second = (_select(shape, scene.find(shape=shape)) for shape in pair)
    if wants_both == answer:  # "both: yes" and "either: no" speak of both shapes
        decisive: tuple[str, ...] = pair
        implies = _implied_by_presence if answer else _implied_by_absence
        implied = implies(None, pair[0]) | implies(None, pair[1])
    else:  # one shape decides, but the answer does not tell which one
        decisive = tuple(shape for shape in pair if (shape in scene.shapes) == answer)[:1]
        implied = frozenset()
    return GQAQuestion(
        kind="existAnd" if wants_both else "existOr",
        structural="logical",
        semantic="obj",
        text=f"{'Are there both' if wants_both else 'Is there either'} {nouns}?",
        answer="yes" if answer else "no",
        full_answer=(
            f"{'Yes' if answer else 'No'}, there {'is' if answer else 'is not'} "
            f"{'both ' if wants_both else ''}{nouns}."
        ),
        program=(
            *_chain(first, ("exist", "?")),
            second,
            Step(operation="exist", argument="?", dependencies=(2,)),
            Step(operation=word, argument="", dependencies=(1, 3)),
        ),
        things=tuple(thing for thing in scene.things if thing.shape in pair),
        local_group=f"{word}-there",
        claims=frozenset((answer, (None, shape)) for shape in decisive),
        implied=implied,
    )


_SHARES: Mapping[Callable[[Scene, np.random.Generator], GQAQuestion], float] = {
    _ask_color: 0.18,
    _ask_shape: 0.17,
    _ask_whether_color: 0.13,
    _ask_which_color: 0.1,
    _ask_which_shape: 0.1,
    _ask_presence: 0.24,
    _ask_both_or_either: 0.08,
}


def question_records(
    questions: Mapping[str, GQAQuestion], image_id: str
) -> dict[str, dict[str, Any]]:
    """The official objects of all questions about one picture, by question id."""
    records = {}
    for question_id, question in questions.items():
        same = [i for i, other in questions.items() if other.program == question.program]
        records[question_id] = {
            "semantic": [asdict(step) for step in question.program],
            "entailed": [i for i, other in questions.items() if question.entails(other)],
            "equivalent": same,
            "question": question.text,
            "imageId": image_id,
            "isBalanced": True,
            "groups": {"global": question.global_group, "local": question.local_group},
            "answer": question.answer,
            "semanticStr": "->".join(map(str, question.program)),
            "annotations": {
                "answer": _mentions(question.answer, question),
                "question": _mentions(question.text, question),
                "fullAnswer": _mentions(question.full_answer, question),
            },
            "types": {
                "detailed": question.kind,
                "semantic": question.semantic,
                "structural": question.structural,
            },
            "fullAnswer": question.full_answer,
        }
    return records


def choices_record(question: GQAQuestion, scene: Scene) -> dict[str, list[str]]:
    """The official object of the answers that are valid and plausible for a question.

    An answer is plausible if the picture shows such a thing; for yes and no both are.
    """
    seen = {"color": scene.colors, "shape": scene.shapes}.get(question.global_group or "")
    plausible = [answer for answer in question.valid if seen is None or answer in seen]
    return {"valid": list(question.valid), "plausible": plausible}


def _mentions(text: str, question: GQAQuestion) -> dict[str, str]:
    """Positions, counted in words, at which a text names a thing, each with the thing's id."""
    words = [word.strip("?.,").lower() for word in text.split()]
    return {
        str(position): _object_id(thing)
        for thing in question.things
        for position, word in enumerate(words)
        if word in (thing.shape, "shape")
    }
