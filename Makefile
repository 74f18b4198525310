# Every target makes the virtual environment that it needs; nothing but Python 3.11 or later is assumed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKDIR ?= out

.PHONY: demo test test-slow lint format golden ci clean

demo: $(STAMP)  ## the quick start study: train, fit, report
	$(BIN)/python launch.py sweep --experiment=experiments/quickstart.py --workdir=$(WORKDIR)

test: $(STAMP)  ## the fast tests
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(STAMP)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow -n 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(STAMP)  ## rewrite the stored resolved configs; read the diff
	$(BIN)/python tests/golden.py

ci: lint test test-slow

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed; give one with make PYTHON=...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $(STAMP)

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache
