# make demo   train CAE1 on the embedded photographs, export it, score it beside the baselines
# make test   run the test suite
# make lint   check style and types
# All three set up .venv first, unless it is there already.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/demo-installed
	$(BIN)/kfeat train cae1 --recipe cae1-demo --output runs/demo --resume
	$(BIN)/kfeat score --model cae1 --model pixels --model pca128 --test photos

test: .venv/test-installed
	$(BIN)/python -m pytest

lint: .venv/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/demo-installed: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/test-installed: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@ .venv/demo-installed

.venv/bin/python:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
