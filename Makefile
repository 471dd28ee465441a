# Every target works on a fresh checkout with Python 3.11+ and make: what it needs is installed into .venv first,
# from the pinned and hashed requirements/dev.lock, and again only when those pins or the project files change.

PYTHON ?= python3
TEST_WORKERS ?= 2
TESTS ?= tests

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTO_OUT := clients/python/torana/v1

# The tools run from .venv, whatever is active, installed or set where make was called.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1
WITH_TOOLS := PATH="$(CURDIR)/$(BIN):$$PATH"

# A virtual environment holds its own address, so one that was moved or copied is emptied and made anew.
MADE_IN := $(shell cat $(STAMP) 2>/dev/null)
ifneq ($(MADE_IN),$(CURDIR))
.PHONY: $(STAMP)
VENV_FLAGS := $(if $(MADE_IN),--clear)
endif

.PHONY: help demo test simulate lint format proto docs site bench lock clean
.DEFAULT_GOAL := help

help: ## say what there is to make
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(STAMP) ## run the main job on real data, on a real PostgreSQL and Valkey that it starts itself
	$(BIN)/torana demo

test: $(STAMP) ## run every test (TESTS=path for some, TEST_WORKERS=n processes)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) $(TESTS)

# Any number of seeds, or one of them again with everything that happened in it.
SEEDS ?= 2000
simulate: $(STAMP) ## hold the engine's promises in simulated disasters (SEEDS=100000, SEED=7 to see one)
	PYTHONPATH=tests $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

lint: $(STAMP) ## check style, types, the proto contract and the Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/buf lint
	$(BIN)/buf format --exit-code --diff --path proto/torana
	$(WITH_TOOLS) $(BIN)/python tools/check_breaking.py
	$(BIN)/hadolint Dockerfile

format: $(STAMP) ## rewrite Python and protos in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/buf format --write --path proto/torana

proto: $(STAMP) ## generate the code under clients/ from proto/
	rm -f $(PROTO_OUT)/*_pb2.py $(PROTO_OUT)/*_pb2.pyi $(PROTO_OUT)/*_pb2_grpc.py $(PROTO_OUT)/*_pb2_grpc.pyi
	$(WITH_TOOLS) $(BIN)/buf generate

docs: $(STAMP) ## write the reference parts of docs/ from the code and the contract
	$(BIN)/python tools/docs_reference.py

site: $(STAMP) ## build the documentation as a web site that needs no network, in build/site
	$(BIN)/python -m sphinx -b html -q -W --keep-going -d build/site-doctrees -c docs/site . build/site
	@echo "open build/site/index.html"

bench: $(STAMP) ## measure what docs/performance.md quotes
	$(BIN)/python -m benchmarks

# Pins that exist are kept; `make lock UPGRADE=--upgrade` takes the newest of everything.
UPGRADE ?=
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --no-emit-package torana --no-emit-package torana-server
# The smaller locks are subsets of dev.lock, so that what ships is what was tested.
SUBSET := $(COMPILE) --upgrade --constraint requirements/dev.lock

lock: $(STAMP) ## pin the dependencies of the pyproject.toml files into requirements/
	$(COMPILE) $(UPGRADE) pyproject.toml --all-extras --group dev -o requirements/dev.lock
	$(SUBSET) pyproject.toml --extra telemetry -o requirements/server.lock
	$(SUBSET) --group build -o requirements/build.lock

clean: ## remove .venv and everything built or cached
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements/dev.lock pyproject.toml clients/python/pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here. Install Python 3.11 or newer, \
	or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Torana needs Python 3.11 or \
	newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name a newer one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: \
	its modules venv and ensurepip are missing. Install them (on Debian and Ubuntu the package python3-venv)." >&2; exit 1; }
	@rm -f $(STAMP)
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation -e clients/python -e .
	@printf '%s' "$(CURDIR)" > $(STAMP)
