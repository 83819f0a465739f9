# Every target sets up what it needs: a virtual environment in .venv with the tested versions.
PYTHON ?= python3
BIN := .venv/bin
BASE := .venv/.installed
STAMP := .venv/.installed-dev

.PHONY: demo test check test-all format clean

demo: $(BASE)  ## the main job: the demo checkpoint on VQAv2, GQA and ScienceQA demo data
	$(BIN)/python -m runners.eval

test: $(STAMP)  ## the default tests
	$(BIN)/python -m pytest

check: $(STAMP)  ## format, lint, types, then the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

test-all: $(STAMP)  ## the slow proofs too
	$(BIN)/python -m pytest -m "not gpu and not network"
	$(BIN)/python -m tests.benchmarks.bench_workers --at-least 1.8

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BASE): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[plots]"
	touch $(BASE)

$(STAMP): $(BASE)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
