SHELL := /bin/bash

.PHONY: help setup build demo test test-sanitize interop soak check format bench fuzz clean distclean

help:
	@echo 'make demo     footage, model, server and client on this machine: every frame there, every result back'
	@echo 'make test     the whole gate: set-up, format, rooms, build, fuzz (short), tests, interoperability'
	@echo 'make test-sanitize  the tests under AddressSanitizer and ThreadSanitizer (half an hour and more)'
	@echo 'make interop  every other stack, clean and lossy paths, all sizes, kinds of channels and ends (about 15 minutes)'
	@echo 'make soak     a server, clients that come, go and are killed, and a bad network, for SOAK_SECONDS (default 3600)'
	@echo 'make build    release build of the program'
	@echo 'make bench    figures beside the peers (about 40 minutes; root, for network namespaces)'
	@echo 'make check    format, rooms, build, tests; no set-up'
	@echo 'make format   rewrites the sources in the house style'
	@echo 'make fuzz     the fuzz targets for FUZZ_SECONDS each (default 600)'
	@echo 'make setup    installs what is missing: Debian packages, and the rest into .deps/'
	@echo 'make clean    removes build products and out/; make distclean removes .deps/ too'

setup:
	scripts/setup all

build:
	scripts/setup system
	scripts/setup engine
	. scripts/common.sh && swift build -c release --product everyframe

demo:
	scripts/demo

test:
	scripts/test

test-sanitize:
	scripts/sanitize

interop:
	scripts/interop

soak:
	scripts/soak

check:
	scripts/check

format:
	scripts/check format --fix

bench:
	Benchmarks/run.sh

fuzz:
	Fuzz/run.sh $(or $(FUZZ_SECONDS),600)

clean:
	rm -rf .build .build-fuzz .build-asan .build-tsan Benchmarks/.build Examples/.build out

distclean: clean
	rm -rf .deps
