"""Figures over scores, and how certain they are."""
