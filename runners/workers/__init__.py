"""Processes that hold a model and answer requests."""
