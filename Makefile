# Two commands matter: `make demo` and `make test`. Both install what they need into .venv first. `make test-all` adds the
# slow tests, `make bench` runs every benchmark at a tiny size.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test test-all slow check format unit bench embedded docs site clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Turnout needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt $(if $(PIP_INDEX),--index-url $(PIP_INDEX)) torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[align,dev,docs,ray,trl]'
	@touch $@

demo: install
	$(BIN)/turnout audit --answers --out runs/demo

test: check unit

test-all: test slow

slow: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

unit: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	$(BIN)/python benchmarks --smoke

docs: install
	$(BIN)/python -m turnout.cli.docs > docs/reference/cli.md
	$(BIN)/python docs/tree.py
	$(BIN)/python docs/python_page.py

site: docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo site/index.html

# Downloads the corpora, trains the tokenizer and the embedded model (over an hour on one core), writes docs/findings/embedded.md.
embedded: install
	$(BIN)/python -m turnout.embedded.build

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist site
