# A thin door to CMake: what is built and how stands in CMakeLists.txt and CMakePresets.json.
# `make help` lists the targets. Written for GNU make 3.81 (macOS) and later.

PREFIX ?= /usr/local
ARGS ?=
FUZZ_SECONDS ?= 60
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

BIN := build/release/whisperengine
DESKTOP := build/release/whisperengine-desktop

.DEFAULT_GOAL := build
.PHONY: build run desktop deb screenshots test conformance asan tsan fuzz bench install format check-format check-includes check-macos \
	lint check clean help

# The sanitizers of today's compilers need a fixed layout of addresses where the kernel randomizes more than 28 bits.
NO_ASLR = $(shell setarch "$$(uname -m)" -R true 2>/dev/null && echo setarch "$$(uname -m)" -R)

# A preset is configured once; afterwards ninja itself notices changed CMake files and new sources.
build/%/build.ninja:
	@cmake --preset $*

build: build/release/build.ninja ## build the command and the library (build/release)
	@cmake --build build/release

# Once the command exists, the build only speaks when it has work to do: the chat opens on a clean screen.
run: ## install what is missing, build, open a chat with the built-in model (ARGS="--model M")
	@script/bootstrap
	@test -f build/release/build.ninja || cmake --preset release
	@if test -x $(BIN); then \
		{ cmake --build build/release --target whisperengine; echo $$? >build/release/run.status; } | \
		grep --line-buffered -v -e '^ninja: no work to do' -e 'Re-checking globbed' >&2; \
		exit "$$(cat build/release/run.status)"; \
	else cmake --build build/release --target whisperengine; fi
	@exec $(BIN) chat $(ARGS)

desktop: ## install what is missing, build, open the desktop program
	@script/bootstrap --desktop
	@cmake --preset release >/dev/null
	@cmake --build build/release --target whisperengine-desktop
	@exec $(DESKTOP) $(ARGS)

deb: ## Debian packages in build/deb: command, window, library (ARGS=--check lets lintian read them)
	@script/bootstrap --desktop
	@script/deb $(ARGS)

screenshots: ## pictures of the desktop program's pages in docs/images
	@script/bootstrap --desktop
	@cmake --preset release >/dev/null
	@cmake --build build/release --target whisperengine-desktop
	@script/screenshots

test: ## install what is missing, build, run every test
	@script/bootstrap --test
	@mkdir -p build
	@cmake --preset release -DWE_TESTS=ON >build/release.log 2>&1 || { cat build/release.log; exit 1; }
	@cmake --build build/release
	@ctest --preset release -j$(JOBS) $(ARGS)

conformance: ## tests against reference results, live ones too; fetches what they compare with (WE_LIVE_TEXTS=100000)
	@script/bootstrap --test
	@mkdir -p build
	@cmake --preset release -DWE_TESTS=ON >build/release.log 2>&1 || { cat build/release.log; exit 1; }
	@cmake --build build/release
	@script/conformance $(ARGS)

asan tsan: %: build/%/build.ninja ## every test under the address or thread sanitizer
	@cmake --build build/$@
	@$(NO_ASLR) ctest --preset $@ -j$(JOBS) $(ARGS)

fuzz: ## fuzz every parser for FUZZ_SECONDS (60) each, from the kept corpus
	@script/fuzz $(FUZZ_SECONDS)

bench: build ## speed of the built-in model on this machine
	@$(BIN) bench --model default $(ARGS)

install: ## install below PREFIX (/usr/local)
	@script/bootstrap
	@cmake --preset release -DCMAKE_INSTALL_PREFIX="$(PREFIX)" >/dev/null
	@cmake --build build/release
	@cmake --install build/release

format: ## format every C file
	@script/format

check-format: ## complain about files that `make format` would change
	@script/format --check

check-includes: ## rooms include only what lies below them; the public header is documented
	@script/check-includes

check-macos: ## on Linux: compile and link for a Mac (fetches a cross compiler and MLX from PyPI into build/macos)
	@script/check-macos

lint: build/debug/build.ninja ## clang-tidy over every C file
	@script/lint

check: check-format check-includes test ## what to run before a commit

clean: ## remove build/
	@rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
