"""Judgments of one answer: pure functions, one metric a module; `own` is for own questions."""
