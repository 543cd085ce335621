# Every target prepares .venv by itself; once that is done, a second call costs nothing.
SHELL := bash
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
READY := .venv/.ready
ARGS ?=

# Two test processes share two cores: more threads inside each would only get in each other's way.
PYTEST := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2

.PHONY: help setup demo test test-all lint types bench notebook lock clean

help:  ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## prepare .venv from requirements.lock (hashes checked, nothing global)
	@echo "setup: .venv is up to date"

$(READY): requirements.lock pyproject.toml
	@scripts/prepare_environment.sh

demo: $(READY)  ## both stages on drawn street scenes, evaluation and one panel, without a download
	@$(PYTHON) scripts/demo.py $(ARGS)

test: $(READY)  ## the fast tests; ARGS="-k palette" hands options to pytest
	@$(PYTEST) -m "not slow" $(ARGS)

test-all: $(READY)  ## every test, the slow ones too
	@$(PYTEST) $(ARGS)

lint: $(READY)  ## ruff: rules and format
	@$(PYTHON) -m ruff check src tests scripts
	@$(PYTHON) -m ruff format --check src tests scripts

types: $(READY)  ## mypy, strict, on src
	@$(PYTHON) -m mypy --strict src

bench: $(READY)  ## our ways against the ordinary ones; writes docs/results/bench.json
	@$(PYTHON) scripts/bench.py $(ARGS)

notebook: $(READY)  ## run the notebook; the outputs go to outputs/01_two_stages.ipynb
	@mkdir -p outputs
	@.venv/bin/jupyter-execute --output=../outputs/01_two_stages.ipynb notebooks/01_two_stages.ipynb

lock: $(READY)  ## resolve pyproject.toml into requirements.lock; ARGS=--upgrade for newer versions
	@.venv/bin/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --quiet -o requirements.lock $(ARGS)

clean:  ## remove caches and build products; .venv, data and runs stay
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
	@find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
