"""The language models that LLaVA was built on, one module a family."""
