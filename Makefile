# The two commands of a fresh machine are `make demo` and `make test`; each sets up what it needs. See README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup setup-dev peers demo test lint bench disturbances conformance fuzz soak clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "guantong needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "This Python has no venv. On Debian and Ubuntu: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/core: $(VENV)/made requirements.lock package-lock.json pyproject.toml
	@echo "Installing guantong (first time about a minute) ..."
	$(BIN)/python -m pip install -q --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --require-hashes -r requirements-build.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	$(BIN)/python scripts/build_pages.py
	@touch $@

$(VENV)/dev: $(VENV)/core requirements-dev.lock
	@echo "Installing the tools of tests and lint ..."
	$(BIN)/python -m pip install -q --require-hashes -r requirements-dev.lock
	@touch $@

setup: $(VENV)/core ## Install guantong and what the demo needs into .venv

setup-dev: $(VENV)/dev ## The same with the tools of tests and lint

peers: setup-dev ## Servers and verifiers from npm that tests talk to, under tests/peers (Node comes from a PyPI wheel)
	@cmp -s tests/peers/package-lock.json tests/peers/node_modules/made || { PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix tests/peers ci --ignore-scripts --no-audit --no-fund --loglevel=error && cp tests/peers/package-lock.json tests/peers/node_modules/made; }

demo: setup ## Two companies, simulated machines, the whole journey
	$(BIN)/guantong demo

test: setup-dev ## All tests; a foreign tool that is absent is skipped by name
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: setup-dev ## Format, rules, types, import order, documents
	$(BIN)/ruff format --check src tests bench examples scripts
	$(BIN)/ruff check src tests bench examples scripts
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup-dev ## Side-by-side measurements (minutes)
	$(BIN)/python -m bench

disturbances: peers ## Twelve disturbances of the field, with what was lost in each (two minutes; python -m bench.disturbances --full for the long forms)
	$(BIN)/python -m bench.disturbances

conformance: setup-dev ## The field's conformance kits
	$(BIN)/python -m tests.conformance

fuzz: setup-dev ## Every parser of machine data, 30 s each
	$(BIN)/python -m tests.fuzz

soak: setup-dev ## 10,000 seeds of two simulated nodes
	$(BIN)/python -m tests.simulation --seeds 10000

clean: ## Remove .venv and everything built
	rm -rf $(VENV) build dist node_modules src/guantong/web/static/vendor
