# mlx-gpt. `make train` and `make test` work as the first command in a fresh clone.
# ARGS go to the program: make train ARGS="--corpus notes.txt --steps 5000"

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build install train generate eval lessons book test package try-library faults fuzz lint mac-check deny docs interop interop-llama bench bench-kernels bench-scaling bench-tokenizer speedrun gpu-bundle gpu-smoke

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the build needs; every other target does it by itself (BACKEND=cpu|cuda on Linux, wheel|source on a Mac)
	@bash scripts/setup.sh

build: setup
	@bash scripts/build.sh

install: setup ## put mlx-gpt into ~/.cargo/bin, with what it needs of MLX; works without this checkout
	@bash scripts/install.sh

train: build ## train a small GPT on Shakespeare
	cargo run -- train $(ARGS)

generate: build ## write text with the newest run
	cargo run -- generate $(ARGS)

eval: build ## exact loss of the newest run
	cargo run -- eval $(ARGS)

lessons: build ## all ten days, one after the other; ends with a table of their models
	@for day in 1 2 3 4 5 6 7 8 9 10; do \
	  echo "day      $$day of 10" >&2; \
	  cargo run --quiet -- lesson $$day $(ARGS) > /dev/null || exit; \
	done
	@cargo run --quiet -- lesson compare $(ARGS)

book: ## the lessons that were run as a book, in book/out/
	@bash scripts/book/make.sh

package: setup ## the crate's package: it builds by itself, and is under 10 MB
	bash scripts/package.sh

try-library: setup ## depend on the library in a fresh package outside of this checkout, and write text there
	bash scripts/try_library.sh

test: setup ## all tests
	cargo test

faults: setup ## faults at every call, 200 kills, 200 signals, 20,000 steps (SEED=n for others)
	KILLS=$${KILLS:-200} FAULTS=$${FAULTS:-1000000} cargo test --test faults -- --nocapture
	SIGNALS=$${SIGNALS:-200} cargo test --test signals -- --nocapture
	LONG_STEPS=$${LONG_STEPS:-20000} cargo test --test long_run -- --nocapture

lint: setup ## formatting, clippy and documentation, warnings denied; the library without its features
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --lib --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps

fuzz: setup ## read a million broken files (40,000 for each parser; FUZZ_CASES=n for another number, FUZZ_SEED=n to repeat)
	FUZZ_CASES=$${FUZZ_CASES:-40000} cargo test --test hostile_files -- --nocapture --test-threads 1

mac-check: setup ## on Linux: build and link for a Mac, against MLX's library as Macs have it (20 minutes the first time, 3 GB)
	@bash scripts/macos/cross/check.sh

deny: .tools/bin/cargo-deny ## licenses and sources of dependencies
	.tools/bin/cargo-deny check licenses bans sources

.tools/bin/cargo-deny:
	cargo install --locked --root .tools cargo-deny

docs: setup ## write docs/cli.md from --help
	UPDATE_DOCS=1 cargo test --quiet --test cli_docs

interop: build ## compare with transformers, mlx-lm, peft and gguf (installs them into .interop/)
	bash scripts/interop.sh

interop-llama: setup ## build llama.cpp for `make interop`, which then runs GGUF files in it (once, 10 minutes or more)
	bash scripts/interop.sh --build-llama

bench: setup ## speed and memory beside PyTorch and Python MLX (ROUNDS=n, ONLY_NANO=1 for a quick look)
	bash scripts/bench.sh

bench-kernels: setup ## what each replacement of MLX's CPU functions is worth (kernels/README.md)
	cargo build --quiet --release
	python3 kernels/gains.py --rounds $${ROUNDS:-5}

bench-scaling: setup ## how a step's time grows with batch, context, width and vocabulary; draws bench-scaling.svg
	cargo run --release --quiet -- bench scaling $(ARGS)

bench-tokenizer: setup ## speed of the tokenizer beside tiktoken and tokenizers (installs them into .peers/)
	bash scripts/bench_tokenizer.sh

speedrun: setup ## seconds to a loss, beside PyTorch (installs it into .interop/; CORPUS=, TARGET=, SEEDS="1337 1 2")
	bash scripts/speedrun.sh

gpu-bundle: setup ## pack all that scripts/gpu.sh needs on a machine with an NVIDIA card (after BACKEND=cuda make setup; ARCH=90 for one architecture)
	bash scripts/gpu/bundle.sh

gpu-smoke: setup ## all of scripts/gpu.sh with tiny sizes, on the CPU
	cargo build --quiet
	cargo test --quiet --no-run --test parts
	rm -rf gpu-results-smoke*
	bash scripts/gpu.sh --smoke
