# Every command of the project. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Versions and hashes only: no index addresses, and never the project itself.
LOCK = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --no-header --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	--no-allow-unsafe --unsafe-package shortlist

.PHONY: help setup proto lock lint demo test test-docker fuzz chaos audit clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: $(READY) ## make the virtual environment with everything in it

$(READY): requirements/dev.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

proto: $(READY) ## regenerate the Python code of proto/
	$(BIN)/python proto/generate.py

lock: ## resolve pyproject.toml into requirements/*.lock again
	@test -x $(BIN)/pip-compile || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet pip-tools; }
	$(LOCK) --extra dev --output-file requirements/dev.lock pyproject.toml
	$(LOCK) --extra trainer --extra model-server --constraint requirements/dev.lock --output-file requirements/trainer.lock pyproject.toml
	$(LOCK) --extra query-service --constraint requirements/dev.lock --output-file requirements/query-service.lock pyproject.toml
	$(LOCK) --extra benchmarks --constraint requirements/dev.lock --output-file requirements/benchmarks.lock pyproject.toml

lint: $(READY) ## run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

demo: $(READY) ## train on MovieLens 100K, serve, ask (DATA_DIR=..., KEEP=1 to leave the servers up)
	@$(BIN)/python examples/demo.py $(if $(DATA_DIR),--data-dir $(DATA_DIR)) $(if $(KEEP),--keep)

test: lint ## every check and test
	$(BIN)/python -m pytest

test-docker: $(READY) ## only the tests of the compose stack
	$(BIN)/python -m pytest -m docker

fuzz: $(READY) ## coverage-guided fuzzing of requests, answers of the model server and files; some minutes
	$(BIN)/python -m tests.fuzz all

audit: ## known vulnerabilities of the locked packages, from osv.dev (needs network; not in make test)
	@test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && build/audit/bin/python -m pip install --quiet pip-audit; }
	@build/audit/bin/python -c "import requests; requests.head('https://api.osv.dev', timeout=10)" 2>/dev/null \
		|| { echo "error: nothing was audited: api.osv.dev cannot be reached" >&2; exit 1; }
	@clean=true; for lock in requirements/*.lock; do echo "$$lock"; \
		build/audit/bin/pip-audit --vulnerability-service osv --disable-pip --require-hashes \
			--progress-spinner off --requirement $$lock || clean=false; \
	done; $$clean

chaos: $(READY) ## harm the processes under load and measure (ONLY="drain redis", CHAOS_ARGS="--soak-s 60")
	@$(BIN)/python -m benchmarks.chaos $(ONLY) $(CHAOS_ARGS)

clean: ## remove what the commands above have made
	rm -rf $(VENV) build models *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
