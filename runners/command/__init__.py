"""The command `llava-evals`: every program as a subcommand, and what it can do beside them."""
