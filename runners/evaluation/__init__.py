"""The course of an evaluation: check everything, load once, ask, store, score."""
