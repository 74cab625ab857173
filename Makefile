# Names for what one does here. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: up test test-clients test-openapi lint deny bench ci experiment model mutants outage peers gateway lossy deploy hostile help test-browser

up: ## Run API, worker and embedded queue on 127.0.0.1:4004 (ARGS="--upstream URL" adds flags)
	cargo run --release --locked -- up $(ARGS)

test: ## Install what the tests need (redis-server) and run all of them (ARGS=NAME picks some)
	@scripts/install-test-needs.sh
	cargo nextest run --workspace --locked $(ARGS)

test-clients: ## Run real clients (openai, anthropic, ai, agents, langchain, litellm, evennia) (ARGS=NAME picks some)
	@scripts/test-clients.sh $(ARGS)

test-browser: ## Let a page of another origin call a real Causeway from a headless Chromium (needs chromium)
	@scripts/test-clients.sh --browser

test-openapi: ## Let schemathesis drive a real process by its /openapi.json (needs python3 with venv)
	bash tests/openapi/run.sh $(ARGS)

lint: ## Check format, clippy and documentation; every warning is an error
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

deny: ## Check licences, bans and sources of the dependencies by deny.toml
	@scripts/deny.sh

bench: experiment peers gateway ## Run all measurements

ci: ## Run what continuous integration runs, on this machine
	@.ci/run

experiment: ## Let 10, 100 and 1,000 users press enter at once, with the baselines; writes RESULTS.md
	bash bench/experiment4/run.sh $(ARGS)

mutants: ## Plant faults into a copy of the engines, and show that the tests catch each (ARGS=PART picks)
	python3 scripts/mutants.py $(ARGS)

peers: ## Measure the queue beside BullMQ and redis-benchmark on one redis-server; writes RESULTS.md
	bash bench/peers/run.sh $(ARGS)

gateway: ## Measure calls and 10,000 streams through API, Redis and worker; writes RESULTS.md
	bash bench/gateway/run.sh $(ARGS)

outage: ## Take a model away from 1,100 jobs in nine ways, for 20 s and for 3 min (dns needs root); writes RESULTS.md
	bash bench/outage/run.sh $(ARGS)

lossy: ## Let 400 silent calls of 100 s run over a network that loses packets (root); writes RESULTS.md
	bash bench/lossy/run.sh $(ARGS)

deploy: ## Replace two APIs and two workers under load, and count what clients notice; writes RESULTS.md
	bash bench/deploy/run.sh $(ARGS)

hostile: ## Load an API with 11,500 hostile connections and a million made-up ids; writes RESULTS.md
	bash bench/hostile/run.sh $(ARGS)

model: ## Serve a real small model, OpenAI-compatible, on port 9101 (PORT=N); the first time builds it
	scripts/model.sh $(or $(PORT),9101)

help: ## List these
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
