# `make describe-head LAYER=23 HEAD=4` and `make test` do all set-up themselves, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAYER ?= 23
HEAD ?= 4
MODEL ?= smollm2-135m
ARGS ?=

.PHONY: help setup describe-head test test-all lint format types clean
help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt "torch==2.13.0"
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,parquet]'
	touch $@

setup: $(VENV)/.ready   ## create .venv with everything pinned

describe-head: setup    ## describe one head: make describe-head LAYER=23 HEAD=4 [MODEL=…] [ARGS='--json']
	@$(BIN)/describe-head --model $(MODEL) --layer $(LAYER) --head $(HEAD) $(ARGS)

test: setup             ## the fast unit tests
	$(BIN)/pytest -n 2

test-all: setup         ## the fast tests and the ones on the real model
	$(BIN)/pytest -n 2 -m 'not browser and not network and not gpu and not llm and not benchmark'

lint: setup             ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup           ## rewrite files in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup            ## strict type check
	$(BIN)/mypy

clean:                  ## remove .venv and caches of tools
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
