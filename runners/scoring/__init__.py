"""Stored answers become scores; judges are asked here. Imports no torch."""
