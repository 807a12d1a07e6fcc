# Everything from nothing but make and a Python >= 3.11: each target builds .venv first if it must.
# pip runs again only when pyproject.toml or constraints.txt changes.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PINS := pyproject.toml constraints.txt
DEMO := train,serve,demo
ALL := $(DEMO),redis,ray,tune,ann,dev

# pip leaves compiling to first use. Where that may not write, every command would compile for 25 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast lint bench clean

demo: .venv/for-demo  # from raw data to served lists
	$(BIN)/recsys demo

test: .venv/for-all  # every test, also those that train a model
	$(BIN)/python -m pytest -n auto --dist loadfile

test-fast: .venv/for-all
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

lint: .venv/for-all
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: .venv/for-all
	$(BIN)/python -m benchmarks.run

clean:  # what the targets above built; never data, runs or releases
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info

.venv/bin/pip:
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 found: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/for-demo: $(PINS) | .venv/bin/pip
	@echo "installing into .venv: some minutes and 2 GB the first time"
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[$(DEMO)]'
	@touch $@

.venv/for-all: $(PINS) | .venv/bin/pip
	@echo "installing into .venv: some minutes and 3 GB the first time"
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[$(ALL)]'
	@touch .venv/for-demo $@
