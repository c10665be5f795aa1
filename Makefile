# Every target makes the environment that it needs; an environment that stands is known again in a moment.

PYTHON ?= python3
ENVIRONMENT = $(PYTHON) scripts/environment.py
BIN = .venv/bin

.DEFAULT_GOAL = help
COMPOSE = docker compose -f deploy/docker-compose.yml

.PHONY: help install run up down test test-vllm test-containers bench lint format clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## Make the core environment (.venv) and the embedded engine (.venv-inference)
	@$(ENVIRONMENT) core inference

run: install ## Start the fleet, ask a first mission, open the console
	@$(BIN)/batos run

up: ## Bring the fleet up in containers, and wait until every one is healthy
	$(COMPOSE) up --build --detach --wait
	@echo 'ask it: $(COMPOSE) run --rm console ask "What is a tide?"'

down: ## Take the containers down; the mind (their volumes) stays
	$(COMPOSE) --profile '*' down --remove-orphans

test: ## Run unit, integration and end-to-end tests, with the real embedded model
	@$(ENVIRONMENT) dev inference forge
	@scripts/debian_packages.sh 'postgresql=/usr/lib/postgresql/*/bin/initdb'
	$(BIN)/pytest libs services scripts
	$(BIN)/pytest tests/integration
	$(BIN)/pytest tests/end_to_end

test-vllm: ## Run the engine suite over vLLM's CPU build (3.5 GB in .venv-vllm)
	@$(ENVIRONMENT) dev inference vllm
	$(BIN)/pytest tests/vllm

test-containers: ## Run the fleet in containers; check what Kubernetes, Prometheus and Grafana are given
	@$(ENVIRONMENT) dev inference
	@scripts/debian_packages.sh prometheus=promtool
	$(BIN)/pytest tests/containers

bench: ## Measure the image: reads and calls against plain Python, sizes up to a million objects
	@$(ENVIRONMENT) dev
	$(BIN)/python benchmarks/uvm_read.py
	$(BIN)/python benchmarks/image_size.py

lint: ## Check style, types and layers
	@$(ENVIRONMENT) dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy libs/*/src services/*/src scripts/*.py deploy/observability/*.py
	$(BIN)/lint-imports

format: ## Bring the code into its form
	@$(ENVIRONMENT) dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove environments and caches; the mind (var/) stays
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find libs services scripts tests deploy -name __pycache__ -type d -prune -exec rm -rf {} +
