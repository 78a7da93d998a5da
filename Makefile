# `make demo` and `make test` work from a fresh clone: they set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
WAREHOUSE ?= warehouse

.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/' | expand -t 12

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[offline,dicom,slides,ui]' --group dev
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps embedding-atlas
	# A reference for tests. What it would bring along are readers of data sets, which no test asks for.
	$(BIN)/pip install --quiet --no-deps clip_benchmark==1.6.1
	touch $@

setup: .venv/installed  ## Install everything into .venv

demo: setup  ## Run the main job on phantoms and say what was found
	$(BIN)/counterstain demo --warehouse $(WAREHOUSE)

ui: setup  ## Serve the Dagster UI on the same project
	$(BIN)/counterstain ui --warehouse $(WAREHOUSE)

explore: setup  ## Serve the explorer of the same project
	$(BIN)/counterstain explore --warehouse $(WAREHOUSE)

# A process per core: their own threads would only wait for one another.
test: setup  ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: setup  ## Format, lint, types and package direction, as CI checks them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## All that CI runs

cookbook: setup  ## Ask the questions of docs/cookbook.md again and write the answers into it
	$(BIN)/python -m tests.docs.cookbook

bench: setup  ## Measure speed against named baselines
	$(BIN)/python benchmarks/encoding.py
	$(BIN)/python benchmarks/linear_svc.py
	$(BIN)/python benchmarks/overlays.py
	$(BIN)/python benchmarks/layouts.py
	$(BIN)/python benchmarks/neighbors.py
	$(BIN)/python benchmarks/explorer.py
	$(BIN)/python benchmarks/saliency.py

clean:  ## Remove the environment and caches; warehouses stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.PHONY: help setup demo ui explore test lint check cookbook bench clean
