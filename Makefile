# Two commands matter: `make chat` talks, `make test` checks everything that CI checks.
# No virtual environment need be active; everything lands in .venv, at the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: chat test check wheel-check reproduce clean

chat: $(VENV)/.installed
	@$(BIN)/chatbot db upgrade --quiet
	@$(BIN)/chatbot chat

test: $(VENV)/.installed-test check
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel-check: $(VENV)/.installed-test
	$(BIN)/python tests/wheel_check.py

# Every system of docs/family.md, for hours; DATA names the folder of the files that are not ours.
reproduce: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.family $(if $(DATA),--data $(DATA)) --write docs/family.md

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "familect needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 chat")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV); the first time this takes a few minutes." >&2
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	@touch $@
