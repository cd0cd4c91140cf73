# Every command of the project. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup proto lock lint demo test test-docker clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: $(READY) ## make the virtual environment with everything in it

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

proto: $(READY) ## regenerate the Python code of proto/
	$(BIN)/python proto/generate.py

lock: ## resolve pyproject.toml into requirements.lock again
	@test -x $(BIN)/pip-compile || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet pip-tools; }
	$(BIN)/pip-compile --quiet --extra dev --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --strip-extras --no-allow-unsafe --unsafe-package shortlist --output-file requirements.lock pyproject.toml

lint: $(READY) ## ruff and strict mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(READY) ## train on MovieLens 100K, serve, ask (DATA_DIR=..., KEEP=1 to leave the servers up)
	@$(BIN)/python examples/demo.py $(if $(DATA_DIR),--data-dir $(DATA_DIR)) $(if $(KEEP),--keep)

test: lint ## every check and test
	$(BIN)/python -m pytest

test-docker: $(READY) ## only the tests of the compose stack
	$(BIN)/python -m pytest -m docker

clean: ## remove what the commands above have made
	rm -rf $(VENV) build models *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
