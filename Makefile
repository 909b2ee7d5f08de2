# Each target does all of its own set-up: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow quality style clean

demo: $(STAMP)  ## train ERM and GERNE on a small grammar, and print one table
	$(BIN)/accelerate launch recipes/multinli.py --demo

test: $(STAMP)  ## the tests, without the slow ones
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(STAMP)  ## all tests
	$(BIN)/python -m pytest

quality: $(STAMP)  ## what CI checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: $(STAMP)  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) outputs build dist .pytest_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@
