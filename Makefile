# The commands of this repository; each line of work stands in scripts/. `make` alone prints them.

PREFIX ?= /usr/local
DESTDIR ?=
export PREFIX DESTDIR

.PHONY: help setup build demo test test-bare gpu-bundle bench-hook bench-pool bench-device bench-cuda soak-cuda-sim replay record install header lint fmt clean
.DEFAULT_GOAL := help

help: ## print these lines
	@sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' Makefile | sed 's/^  make \([a-z-]*\): /  make \1\t/' | expand -t 22

setup: ## check for Rust, Python and a C compiler; make .venv with all that the other commands need
	@bash scripts/setup.sh test

build: ## build the C library (release) and install the Python module into .venv
	@bash scripts/build.sh

demo: ## the main job on real data, in Python and in C; sets itself up
	@bash scripts/demo.sh

test: ## every test there is, with the time of each part; sets itself up
	@bash scripts/test.sh

test-bare: ## `make demo` and `make test` in a bare Debian 12 with only a Rust toolchain added (needs root)
	@bash scripts/test-bare.sh

gpu-bundle: ## what `gpu-check` needs on a machine with an NVIDIA device and without Rust, in build/gpu-bundle (docs/gpu-check.md)
	@bash scripts/gpu-bundle.sh

bench-hook: ## NumPy with the hook against NumPy without, side by side
	@bash scripts/bench.sh hook

bench-pool: ## the pool against other allocators, side by side
	@bash scripts/bench.sh pool

bench-device: ## memory of a Vulkan device against gpu-allocator and a staging loop by hand, side by side
	@bash scripts/bench.sh device

bench-cuda: ## memory of a CUDA device on the simulated driver: the library's own time, and what it asks the driver for
	@bash scripts/bench.sh cuda

soak-cuda-sim: ## random programs on the simulated CUDA driver, for ten minutes or SOAK_SECONDS=n
	@bash scripts/soak.sh

replay: ## recorded allocations (TRACE="file.csv …", else those of bench/traces) on our pool and on other placement rules
	@bash scripts/replay.sh $(TRACE)

record: ## record the traces of bench/traces anew
	@bash scripts/record.sh

install: ## library, header and pkg-config file into PREFIX (/usr/local), below DESTDIR if that is set
	@bash scripts/install.sh

header: ## write include/neuro_memory.h anew from neuro-capi
	@bash scripts/header.sh

lint: ## tidy check, rustfmt, clippy
	@bash scripts/test/style.sh
	@bash scripts/test/clippy.sh

fmt: ## rustfmt on all of it
	@cargo fmt --all

clean: ## remove all that the other commands made, .venv included
	rm -rf target build .venv out dist bench/target
