"""Asking a judge model for grades, and keeping what it said."""
