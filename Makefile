# make        set everything up in .venv, the developers' tools too
# make check  set up, then lint, types, floors and the tests that take no time: while you work
# make test   set up, then lint, types, floors and all tests: before a change lands
# make demo   set up what a user needs, then ask a model a few questions and compare it with its
#             aligned counterpart
#             (MODEL=base.gguf, ALIGNED=chat.gguf, PROMPT=name-or-file)
# make fuzz   set up, then run the tests that change inputs at random for longer
# make bench  set up, then measure; figures go to benchmarks/results
# make harness  set up, then run the tests over lm-evaluation-harness, which is put into build/harness
#             (some 500 MB, no torch); without it they skip
# make real-models  fetch real models for the tests marked `real` (1.9 GB; REAL="gemma-3-270m
#             smollm2-135m" only these, 351 MB) into $URIAL_REAL_MODELS or the user's cache folder

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL ?=
ALIGNED ?=
REAL ?=
PROMPT ?=
# Multimodal projectors are a quarter of llama-cpp-python's build, and nothing here uses them.
export CMAKE_ARGS ?= -DLLAVA_BUILD=OFF
# On processors with AMX, llama.cpp's code for it ends the process (SIGILL) where GCC compiled it:
# the stores that fill in the tile configuration are left out (llama.cpp#26954). Build without it.
NO_AMX := -mno-amx-tile -mno-amx-int8 -mno-amx-bf16
NO_AMX := $(shell echo | $(CXX) $(NO_AMX) -x c++ -c -o /dev/null - 2>/dev/null && echo $(NO_AMX))
export CFLAGS := $(strip $(CFLAGS) $(NO_AMX))
export CXXFLAGS := $(strip $(CXXFLAGS) $(NO_AMX))

NATIVE := CMakeLists.txt pyproject.toml $(wildcard csrc/*)

.PHONY: all check test lint types floors pytest sanitize fuzz harness demo bench real-models clean
all: $(VENV)/.installed

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is incomplete; on Debian: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

# What a user needs. llama.cpp is compiled here once; pip keeps the wheel for the next time.
$(VENV)/.ready: $(VENV)/.created $(NATIVE)
	@$(BIN)/python tools/install.py serve
	@touch $@

# And what a developer needs.
$(VENV)/.installed: $(VENV)/.created $(NATIVE)
	@$(BIN)/python tools/install.py dev
	@touch $(VENV)/.ready $@

test: lint types floors pytest sanitize

check: lint types floors
	$(BIN)/python -m pytest -q -m "not slow and not real and not fuzz"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

floors: $(VENV)/.installed
	$(BIN)/lint-imports

pytest: $(VENV)/.installed
	$(BIN)/python -m pytest

# The kernel tests once more, over a native module that watches its own memory and arithmetic.
CXX_LIBRARY = $(shell $(CXX) -print-file-name=$(1))
sanitize: $(VENV)/.installed
	@$(BIN)/cmake -S . -B build/sanitize -G Ninja --log-level=ERROR -DURIAL_SANITIZE=ON \
	  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python \
	  -Dnanobind_DIR=$$($(BIN)/python -m nanobind --cmake_dir) >/dev/null
	@$(BIN)/cmake --build build/sanitize >/dev/null
	LD_PRELOAD="$(call CXX_LIBRARY,libasan.so) $(call CXX_LIBRARY,libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 $(BIN)/python -m pytest -q -s -p tests.sanitized \
	  -p no:cacheprovider tests/test_shift_rows.py tests/test_row_scores.py tests/test_draw_rows.py

fuzz: $(VENV)/.installed
	URIAL_FUZZ_ROUNDS=2000 $(BIN)/python -m pytest -m fuzz

demo: $(VENV)/.ready
	@$(BIN)/urial-local demo $(if $(MODEL),-m "$(MODEL)") $(if $(ALIGNED),--aligned "$(ALIGNED)") \
	  $(if $(PROMPT),-p "$(PROMPT)")

# In a folder of its own, since it brings other versions of what is in the environment.
harness: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --upgrade --target build/harness 'lm-eval[api]>=0.4.13'
	PYTHONPATH=$(abspath build/harness) $(BIN)/python -m pytest tests/test_lm_eval.py \
	  tests/test_serve_lm_eval.py

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

real-models: $(VENV)/.installed
	$(BIN)/python -m tools.real_models $(REAL)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
