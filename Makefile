# The daily verbs; `make` lists them.

.DEFAULT_GOAL := help
.PHONY: help install test slow style judge types signatures check ci demo wheel clean

help:  ## list the verbs
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

install:  ## install with everything that development needs
	python -m pip install -e '.[dev]'

test:  ## run the tests, on all cores
	python -m pytest -n auto

slow:  ## run the slow tests
	python -m pytest -m slow

style:  ## fix what can be fixed, and format
	ruff check --fix .
	ruff format .

judge:  ## judge formats and style, and change nothing
	ruff check .
	ruff format --check .

types:  ## check the types
	mypy

signatures:  ## write the options of lla_func/options into the functions that take them
	python .ci/signatures.py

check: judge types test  ## what to run before a commit; it changes no file

ci:  ## what CI runs: everything, in a fresh virtual environment
	.ci/run

demo:  ## the landscape of the bundled LeNet
	lla eval --all_modes --name quickstart

wheel:  ## build the wheel into dist/
	python -m build --wheel

clean:  ## remove what tools leave behind
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
