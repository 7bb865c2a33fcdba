# Every target sets up .venv by itself; the second time costs nothing.
PYTHON ?= python3
JOBS ?= 2
QUICK ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# -qq: errors only; a package index that is absent is not one.
# What decides what is installed: a change to either installs again.
PINS := pyproject.toml constraints.txt
EXTRAS := client,cloud,data,frames,heic,hub,mlflow,mqtt,onnx,postgres,ray,search,tensorboard,train,video,wandb
# One thread a test process: OpenMP threads of two processes spin against each other.
# A file stays in one process: what its fixtures train is trained once; in the order of the list, short files last.
# With byte code kept, the processes that the tests start need not compile the package.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check docs bench clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: .venv/installed  ## train, compare and use three models on drawn faces; QUICK=1 for the short form
	$(BIN)/facewright demo $(if $(QUICK),--quick)

test: .venv/developing  ## the tests, without the slow ones and those that need real photos
	$(PYTEST) -m "not slow and not realdata and not gpu and not network"

test-all: .venv/developing  ## all tests; what a test lacks makes it skip and say so
	$(PYTEST)

check: docs  ## lint, format, types, workflows, the documentation site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github

docs: .venv/developing  ## build the documentation site into build/site; a warning is an error
	@mkdir -p build && $(BIN)/zensical build --clean --strict > build/docs.log 2>&1 && ! grep griffe build/docs.log || { cat build/docs.log; exit 1; }

bench: .venv/developing  ## measure against the plain loop; wants an otherwise idle machine
	$(BIN)/python benchmarks/run.py

clean:  ## remove what make and the tests made, .venv too
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# pip itself comes first: the one that ships with Python 3.11 cannot read dependency groups.
.venv/pip: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11; name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install -qq --constraint constraints.txt --upgrade pip
	@touch $@

.venv/installed: .venv/pip $(PINS)
	@echo "Installing Facewright into .venv (about two minutes the first time)" >&2
	$(PIP) install -qq --constraint constraints.txt --build-constraint constraints.txt --editable '.[train]'
	@touch $@

.venv/developing: .venv/installed $(PINS)
	$(PIP) install -qq --constraint constraints.txt --build-constraint constraints.txt --editable '.[$(EXTRAS)]' --group dev
	@touch $@
