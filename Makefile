# Every command a person or CI needs. `make help` lists them.

SHELL := /bin/bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sluice
export SLUICE_BENCH_DIR ?= $(CACHE)/bench

.PHONY: help setup demo serve test check guests guests-check oracle train-movies bench bench-peers bench-bombs bench-policies clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: ## Fetch what a build or a test needs; does nothing the second time
	@scripts/setup.sh

demo: ## Set up, build, serve the movie ranking, show a first prediction
	@scripts/demo.sh

serve: ## Serve CONFIG (default config/demo.toml) from a release build
	cargo run --release --bin sluice -- serve --config $(or $(CONFIG),config/demo.toml)

test: setup ## Run all tests
	@scripts/make-bench-models.sh
	cargo build --workspace
	cargo test --workspace
	@scripts/test-openapi.sh
	@scripts/test-clients.sh
	@scripts/test-guests.sh

check: ## Formatting, lints, licences and duplicate dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@scripts/deny.sh
	@scripts/generate-proto.sh --check

guests: ## Rebuild the committed plugins from their source
	@scripts/build-guests.sh

guests-check: ## Prove that the committed plugins are what their source builds
	@scripts/test-guests.sh

oracle: ## Ask a real Triton again what the gateway is compared with (its answers are committed)
	@scripts/record-oracle.sh

train-movies: ## Train the demo's model again and print its evaluation
	@scripts/train-movies.sh

bench: setup ## Measure every number that has a bar, in one run of six minutes; report and picture in bench/report
	@scripts/make-bench-models.sh
	cargo run --release -p sluice-bench -- --report bench/report

bench-peers: setup ## Measure other servers beside Sluice on the same workload (PEERS="mosec triton" selects); report in bench/report
	cargo build --release --bin sluice --bin sluice-bench
	@scripts/bench-peers.sh $(PEERS)

bench-policies: ## Compare batching policies in virtual time: a table and a plot in bench/report
	cargo run --release -p sluice-bench -- --policies bench/report --arrivals bench/workload/arrivals.txt

bench-bombs: setup ## Measure what predictions notice of compile bombs that are uploaded
	@scripts/make-bench-models.sh
	cargo build --release --bin sluice
	cargo run --release -p sluice-bench -- --bombs target/release/sluice --concurrency 1,8 --rounds 15 --milliseconds 700

clean: ## Remove build output; fetched things in the cache stay
	cargo clean
