# Both commands work on a fresh machine with Python 3.11 or later: they make a virtual environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test bench reproduce clean

demo: $(VENV)/.installed
	$(BIN)/slth demo --output demo

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

# Half an hour; make bench ARGS="--no-rivals --seconds 0.1" is done in two minutes.
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/subset_sum.py $(ARGS)

# Every table and figure at its quick scale; make reproduce ARGS="--scale paper" takes hours.
reproduce: $(VENV)/.installed
	$(BIN)/slth reproduce --all --output reproduced $(ARGS)

# torch comes first, by itself: an unpinned torch pulls gigabytes of GPU libraries.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[all]"
	touch $@

clean:
	rm -rf $(VENV) demo build
