# make demo   train CAE1 on the embedded photographs, export it, score it beside the baselines
# make test   run the test suite
# make lint   check style and types
# All three set up .venv first, unless it is there already.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

# A changed recipe is another run.
DEMO := runs/demo/$(firstword $(shell cksum < recipes/cae1-demo.toml))

# Where Python is told to keep nothing that it has compiled, as in many containers, every command
# would compile TensorFlow anew, for 20 seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint clean

demo: .venv/demo-installed
	$(BIN)/kfeat train cae1 --recipe cae1-demo --output $(DEMO) --resume
	exported=$$($(BIN)/python -c 'import json; print(json.load(open("$(DEMO)/results.json"))["saved_model"])') && \
	$(BIN)/kfeat score --model "$$exported" --model pixels --model pca128 --test photos

test: .venv/test-installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: .venv/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Python compiles a file when it is first imported: a quarter of those in these packages ever are.
.venv/demo-installed: setup.cfg pyproject.toml | .venv/made
	$(BIN)/pip install --quiet --no-compile --editable .
	touch $@

.venv/test-installed: setup.cfg pyproject.toml | .venv/made
	$(BIN)/pip install --quiet --no-compile --editable '.[test]'
	touch $@ .venv/demo-installed

.venv/made:
	$(PYTHON) -m venv --clear .venv
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
