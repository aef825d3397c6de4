# Everything a person types. Each target sets itself up: it needs python3 (3.11 or newer), make and git.
#   make test PYTHON=python3.13     another interpreter (then `make clean` first)
#   make replay ONLY=jinja2        the releases with this in their name (JOBS=2: two at once)

PYTHON ?= python3
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

.PHONY: test
test: .venv/ready ## all tests, on one Python
	@$(BIN)/python -c 'import sys; print("Python", sys.version.split()[0], sys.executable)'
	$(PYTEST) -n2 -m "not e2e and not network"
	$(PYTEST) -m "e2e and not network"

.PHONY: demo
demo: .venv-demo/ready ## a live shop gets fixes under load
	@.venv-demo/bin/python -m demo_app.drive

.PHONY: replay
replay: .venv/ready ## real releases go into a live process, their own tests judge (fetches packages)
	@$(BIN)/python -m tests.releases.replay -j$(or $(JOBS),1) $(ONLY)

.PHONY: bench
bench: .venv/ready-bench ## the figures, each beside its baseline
	$(BIN)/python benchmarks/run.py

.PHONY: lint
lint: .venv/ready-lint .venv/ready-bench ## style, import direction, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy --python-executable $(BIN)/python
	$(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: clean
clean: ## remove what these targets and nox made
	rm -rf .venv .venv-demo .nox .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist

# A venv is made anew when pyproject.toml changes; `ready` is written last, so a broken set-up is never used.
define make_venv
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("zdpatch needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another: make $(MAKECMDGOALS) PYTHON=python3.13" % sys.version_info[:2])'
	@echo "setting up $(1) with $(PYTHON) (once, and after changes of pyproject.toml)"
	@$(PYTHON) -m venv --clear $(1)
	@$(1)/bin/python -m pip install --quiet --upgrade pip
	@$(1)/bin/python -m pip install --quiet --editable . --group $(2)
	@touch $(1)/ready
endef

.venv/ready: pyproject.toml
	$(call make_venv,.venv,test)

.venv-demo/ready: pyproject.toml
	$(call make_venv,.venv-demo,demo)

.venv/ready-%: .venv/ready
	@.venv/bin/python -m pip install --quiet --group $*
	@touch $@
