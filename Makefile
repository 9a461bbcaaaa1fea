# make demo    the whole path on real input           make test      all checks, under ten minutes
# make test-all   with the slow proofs                 make clean     remove what these targets made
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := requirements/constraints-$(VERSION).txt
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-all lint types bench clean

demo: $(STAMP)
	$(BIN)/pascal-nm demo

test: lint types
	$(BIN)/python -m pytest

test-all: lint types
	$(BIN)/python -m pytest -m ''

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Lava 0.10.0 declares Python 3.10 only, and is archived: it is installed without its dependencies, which come first.
$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c $(CONSTRAINTS) -e '.[data,dev]' 'asteval<0.10' scipy networkx
	$(PIP) install -q --no-deps --ignore-requires-python lava-nc==0.10.0
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
