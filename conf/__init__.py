"""Hydra configurations, one folder a concern; a package, so that they are found from anywhere."""
