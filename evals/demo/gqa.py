"""Demo questions in the style of GQA: programs, groups, types and entailment between questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from evals.demo.choice import pick, shuffled
from evals.demo.scene import COLORS, GRID_SIZE, PLURALS, SHAPES, Scene, Thing
from evals.demo.vqav2 import sample_look
from evals.demo.words import described, with_article

Look = tuple[str | None, str | None]
"""A color, a shape, or both; None where nothing is said of it."""

Claim = tuple[bool, Look]
"""Whether something of that look is in the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of a question's program; `dependencies` are positions of earlier steps."""

    operation: str
    argument: str
    dependencies: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GQAQuestion:
    """One question about a picture.

    Attributes:
        kind: The detailed type, for example `existAttr`.
        structural: `verify`, `query`, `choose` or `logical`.
        semantic: `attr`, `cat` or `obj`.
        text: The question.
        answer: One word.
        full_answer: A sentence.
        program: The steps that lead to the answer.
        things: What question and answer speak of.
        global_group: The group whose answers are compared as a distribution, or None.
        local_group: The finer group.
        valid: The answers that fit the question.
        claims: What decides the answer: whoever knows these claims knows the answer.
        implied: Everything that follows from question and answer.
    """

    kind: str
    structural: str
    semantic: str
    text: str
    answer: str
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
    questions: dict[str, GQAQuestion] = {}
    while len(questions) < num_questions:
        ask = _ASKERS[int(rng.choice(len(_ASKERS), p=_SHARES))]
        question = ask(scene, rng)
        questions.setdefault(question.text, question)
    return list(questions.values())


def _implied_by_presence(color: str | None, shape: str | None) -> frozenset[Claim]:
    looks: set[Look] = {(color, shape), (color, None), (None, shape)}
    return frozenset((True, look) for look in looks if look != (None, None))


def _implied_by_absence(color: str | None, shape: str | None) -> frozenset[Claim]:
    colors = [color] if color else [None, *COLORS]
    shapes = [shape] if shape else [None, *SHAPES]
    return frozenset((False, (c, s)) for c in colors for s in shapes)


def _implied_by_color(thing: Thing) -> frozenset[Claim]:
    """What follows from "the <shape> is <color>"."""
    others = frozenset((False, (c, thing.shape)) for c in COLORS if c != thing.color)
    return _implied_by_presence(thing.color, thing.shape) | others


def _implied_by_shape(thing: Thing) -> frozenset[Claim]:
    """What follows from "the <color> one is a <shape>"."""
    others = frozenset((False, (thing.color, s)) for s in SHAPES if s != thing.shape)
    return _implied_by_presence(thing.color, thing.shape) | others


def object_id(thing: Thing) -> str:
    """The id of a thing in programs and annotations of its picture."""
    return str(1_000_000 + thing.row * GRID_SIZE + thing.column)


def _select(name: str, things: Sequence[Thing]) -> Step:
    numbers = ",".join(object_id(thing) for thing in things) or "-"
    return Step(operation="select", argument=f"{name} ({numbers})")


def _ask_color(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    thing = pick(rng, scene.things_known_by_shape)
    kind, text = pick(
        rng,
        (
            ("directWhich", "What color is the {}?"),
            ("directWhich", "Which color is the {}?"),
            ("directOf", "What is the color of the {}?"),
        ),
    )
    return GQAQuestion(
        kind=kind,
        structural="query",
        semantic="attr",
        text=text.format(thing.shape),
        answer=thing.color,
        full_answer=f"The {thing.shape} is {thing.color}.",
        program=(
            _select(thing.shape, [thing]),
            Step(operation="query", argument="color", dependencies=(0,)),
        ),
        things=(thing,),
        global_group="color",
        local_group=f"10q-{thing.shape}_color",
        valid=tuple(COLORS),
        claims=frozenset({(True, (thing.color, thing.shape))}),
        implied=_implied_by_color(thing),
    )


def _ask_shape(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    thing = pick(rng, scene.things_known_by_color)
    text = pick(rng, ("What shape is {}?", "Which shape is {}?", "What is the {} shape?"))
    return GQAQuestion(
        kind="categoryAttr",
        structural="query",
        semantic="cat",
        text=text.format(thing.color),
        answer=thing.shape,
        full_answer=f"The {thing.color} shape is {with_article(thing.shape)}.",
        program=(
            _select("shape", scene.things),
            Step(operation="filter color", argument=thing.color, dependencies=(0,)),
            Step(operation="query", argument="name", dependencies=(1,)),
        ),
        things=(thing,),
        global_group="shape",
        local_group=f"09q-{thing.color}_shape",
        valid=SHAPES,
        claims=frozenset({(True, (thing.color, thing.shape))}),
        implied=_implied_by_shape(thing),
    )


def _ask_whether_color(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    thing = pick(rng, scene.things_known_by_shape)
    is_true = rng.random() < 0.5
    color = thing.color if is_true else pick(rng, sorted(set(COLORS) - {thing.color}))
    text = pick(rng, ("Is the {} {}?", "Is the color of the {} {}?")).format(thing.shape, color)
    denied = frozenset({(False, (color, thing.shape)), (True, (None, thing.shape))})
    return GQAQuestion(
        kind="verifyAttr",
        structural="verify",
        semantic="attr",
        text=text,
        answer="yes" if is_true else "no",
        full_answer=(
            f"Yes, the {thing.shape} is {color}."
            if is_true
            else f"No, the {thing.shape} is {thing.color}."
        ),
        program=(
            _select(thing.shape, [thing]),
            Step(operation="verify color", argument=color, dependencies=(0,)),
        ),
        things=(thing,),
        local_group=f"06-{thing.shape}_{color}",
        claims=frozenset({(is_true, (color, thing.shape))}),
        implied=_implied_by_color(thing) if is_true else denied,
    )


def _ask_which_color(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    thing = pick(rng, scene.things_known_by_shape)
    wrong = pick(rng, sorted(set(COLORS) - {thing.color}))
    options = shuffled(rng, [thing.color, wrong])
    text = pick(rng, ("Is the {} {} or {}?", "Which color is the {}, {} or {}?"))
    return GQAQuestion(
        kind="chooseAttr",
        structural="choose",
        semantic="attr",
        text=text.format(thing.shape, *options),
        answer=thing.color,
        full_answer=f"The {thing.shape} is {thing.color}.",
        program=(
            _select(thing.shape, [thing]),
            Step(operation="choose color", argument="|".join(options), dependencies=(0,)),
        ),
        things=(thing,),
        global_group="color",
        local_group=f"10c-{thing.shape}_color",
        valid=tuple(options),
        claims=frozenset({(True, (thing.color, thing.shape))}),
        implied=_implied_by_color(thing),
    )


def _ask_which_shape(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    thing = pick(rng, scene.things_known_by_color)
    wrong = pick(rng, sorted(set(SHAPES) - {thing.shape}))
    options = shuffled(rng, [thing.shape, wrong])
    text = pick(rng, ("Is the {} shape {} or {}?", "What is the {} shape, {} or {}?"))
    return GQAQuestion(
        kind="objThisChoose",
        structural="choose",
        semantic="cat",
        text=text.format(thing.color, *map(with_article, options)),
        answer=thing.shape,
        full_answer=f"The {thing.color} shape is {with_article(thing.shape)}.",
        program=(
            _select("shape", scene.things),
            Step(operation="filter color", argument=thing.color, dependencies=(0,)),
            Step(operation="choose name", argument="|".join(options), dependencies=(1,)),
        ),
        things=(thing,),
        global_group="shape",
        local_group=f"09c-{thing.color}_shape",
        valid=tuple(options),
        claims=frozenset({(True, (thing.color, thing.shape))}),
        implied=_implied_by_shape(thing),
    )


def _ask_presence(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    color, shape = sample_look(scene, rng)
    things = scene.find(color=color, shape=shape)
    noun = described(color, shape)
    selected = scene.find(shape=shape) if shape else scene.things
    program = [_select(shape or "shape", selected)]
    if color:
        program.append(Step(operation="filter color", argument=color, dependencies=(0,)))
    program.append(Step(operation="exist", argument="?", dependencies=(len(program) - 1,)))
    plural = f"{color} " * bool(color) + (PLURALS[shape] if shape else "shapes")
    text = pick(
        rng,
        (
            f"Is there {with_article(noun)}?",
            f"Is there {with_article(noun)} in the picture?",
            f"Are there any {plural}?",
        ),
    )
    implied = _implied_by_presence(color, shape) if things else _implied_by_absence(color, shape)
    return GQAQuestion(
        kind="existAttr" if color else "exist",
        structural="verify",
        semantic="obj",
        text=text,
        answer="yes" if things else "no",
        full_answer=(
            f"Yes, there is {with_article(noun)}." if things else f"No, there is no {noun}."
        ),
        program=tuple(program),
        things=things,
        local_group="13-there" if color else f"12-{shape}_there",
        claims=frozenset({(bool(things), (color, shape))}),
        implied=implied,
    )


def _ask_both_or_either(scene: Scene, rng: np.random.Generator) -> GQAQuestion:
    wants_both, is_true = rng.random() < 0.5, rng.random() < 0.5
    holds = all if wants_both else any
    pairs = list(permutations(SHAPES, 2))
    fitting = [p for p in pairs if holds(shape in scene.shapes for shape in p) == is_true]
    pair = pick(rng, fitting or pairs)
    answer = holds(shape in scene.shapes for shape in pair)

    word = "and" if wants_both else "or"
    nouns = f" {word} ".join(with_article(shape) for shape in pair)
    first, second = (_select(shape, scene.find(shape=shape)) for shape in pair)
    if wants_both == answer:
        decisive: tuple[str, ...] = pair
        implies = _implied_by_presence if answer else _implied_by_absence
        implied = implies(None, pair[0]) | implies(None, pair[1])
    else:
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
            first,
            Step(operation="exist", argument="?", dependencies=(0,)),
            second,
            Step(operation="exist", argument="?", dependencies=(2,)),
            Step(operation=word, argument="", dependencies=(1, 3)),
        ),
        things=tuple(thing for thing in scene.things if thing.shape in pair),
        local_group=f"{word}-there",
        claims=frozenset((answer, (None, shape)) for shape in decisive),
        implied=implied,
    )


_ASKERS: tuple[Callable[[Scene, np.random.Generator], GQAQuestion], ...] = (
    _ask_color,
    _ask_shape,
    _ask_whether_color,
    _ask_which_color,
    _ask_which_shape,
    _ask_presence,
    _ask_both_or_either,
)
_SHARES = (0.18, 0.17, 0.13, 0.1, 0.1, 0.24, 0.08)
