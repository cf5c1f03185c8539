# Everything that is done here goes through scripts/, which also run on their own.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-long fuzz mutants loom-mutants build lint lint-comments bench-core bench-redis setup clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## set up, build, then show five processes of three runtimes sharing one bucket
	@scripts/demo.sh

test: ## set up, build and run all tests, or some: make test STAGES="core python"
	@scripts/test.sh $(STAGES)

test-long: ## the same with twenty times as many random cases
	@TIDEGATE_TEST_LONG=1 scripts/test.sh $(STAGES)

fuzz: ## run the fuzz targets for longer: make fuzz SECONDS=600
	@scripts/fuzz.sh $(or $(SECONDS),300)

mutants: ## change the engine in every small way, and see its tests fail
	@scripts/mutants.sh

loom-mutants: ## plant errors in the lock-free table; the loom models must find each
	@scripts/loom-mutants.sh

build: ## build everything, or some: make build PARTS="cli node"
	@scripts/setup.sh rust wasm node python
	@scripts/build.sh $(PARTS)

lint: ## check the format and run the lints of every language
	@scripts/test.sh lint

lint-comments: ## check that comments are sentences and that each file says what it is for
	@python3 scripts/check_comments.py

bench-core: ## measure the engine beside its peers: make bench-core ARGS="--quick" (or "--full")
	@cargo run --release --locked -p tidegate-bench --bin core -- $(ARGS)

bench-redis: ## measure shared buckets beside their peers: make bench-redis ARGS="--quick" (or "--full", or "python hot key")
	@scripts/bench-redis.sh $(ARGS)

setup: ## install what is missing, or some: make setup PARTS="redis node"
	@scripts/setup.sh $(PARTS)

clean: ## remove what was built and installed in this folder
	rm -rf target .build .venv .pytest_cache .hypothesis .mypy_cache
	rm -rf bindings-node/dist bindings-node/node_modules
	rm -rf bindings-wasm/js/dist bindings-wasm/js/node_modules
	find bindings-node bindings-python bindings-wasm tests \( -name '*.node' -o -name '*.so' -o -name '*.wasm' -o -name '*.pyc' \) -type f -delete
