# Everything lives in .venv and .cache inside the checkout; `make clean` takes it away again.
# Kept to what GNU make 3.81 knows, the one macOS ships.

SHELL := /bin/sh
PY := .venv/bin/python
READY := .venv/.ready
ARGS ?=

# Tried by running them, because a version manager may put commands on PATH that only print an error; and one
# without venv and ensurepip is passed over. `make setup PYTHON=...` names another.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
  && { echo $$p; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos bench-lifecycle bench-store dev production lint format record-histories clean servers FORCE

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

setup: servers ## Make .venv, get the Temporal server and ffmpeg (2 minutes; 6 if Temporal must be built)

demo: servers ## Render a film on this machine, with failures on the way
	@$(PY) examples/demo.py $(ARGS)

test: $(READY) ## Run all tests; ARGS="-k word" narrows them
	@$(PY) devserver.py --install || echo "Going on without it: the tests that need it say so."
	@$(PY) -m deploy.production --install || echo "Going on without it: the tests that need it say so."
	@$(PY) -m pytest $(ARGS)

# One after the other and with their output shown: what they print are measurements.
chaos: servers ## Kill, cut and cancel for 25 minutes, and print the figures; ARGS="-k word" narrows it
	@$(PY) -m pytest -m chaos -s -v $(ARGS)

bench-lifecycle: servers ## Measure cancel, pause, freeze and kills (4 minutes); ARGS="--runs N"
	@$(PY) benchmarks/lifecycle.py $(ARGS)

bench-store: $(READY) ## Measure a bucket beside mc, with 5,000 small files and one of 5 GB; ARGS="--small N"
	@$(PY) benchmarks/store.py $(ARGS)

dev: servers ## Run a worker with a Temporal server of its own; Ctrl-C stops both
	@$(PY) worker.py --dev $(ARGS)

production: servers ## Run a farm like docker-compose.yml's, without containers; ARGS="--workers 3"
	@$(PY) -m deploy.production $(ARGS)

lint: $(READY) ## Check style and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(READY) ## Put the code into the house style
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

record-histories: servers ## Record the workflow histories that the replay tests play back
	@$(PY) tests/replay/record.py $(ARGS)

clean: ## Remove .venv, .cache and what the tools left behind; rendered films stay
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist client/longtake.egg-info

servers: $(READY)
	@$(PY) devserver.py --install

# An editable install and a venv hold absolute paths: a checkout that was moved is set up anew.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
$(READY): FORCE
endif
$(READY): pyproject.toml constraints.txt
	@python="$(PYTHON)"; \
	if [ -z "$$python" ]; then \
	  echo "Longtake needs Python 3.11 or later with its venv module: install it (Debian and Ubuntu:" \
	    "python3 and python3-venv), or name yours with 'make setup PYTHON=/path/to/python'." >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	  echo "PYTHON=$$python does not run, or is older than Python 3.11." >&2; exit 1; \
	fi; \
	if ! $(PY) -m pip --version >/dev/null 2>&1; then \
	  echo "Making .venv with $$("$$python" --version)."; \
	  rm -rf .venv; \
	  "$$python" -m venv .venv || { rm -rf .venv; \
	    echo "$$python cannot make a virtual environment: install its venv module (Debian and Ubuntu: python3-venv)." >&2; \
	    exit 1; }; \
	fi
	@echo "Installing the dependencies into .venv: about 1 minute the first time."
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' || { \
	  echo "The dependencies could not be installed: is a Python package index within reach?" >&2; exit 1; }
	@echo "$(CURDIR)" > $(READY)

FORCE:
