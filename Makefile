# Each target does all of its own set-up: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MIN_VENV := .venv-min
MIN_STAMP := $(MIN_VENV)/.installed
# Two at a time; the tests of a file share what they train.
PYTEST := python -m pytest -n 2 --dist loadfile
# Of the package alone, and branches too: settings in pyproject.toml.
COVERAGE := --cov --cov-report=term
# What `make test-min` leaves out. Where a build of torch of several GB is too much: MIN_EXCEPT="torch peers"
MIN_EXCEPT ?= peers

.PHONY: demo test test-slow test-min coverage quality style docs clean

demo: $(STAMP)  ## train ERM and GERNE on a small grammar, and print one table
	$(BIN)/accelerate launch recipes/multinli.py --demo

test: $(STAMP)  ## the tests and the examples in docstrings, without the slow ones
	$(BIN)/$(PYTEST) -m "not slow"

test-slow: $(STAMP)  ## all tests
	$(BIN)/$(PYTEST)

test-min: $(MIN_STAMP)  ## the tests, without the slow ones, with the lowest supported versions
	$(MIN_VENV)/bin/$(PYTEST) -m "not slow"

coverage: $(STAMP)  ## the same tests, and which lines and branches of gerne_hf they ran
	$(BIN)/$(PYTEST) -m "not slow" $(COVERAGE)

quality: $(STAMP)  ## what CI checks: style, types, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

style: $(STAMP)  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## the documentation site, in docs/_build/html; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf $(VENV) $(MIN_VENV) outputs build dist .coverage .pytest_cache .ruff_cache .mypy_cache .hypothesis docs/_build docs/_pictures docs/repository docs/api/*.rst

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

$(MIN_STAMP): pyproject.toml tests/support/lowest_versions.py
	$(PYTHON) -m venv $(MIN_VENV)
	$(MIN_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(MIN_VENV)/bin/python tests/support/lowest_versions.py pyproject.toml $(MIN_EXCEPT) > $(MIN_VENV)/lowest.txt
	$(MIN_VENV)/bin/python -m pip install --quiet -c $(MIN_VENV)/lowest.txt -e ".[test]"
	touch $@
