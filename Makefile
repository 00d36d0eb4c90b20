# `make describe-head LAYER=26 HEAD=2` and `make test` do all set-up themselves, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAYER ?= 26
HEAD ?= 2
MODEL ?= smollm2-135m
ARGS ?=
# a comma inside an argument of $(call …)
, := ,

# An empty PYTHONDONTWRITEBYTECODE lets the tests' many processes share compiled modules wherever it is set outside.
TESTS := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal --durations=15
.PHONY: help setup setup-dev describe-head test test-model test-browser lint format types docs bench clean
help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

define install
	$(PYTHON) -m venv $(VENV)
	-$(BIN)/pip install -q -c constraints.txt --upgrade pip  # quicker; the one that venv brings works too
	PYTHONWARNINGS=ignore $(BIN)/pip install -q -c constraints.txt "torch==2.13.0" -e '.[$(1)]'
endef

$(VENV)/.ready: pyproject.toml constraints.txt
	$(call install,parquet)
	touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt
	$(call install,parquet$(,)dev)
	touch $(VENV)/.ready $@

setup: $(VENV)/.ready   ## create .venv with everything pinned
setup-dev: $(VENV)/.ready-dev  ## the same, with what tests and checks need

describe-head: setup    ## describe one head: make describe-head LAYER=26 HEAD=2 [MODEL=…] [ARGS='--json']
	@$(BIN)/describe-head --model $(MODEL) --layer $(LAYER) --head $(HEAD) $(ARGS)

test: setup-dev         ## the fast unit tests
	$(TESTS)

test-model: setup-dev   ## the slower tests, the ones on the real model and on a real local LLM server
	$(TESTS) -m '(model or slow or llm) and not browser and not network and not gpu and not benchmark'

test-browser: setup-dev ## pages in a real headless Chromium (Debian: apt-get install chromium)
	$(TESTS) -m browser

lint: setup-dev         ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup-dev       ## rewrite files in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup-dev        ## strict type check
	$(BIN)/mypy

docs: setup-dev         ## rewrite docs/commands.md from the help of every command
	$(BIN)/python -m tests.support.command_pages --write

bench: setup-dev        ## speed and memory against the plain procedures, on a quiet machine
	$(BIN)/python -m tests.benchmarks.bench_mappings
	$(BIN)/python -m tests.benchmarks.profile_mappings
	$(BIN)/python -m tests.benchmarks.bench_memory
	$(BIN)/python -m tests.benchmarks.bench_relations
	$(BIN)/python -m tests.benchmarks.bench_parts

clean:                  ## remove .venv and caches of tools
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
