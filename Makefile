# The targets set up what they need in .venv; nothing else is installed.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 7860
PACKAGES := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
# a worker more than there are cores, for tests that wait; each with one thread for its products
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PARALLEL := --numprocesses $(WORKERS) --maxprocesses 8 --dist loadgroup
test test-fast test-stores test-engines: export OMP_NUM_THREADS ?= 1
# compiled once, not by each of the processes that the tests start
test test-fast test-stores test-engines: export PYTHONDONTWRITEBYTECODE =

.PHONY: quickstart demo test test-fast test-stores test-engines check format docs setup

quickstart: setup
	@$(BIN)/python scripts/quickstart.py

demo: setup
	@$(BIN)/python scripts/demo.py --port $(PORT)

test: setup
	$(BIN)/python -m pytest $(PARALLEL)

test-fast: setup
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

# vector stores whose clients are many and large, in an environment of their own; `make test` has the others
test-stores: .venv-stores/installed
	.venv-stores/bin/python -m pytest $(PARALLEL) -k "not qdrant and not sqlite" tests/contracts/test_stores.py tests/test_store_details.py tests/test_store_servers.py

# Ray Data and Spark, which are large and take every core: one after the other
test-engines: .venv-engines/installed
	.venv-engines/bin/python -m pytest -o faulthandler_timeout=1800 tests/test_engines.py

check: test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: setup
	$(BIN)/python scripts/write_docs.py

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@echo "Setting up .venv (a few minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# they find in .venv what is installed there
.venv-stores/installed .venv-engines/installed: .venv-%/installed: .venv/installed
	@echo "Setting up .venv-$* (a minute the first time)"
	@$(PYTHON) -m venv .venv-$*
	@$(BIN)/python $(PACKAGES) > "$$(.venv-$*/bin/python $(PACKAGES))/of_venv.pth"
	@.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev-$*]'
	@touch $@
