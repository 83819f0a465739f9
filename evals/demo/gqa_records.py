"""GQA's official objects for the demo questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.demo.gqa import GQAQuestion, Step, object_id
from evals.demo.scene import Scene
from evals.demo.words import word_positions


def question_records(
    questions: Mapping[str, GQAQuestion], image_id: str
) -> dict[str, dict[str, Any]]:
    """The official objects of all questions about one picture, by question id."""
    return {
        question_id: _question_record(question_id, question, questions, image_id)
        for question_id, question in questions.items()
    }


def choices_record(question: GQAQuestion, scene: Scene) -> dict[str, list[str]]:
    """The official object of the answers that are valid and plausible for a question.

    An answer is plausible if the picture shows such a thing; for yes and no both are.
    """
    seen = {"color": scene.colors, "shape": scene.shapes}.get(question.global_group or "")
    plausible = [answer for answer in question.valid if seen is None or answer in seen]
    return {"valid": list(question.valid), "plausible": plausible}


def _question_record(
    question_id: str,
    question: GQAQuestion,
    questions: Mapping[str, GQAQuestion],
    image_id: str,
) -> dict[str, Any]:
    return {
        "semantic": [
            {
                "operation": step.operation,
                "dependencies": list(step.dependencies),
                "argument": step.argument,
            }
            for step in question.program
        ],
        "entailed": [other for other, asked in questions.items() if question.entails(asked)],
        "equivalent": [
            other
            for other, asked in questions.items()
            if asked.program == question.program or other == question_id
        ],
        "question": question.text,
        "imageId": image_id,
        "isBalanced": True,
        "groups": {"global": question.global_group, "local": question.local_group},
        "answer": question.answer,
        "semanticStr": "->".join(map(_step_text, question.program)),
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


def _step_text(step: Step) -> str:
    """The step as the official one-line programs write it.

    >>> _step_text(Step(operation="query", argument="color", dependencies=(0,)))
    'query: color [0]'
    """
    sources = f" [{','.join(map(str, step.dependencies))}]" if step.dependencies else ""
    return f"{step.operation}: {step.argument}{sources}"


def _mentions(text: str, question: GQAQuestion) -> dict[str, str]:
    """Word positions at which a text names a thing, with the thing's id."""
    return {
        str(position): object_id(thing)
        for thing in question.things
        for position in word_positions(text, (thing.shape, "shape"))
    }
