"""The border to Hydra: a command line becomes typed options."""
