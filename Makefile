# The commands of the project. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= python3
# The supported versions of Python.
PYTHONS ?= 3.11 3.12 3.13
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Lock files contain versions and hashes: no index addresses, and not the project itself.
LOCK = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --no-header --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	--no-allow-unsafe --unsafe-package shortlist

# Run a command and print how long it took. Usage: $(call stage,NAME,COMMAND)
define stage
@start=$$SECONDS; $(2); status=$$?; \
	test $$status = 0 && outcome=passed || outcome="FAILED (status $$status)"; \
	echo "== $(1): $$outcome after $$((SECONDS - start)) s"; exit $$status
endef

.PHONY: help setup proto lock lint demo test test-pythons test-docker fuzz chaos audit clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: $(READY) ## create the virtual environment with all dependencies

$(READY): requirements/dev.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

proto: $(READY) ## regenerate the Python code in proto/
	$(BIN)/python proto/generate.py

lock: ## update requirements/*.lock after a change of pyproject.toml
	@test -x $(BIN)/pip-compile || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet pip-tools; }
	$(LOCK) --extra dev --output-file requirements/dev.lock pyproject.toml
	$(LOCK) --extra trainer --extra model-server --constraint requirements/dev.lock --output-file requirements/trainer.lock pyproject.toml
	$(LOCK) --extra query-service --constraint requirements/dev.lock --output-file requirements/query-service.lock pyproject.toml
	$(LOCK) --extra benchmarks --constraint requirements/dev.lock --output-file requirements/benchmarks.lock pyproject.toml

lint: $(READY) ## run ruff, mypy and import-linter
	$(call stage,ruff,$(BIN)/ruff check --quiet .)
	$(call stage,ruff format,$(BIN)/ruff format --quiet --check .)
	$(call stage,mypy,$(BIN)/mypy)
	$(call stage,import-linter,$(BIN)/lint-imports)

demo: $(READY) ## train on MovieLens 100K, serve and query it (DATA_DIR=...; KEEP=1 keeps the servers running)
	@$(BIN)/python examples/demo.py $(if $(DATA_DIR),--data-dir $(DATA_DIR)) $(if $(KEEP),--keep)

test: lint ## run every check and every test
	$(call stage,pytest,$(BIN)/python -m pytest)

test-pythons: ## run unit tests and a stack test on every supported Python (PYTHONS="3.12 3.13")
	@for version in $(PYTHONS); do start=$$SECONDS; .ci/test-python $$version || exit 1; \
		echo "== Python $$version: passed after $$((SECONDS - start)) s"; done

test-docker: $(READY) ## run only the tests of the compose stack
	$(BIN)/python -m pytest -m docker

fuzz: $(READY) ## fuzz requests, model server responses and input files for some minutes
	$(BIN)/python -m tests.fuzz all
	HYPOTHESIS_PROFILE=random $(BIN)/python -m pytest -m hypothesis

audit: ## check the locked packages for known vulnerabilities (needs network; not part of make test)
	@test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && build/audit/bin/python -m pip install --quiet pip-audit; }
	@build/audit/bin/python -c "import requests; requests.head('https://api.osv.dev', timeout=10)" 2>/dev/null \
		|| { echo "error: cannot reach api.osv.dev, so nothing was audited; connect to the network and try again" >&2; exit 1; }
	@clean=true; for lock in requirements/*.lock; do echo "$$lock"; \
		build/audit/bin/pip-audit --vulnerability-service osv --disable-pip --require-hashes \
			--progress-spinner off --requirement $$lock || clean=false; \
	done; $$clean

chaos: $(READY) ## inject faults under load and measure (ONLY="drain redis", CHAOS_ARGS="--soak-s 60")
	@$(BIN)/python -m benchmarks.chaos $(ONLY) $(CHAOS_ARGS)

clean: ## delete everything that these commands created
	rm -rf $(VENV) build models *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
