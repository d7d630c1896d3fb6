# Every target builds the environment it needs; each command is sufficient alone on a bare machine
# with Python >= 3.11 and pip.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
# Two test processes at most four, one thread each: the numbers of threads do not multiply.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile
# Python that keeps no bytecode compiles torch anew in every process: two thirds of each start.
unexport PYTHONDONTWRITEBYTECODE
# Bytecode of what is used, once: a user may have that variable set, and then each command would
# compile up to 1,900 modules again.
WARM := $(BIN)/python -m compileall -q src && $(BIN)/python -c 'import anndata, numba, pandas, \
  pyarrow.parquet, scipy.optimize, torch, batchsense.experiments, batchsense.training'
# For an index with CPU builds of torch: make PIP_EXTRA='--extra-index-url URL'
PIP_EXTRA ?=
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-compile -c constraints.txt $(PIP_EXTRA)

.DEFAULT_GOAL := all
.PHONY: all setup demo test check docs dist bench validate schemas help clean

all: check test ## check and test (bare `make`)

setup: $(STAMP) ## create .venv and install batchsense with everything

# Debian without python3-venv has no ensurepip: then the system's pip fills the environment.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "batchsense needs Python 3.11 or newer; set PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) 2>/dev/null \
	  || { $(PYTHON) -m venv --without-pip --clear $(VENV) \
	       && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@echo "Installing batchsense into $(VENV) (a few minutes the first time) ..."
	@$(PIP_INSTALL) -e '.[all,dev]'
	@$(WARM)
	@touch $@

demo: $(STAMP) ## the story on real data: a readable account and demo-report.html
	$(BIN)/batchsense demo -o demo-report.html --force

test: $(STAMP) ## the test suite, with doctests, README blocks and import contracts
	$(PYTEST) -m "not slow"

check: $(STAMP) ## lint, format, types and import contracts
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

$(DOCS_STAMP): $(STAMP)
	@$(PIP_INSTALL) -e '.[docs]'
	@touch $@

docs: $(DOCS_STAMP) ## the documentation in docs/_build/html
	$(BIN)/sphinx-build -W -n -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

dist: $(STAMP) ## wheel and source archive in dist/, and a check of both
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist . > /dev/null
	@$(BIN)/python .ci/check_dist.py dist

validate: $(STAMP) $(DOCS_STAMP) ## long statistical studies (about an hour)
	$(PYTEST) -m slow

bench: $(STAMP) ## every script under benchmarks/; results as JSON in benchmarks/results/
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

schemas: $(STAMP) ## rewrite what is made of the models: JSON schemas, tables of options
	@mkdir -p docs/schemas
	@for name in $$($(BIN)/batchsense schema); do \
	  $(BIN)/batchsense schema $$name > docs/schemas/$$name.json; done
	@$(BIN)/python docs/option_tables.py

clean: ## remove the environment and everything built
	rm -rf $(VENV) docs/_build dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile
