# Every target makes .venv and installs what it needs, with the versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
PACKAGE := $(BIN)/.installed
EVERYTHING := $(BIN)/.installed-all
CODEC_TESTS := $(addprefix tests/test_,$(addsuffix .py, \
	compat_torchvision exact gradients kernel_gradients kernels kinks native native_soft pytorch rate_models \
	surrogates tables))
# What the tests there run beside: a torchvision belongs to one torch.
BESIDE_newest := torchvision
CPP := $(wildcard src/jpegrad/backends/native/cpp/*)
BUILT_FROM := pyproject.toml setup.py constraints.txt $(CPP)

.PHONY: demo test test-newest test-oldest test-slow test-gpu fuzz bench paper lint format docs notebooks wheel clean

demo: $(PACKAGE)  ## the main job on real photographs, as an HTML report
	$(BIN)/jpegrad demo

test: $(EVERYTHING)  ## the fast tier
	$(BIN)/python -m pytest -m "not slow and not gpu" -n 2

# Values and gradients on the newest PyTorch, and on the oldest versions that pyproject.toml accepts (Python 3.11).
test-newest test-oldest: test-%: .venv-%/bin/.installed
	.venv-$*/bin/python -m pytest -m "not slow and not gpu" -n 2 $(CODEC_TESTS)

test-slow: $(EVERYTHING)  ## the exhaustive tier
	$(BIN)/python -m pytest -m "slow and not gpu" -n 2

test-gpu: $(EVERYTHING)  ## fails, rather than skips, without a CUDA device
	REQUIRE_GPU=1 $(BIN)/python -m pytest -m gpu

fuzz: $(EVERYTHING)  ## 20,000 damaged files in both entropy decoders, and the kernel with poison around its buffers
	$(BIN)/python -m tests.fuzz.fuzz_read --count 20000 --workers 2
	$(BIN)/python -m tests.fuzz.native
	$(BIN)/python -m tests.fuzz.decoders

bench: $(EVERYTHING)  ## how fast, beside the peers
	$(BIN)/python -m jpegrad_studies.speed

paper: $(EVERYTHING)  ## a small version of every study, in minutes; goes on where it was interrupted
	$(BIN)/python -m jpegrad_studies

lint: $(EVERYTHING)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/mypy

format: $(EVERYTHING)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

docs: $(EVERYTHING)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: $(EVERYTHING)  ## the recipes as notebooks, executed
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[notebooks]"
	$(BIN)/python docs/notebooks.py

wheel: $(PACKAGE)
	rm -rf build
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

clean:
	rm -rf .venv .venv-newest .venv-oldest build dist site src/*.egg-info src/jpegrad/backends/native/_kernel.* .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv-newest/bin/.installed .venv-oldest/bin/.installed: .venv-%/bin/.installed: constraints-%.txt $(BUILT_FROM)
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --constraint $< --editable ".[test]" $(BESIDE_$*)
	touch $@

$(PACKAGE): $(BUILT_FROM) | $(BIN)/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[cli]"
	touch $@

$(EVERYTHING): $(BUILT_FROM) | $(BIN)/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[all]"
	touch $(PACKAGE) $@
