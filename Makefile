.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format compile bundle images test-images clean
PYTHON_IN_VENV := .venv/bin/python

help:  ## Show this screen
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup:  ## Make .venv with the pinned dependencies (the other targets do it when needed)
	@scripts/set_up.sh

demo: setup  ## Publish two messages: a classifier is trained, and new texts are classified, all on this machine
	@$(PYTHON_IN_VENV) -m examples.demo

test: lint  ## Run every check and every test
	@$(PYTHON_IN_VENV) -m pipelines.compile --check
	@$(PYTHON_IN_VENV) -m pipelines.lint compiled
	@$(PYTHON_IN_VENV) -m pytest -n 2 --dist loadfile

lint: setup  ## Check style and types only
	@$(PYTHON_IN_VENV) -m ruff check .
	@$(PYTHON_IN_VENV) -m ruff format --check .
	@$(PYTHON_IN_VENV) -m mypy

format: setup  ## Format the code, and mend what can be mended by itself
	@$(PYTHON_IN_VENV) -m ruff check --fix .
	@$(PYTHON_IN_VENV) -m ruff format .

compile: setup  ## Compile the pipelines to compiled/*.json
	@$(PYTHON_IN_VENV) -m pipelines.compile

bundle: setup  ## Write what is deployed as the Cloud Run function to bundle/
	@$(PYTHON_IN_VENV) -m triggers.bundle --output bundle

images: setup  ## Build the images that steps run in, with docker, podman or buildah (BUILD_ARGS: its options)
	@$(PYTHON_IN_VENV) -m images.build $(IMAGES)

test-images: setup  ## Build the CPU image, and run compiled steps in it without a network
	@images/test.sh

clean:  ## Delete what the other targets made, but .venv
	@rm -rf out bundle build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
