# make        set everything up in .venv
# make test   set up, then lint, types, floors and tests
# make demo   set up, then ask a model a few questions (MODEL=file.gguf, PROMPT=name-or-file)
# make bench  set up, then measure; figures go to benchmarks/results

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL ?=
PROMPT ?=
# Multimodal projectors are a quarter of llama-cpp-python's build, and nothing here uses them.
export CMAKE_ARGS ?= -DLLAVA_BUILD=OFF

NATIVE := CMakeLists.txt pyproject.toml $(wildcard csrc/*)

.PHONY: all test lint types floors pytest demo bench clean
all: $(VENV)/.installed

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed; set PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is incomplete; on Debian: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

# llama.cpp is compiled here once, which takes some minutes; pip keeps the wheel for the next time.
$(VENV)/.installed: $(VENV)/.created $(NATIVE)
	@echo "Installing urial-local; the first time this compiles llama.cpp (some minutes) …"
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

test: lint types floors pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

floors: $(VENV)/.installed
	$(BIN)/lint-imports

pytest: $(VENV)/.installed
	$(BIN)/python -m pytest

demo: $(VENV)/.installed
	@$(BIN)/python tools/demo.py "$(MODEL)" "$(PROMPT)"

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
