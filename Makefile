# Each command is a script of scripts/, which also runs on its own.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-long fuzz mutants loom-mutants build lint lint-comments bench-core bench-acquire bench-envoy bench-redis setup clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## show five processes of three runtimes on one bucket, after set-up and build
	@scripts/demo.sh

test: ## run all tests, after set-up and build, or some stages: make test STAGES="core python"
	@scripts/test.sh $(STAGES)

test-long: ## run them with twenty times as many random cases
	@TIDEGATE_TEST_LONG=1 scripts/test.sh $(STAGES)

fuzz: ## run the fuzz targets for longer: make fuzz SECONDS=600
	@scripts/fuzz.sh $(or $(SECONDS),300)

mutants: ## change the engine in every small way; a test must fail each time
	@scripts/mutants.sh

loom-mutants: ## plant errors in the lock-free table; a loom model must find each
	@python3 scripts/loom_mutants.py

build: ## build everything, or some parts: make build PARTS="cli node"
	@scripts/setup.sh rust wasm node python
	@scripts/build.sh $(PARTS)

lint: ## check the format and run the lints of every language
	@scripts/test.sh lint

lint-comments: ## check that comments are sentences and that each file says what it is for
	@python3 scripts/check_comments.py

bench-core: ## measure the engine beside its peers; ARGS="--quick" or "--full"
	@cargo run --release --locked -p tidegate-bench --bin core -- $(ARGS)

bench-acquire: ## measure acquire in memory beside aiolimiter and check; ARGS="--quick"
	@scripts/bench-acquire.sh $(ARGS)

bench-envoy: ## measure the Envoy filter beside Envoy's own; ARGS="--quick" or part of a variant's name
	@scripts/bench-envoy.sh $(ARGS)

bench-redis: ## measure shared buckets beside their peers; ARGS="--quick", "--full" or part of a case's name
	@scripts/bench-redis.sh $(ARGS)

setup: ## install what is missing, or some parts: make setup PARTS="redis node"
	@scripts/setup.sh $(PARTS)

clean: ## remove what was built and installed in this folder
	rm -rf target .build .venv .pytest_cache .hypothesis .mypy_cache
	rm -rf bindings-node/dist bindings-node/node_modules bindings-node/LICENSE-* bindings-wasm/js/LICENSE-*
	rm -rf bindings-wasm/js/dist bindings-wasm/js/node_modules tests/node_modules tests/javascript/node_modules
	find bindings-node bindings-python bindings-wasm tests \( -name '*.node' -o -name '*.so' -o -name '*.wasm' -o -name '*.pyc' \) -type f -delete
