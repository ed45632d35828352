# The two commands: `make demo` and `make test`. Everything else is listed by `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := $(shell sed -n 's/^uv==//p' requirements.lock)
STAMP := $(VENV)/.installed

# uv does not read pip's variable for a folder of wheels; where one is set (say, of CPU-only torch), it is used.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_LINK_MODE ?= copy
export PYTHONPATH :=

.PHONY: help demo ui live test impact catalog bench lock lint types clean
help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

# The environment is made aside of any earlier one's state: the stamp is written last, so a torn install is made again.
$(STAMP): requirements.lock pyproject.toml
	@rm -f $@
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m uv --version 2>/dev/null | grep -qF "$(UV_VERSION)" \
	  || { $(BIN)/python -m ensurepip >/dev/null && $(BIN)/python -m pip install -q "uv==$(UV_VERSION)"; }
	@echo "installing $$(grep -c == requirements.lock) locked packages into $(VENV)"
	@$(BIN)/python -m uv pip install -q --exact --python $(BIN)/python -r requirements.lock
	@$(BIN)/python -m uv pip install -q --no-deps --no-build-isolation --python $(BIN)/python -e .
	@touch $@

demo: $(STAMP)  ## land the year 2017, materialise the whole graph, print what was made
	@$(BIN)/mlp demo

ui: $(STAMP)  ## open Dagster at http://127.0.0.1:3000 over the same instance
	@$(BIN)/mlp ui

live: $(STAMP)  ## replay the year with every sensor on (SPEED=seconds a day or max, HEADLESS=1, FROM=, UNTIL=)
	@ML_PLATFORM_HOME=$${ML_PLATFORM_HOME:-$(CURDIR)/.home-live} $(BIN)/mlp live --speed $(or $(SPEED),3) \
	  $(if $(HEADLESS),--headless) $(if $(FROM),--from $(FROM)) $(if $(UNTIL),--until $(UNTIL))

test: $(STAMP) lint types  ## every check and every test
	@$(BIN)/python -m pytest

impact: $(STAMP)  ## what the working tree changes, as Markdown for a pull request (BASE=a git ref)
	@$(BIN)/mlp impact $${BASE:+--base="$$BASE"}

catalog: $(STAMP)  ## write catalog.html: lineage and features of this home as one page (OUT=another file)
	@$(BIN)/mlp catalog $${OUT:+--out="$$OUT"}

bench: $(STAMP)  ## measure, write benchmarks/results.json and the README's table
	@$(BIN)/python -m benchmarks

lint: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-cache --no-logo

types: $(STAMP)
	@$(BIN)/pyright

lock:  ## resolve pyproject.toml into requirements.lock (needs the environment once; then `make test`)
	@sed -i '/^torch==/d' requirements.lock  # its pin lost the +cpu below, and would be met by the CUDA build
	@$(BIN)/python -m uv pip compile pyproject.toml --group dev --python-version 3.11 --no-annotate --no-header \
	  --no-emit-index-url --no-emit-find-links --quiet -o requirements.lock
	@sed -i 's/^\(torch==[0-9.]*\)+cpu$$/\1/' requirements.lock

clean:  ## remove the environment and everything the demo made
	@rm -rf $(VENV) .home .home-live
