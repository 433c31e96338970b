# `make check` runs what every change must pass; `make test` adds the real parts.
# Both use the checkout's own .venv when ./test or ./demo has made it.

BIN := $(if $(wildcard .venv/bin/python),$(CURDIR)/.venv/bin/,)
PYTHON := $(if $(BIN),$(BIN)python,python3)
PYTEST := $(PYTHON) -m pytest

.PHONY: check test format lint types layers unit integration simulation clean

check: lint types layers unit

test: check integration simulation

format:
	$(PYTHON) -m ruff check --quiet --fix .
	$(PYTHON) -m ruff format --quiet .

lint:
	$(PYTHON) -m ruff check --quiet .
	$(PYTHON) -m ruff format --quiet --check .

types:
	$(PYTHON) -m mypy

layers:
	$(BIN)lint-imports --no-logo

unit:
	$(PYTEST)

integration:
	$(PYTEST) -m integration

simulation:
	$(PYTEST) -m simulation

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
