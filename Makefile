# Everything runs through here, each with one command; the first one sets up .venv (a few minutes).
#
#   make demo                            make a short clip of a face, edit it, show both
#   make demo CLIP=clip.mp4              the same with your own clip
#   make edit CLIP=clip.mp4 ATTR=smile   edit a clip or picture; OUT=result.mp4, ARGS="--json ..."
#   make test                            the tests that CI runs; TESTS=tests/video for some of them,
#                                        WORKERS=0 without worker processes
#   make test-all                        also the slow ones and those that need a GPU
#   make lint                            format, ruff, mypy, import contracts
#   make format                          let ruff rewrite the files
#   make clean                           remove caches and the environment; packs and runs stay

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
ATTR ?= smile
TESTS ?= tests
# Processes that run tests, 0 is make's own, which then share files out (tests/conftest.py).
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN || echo 1); echo $$((n < 2 ? 0 : 2)))
# Values reach the recipes through the environment, so that paths with spaces stay whole.
export CLIP ATTR OUT

# The first interpreter that is new enough and can make environments.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	if $$p -c '$(USABLE)' >/dev/null 2>&1; then echo $$p; break; fi; done)

# One thread per process: two OpenMP threads that share cores with other work were up to 7x slower.
# Without the malloc limits glibc returns every large activation to the system and asks for it
# again (7 to 20 % of the time of an inversion); 32 MiB is the largest mmap threshold that every glibc accepts.
THREADS := OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=536870912

PYTEST := $(THREADS) $(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder

.PHONY: demo edit test test-all lint format setup setup-dev clean help

help:
	@sed -n 's/^#   //p' Makefile

demo: setup
	$(BIN)/vidinv demo $${CLIP:+"$$CLIP"}

edit: setup
	@test -n "$$CLIP" || { echo 'usage: make edit CLIP=clip.mp4 ATTR=smile [OUT=result.mp4]' >&2; exit 2; }
	@mkdir -p out
	@name=$$(basename -- "$$CLIP"); stem=$${name%.*}; \
	case "$${name,,}" in *.png|*.jpg|*.jpeg|*.webp) kind=$${name##*.};; *) kind=mp4;; esac; \
	$(BIN)/vidinv edit "$$CLIP" -o "$${OUT:-out/$${stem}_edited.$$kind}" --attr "$$ATTR" $(ARGS)

test: setup-dev
	$(PYTEST) -m "not slow and not gpu" $(TESTS)

test-all: setup-dev
	$(PYTEST) $(TESTS)

lint: setup-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'needs Python 3.11 or newer with venv (Debian: apt install python3-venv)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Order-only, because pip itself rewrites the environment's folder.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,train]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find vidinv pipelines training tests -name __pycache__ -prune -exec rm -rf {} +
