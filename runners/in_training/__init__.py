"""Evaluating a model that lies in memory, as in the middle of its training."""
