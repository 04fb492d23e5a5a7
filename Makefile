# What there is to do here. Each is one program; `make run` on a bare machine sets up all it needs.
.PHONY: run test check bench package

PYTHON := .venv/bin/python
SET_UP := python3 -B -m local.install

run:
	@$(SET_UP) && exec $(PYTHON) -m local

test:
	@$(SET_UP) tests && $(PYTHON) -m pytest

check:
	@$(SET_UP) tests && $(PYTHON) -m ruff format --check . && $(PYTHON) -m ruff check . && $(PYTHON) -m mypy .
	@$(PYTHON) -m pytest

bench:
	@$(SET_UP) tests && $(PYTHON) -m benchmarks

package:
	@$(SET_UP) && $(PYTHON) -m infra.package
