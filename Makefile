# Every target sets up what it needs: a virtual environment in .venv with the tested versions.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
DEMO := .venv/.installed
DEV := .venv/.installed-dev
PROOFS := .venv/.installed-proofs
PARALLEL = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

# Nothing is compiled beforehand, since most modules are never imported; so what is compiled is kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check test-all gpu format clean

demo: $(DEMO)  ## the main job: the demo checkpoint on VQAv2, GQA and ScienceQA demo data
	@$(BIN)/python -m runners.eval

test: $(DEV)  ## the default tests
	$(PARALLEL)

check: $(DEV)  ## format, lint, types, then the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

test-all: $(PROOFS)  ## the slow proofs too; those that measure time have the machine for themselves
	$(PARALLEL) -m "not gpu and not network and not alone"
	$(BIN)/python -m pytest -m "alone and not gpu and not network"
	$(BIN)/python -m tests.benchmarks.bench_workers --at-least 1.8
	$(BIN)/python -m tests.benchmarks.worker_waits --at-most 0.02

gpu: $(DEV)  ## what a GPU shows, in under eight minutes; without one, what would be run
	$(BIN)/python -m tests.gpu

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Each of the three environments holds what the ones before it need.
$(DEMO): INSTALLED := plots
$(DEV): INSTALLED := dev
$(DEV): HELD := $(DEMO)
$(PROOFS): INSTALLED := proofs
$(PROOFS): HELD := $(DEMO) $(DEV)
$(DEMO) $(DEV) $(PROOFS): pyproject.toml constraints.txt
	@echo "setting up .venv, once"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[$(INSTALLED)]"
	@touch $(HELD) $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
