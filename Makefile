# mlx-gpt. `make train` and `make test` work as the first command in a fresh clone.
# ARGS go to the program: make train ARGS="--corpus notes.txt --steps 5000"

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build install train generate eval lessons book test package try-library faults fuzz lint workbook-check mac-check deny docs interop interop-llama studio-check distributed-check bench bench-kernels bench-scaling bench-tokenizer speedrun gpu-bundle gpu-smoke board board-check lessons-long

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the build needs; targets that need it run it first (BACKEND=cpu|cuda on Linux, wheel|source on a Mac)
	@bash scripts/setup.sh

build: setup
	@bash scripts/build.sh

install: setup ## install mlx-gpt and MLX's library, ~/.cargo/bin/mlx-gpt; works without this checkout
	@bash scripts/install.sh

train: build ## train a small GPT on Shakespeare
	cargo run -- train $(ARGS)

generate: build ## generate text with the newest run
	cargo run -- generate $(ARGS)

eval: build ## exact loss of the newest run
	cargo run -- eval $(ARGS)

lessons: build ## run all ten days, and print a table of their models
	@for day in 1 2 3 4 5 6 7 8 9 10; do \
	  echo "day      $$day of 10" >&2; \
	  cargo run --quiet -- lesson $$day $(ARGS) > /dev/null || exit; \
	done
	@cargo run --quiet -- lesson compare $(ARGS)

lessons-long: build ## run the days after the tenth: about three quarters of an hour, of which the calculator and day 13 take most (day 12 fetches a text)
	@[ -e lessons/day-12-text.txt ] || python3 scripts/pretraining_text.py
	@bash scripts/train_to_end.sh lessons/day-11-calculator --task calculator
	@for day in 11 12 13 14; do \
	  echo "day      $$day" >&2; \
	  cargo run --quiet -- lesson $$day $(ARGS) > /dev/null || exit; \
	done
	@cargo run --quiet -- lesson compare $(ARGS)

book: ## build the book of the finished lessons, in book/out/
	@bash scripts/book/make.sh

package: setup ## build the crate's package, and check that it is under 10 MB
	bash scripts/package.sh

try-library: setup ## use the library in a new package outside this checkout
	bash scripts/try_library.sh

test: setup ## run all tests (but those of the workbook: make workbook-check)
	cargo test

workbook-check: setup ## check the workbook with all wrong solutions (MISTAKES=n for a sample)
	cargo build
	MISTAKES=$${MISTAKES:-1000} cargo test -p mlx-gpt-workbook -- --nocapture

faults: setup ## inject faults at every system call, 200 kills, 200 signals, 20,000 steps (SEED=n)
	KILLS=$${KILLS:-200} FAULTS=$${FAULTS:-1000000} cargo test --test faults -- --nocapture
	SIGNALS=$${SIGNALS:-200} cargo test --test signals -- --nocapture
	LONG_STEPS=$${LONG_STEPS:-20000} cargo test --test long_run -- --nocapture

lint: setup ## check formatting, clippy and documentation, also of the library without features
	cargo fmt --all --check
	rustfmt --edition 2024 --check < assets/workbook/main.rs
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --lib --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps

fuzz: setup ## read a million broken files (FUZZ_CASES=n per parser, FUZZ_SEED=n), send 100,000 broken requests (BODIES=n, SEED=n)
	FUZZ_CASES=$${FUZZ_CASES:-40000} cargo test --test hostile_files -- --nocapture --test-threads 1
	BODIES=$${BODIES:-100000} cargo test --test studio bodies -- --nocapture

mac-check: setup ## on Linux: cross-compile for macOS and link with its MLX library (20 minutes the first time, 3 GB)
	@bash scripts/macos/cross/check.sh

deny: .tools/bin/cargo-deny ## check licenses and sources of dependencies
	.tools/bin/cargo-deny check licenses bans sources

.tools/bin/cargo-deny:
	cargo install --locked --root .tools cargo-deny

docs: setup ## write docs/cli.md from --help
	UPDATE_DOCS=1 cargo test --quiet --test cli docs::

interop: build ## compare with transformers, mlx-lm, peft and gguf (installs them into .interop/)
	bash scripts/interop.sh

interop-llama: setup ## build llama.cpp, so that `make interop` also runs GGUF files in it (once, 10 minutes or more)
	bash scripts/interop.sh --build-llama

studio-check: build ## use each page of the studio in Chromium and take screenshots of it (installs Debian's chromium)
	@bash scripts/studio_check.sh

distributed-check: build ## as root on Linux: train in network namespaces over a slow network, with 50 faults (ARGS="--faults 9 --seed 2 --speed")
	python3 scripts/distributed_check.py target/debug/mlx-gpt $(ARGS)

bench: setup ## benchmark speed and memory against PyTorch and Python MLX (ROUNDS=n, ONLY_NANO=1 for a quick look)
	bash scripts/bench.sh

bench-kernels: setup ## benchmark each CPU kernel against MLX's own (kernels/README.md)
	cargo build --quiet --release
	python3 kernels/gains.py --rounds $${ROUNDS:-5}

bench-scaling: setup ## scaling of the step time with batch, context, width and vocabulary; writes bench-scaling.svg
	cargo run --release --quiet -- bench scaling $(ARGS)

bench-tokenizer: setup ## benchmark the tokenizer against tiktoken and tokenizers (installs them into .peers/)
	bash scripts/bench_tokenizer.sh

speedrun: setup ## time to a target loss against PyTorch (installs it into .interop/; CORPUS=, TARGET=, SEEDS="1337 1 2")
	bash scripts/speedrun.sh

gpu-bundle: setup ## pack scripts/gpu.sh with all it needs on a machine with an NVIDIA GPU (after BACKEND=cuda make setup; ARCH=90 for one architecture)
	bash scripts/gpu/bundle.sh

gpu-smoke: setup ## test scripts/gpu.sh with tiny sizes on the CPU
	cargo build --quiet
	cargo test --quiet --no-run --test components
	rm -rf gpu-results-smoke*
	bash scripts/gpu.sh --smoke

board: setup ## on Linux: pack the program and a model for a board with arm64 Linux and an e-ink panel, in board/ (MODEL=DIR; docs/board.md)
	@bash scripts/board/bundle.sh

board-check: setup ## run what `make board` packed under emulation, in a tree of Debian for arm64 (as root; TESTS="parity resume")
	@bash scripts/board/emulate.sh
