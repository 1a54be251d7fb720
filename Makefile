# Longshore: targets. `make help` lists them.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0-dev)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
DATE    ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.built=$(DATE)
export CGO_ENABLED ?= 0
# Where there is no Go, setup puts one there.
export PATH := $(CURDIR)/.cache/go/bin:$(PATH)

.PHONY: help build run test test-vm check bench soak fuzz clean setup
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

build: ## bin/longshore and bin/longshore-shim, static, version stamped
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/longshore ./cmd/longshore
	$(GO) build -trimpath -ldflags '-s -w' -o bin/longshore-shim ./cmd/longshore-shim

setup: ## install what running needs (runc, crun, busybox-static, …)
	@scripts/setup.sh run

run: ## the main job: set up, build, check the host, start the engine, run a first container
	@scripts/setup.sh run
	@$(MAKE) --no-print-directory build
	@scripts/run.sh

check: ## the fast part: gofmt, vet, structure and budgets, race tests of the pure parts (< 3 min)
	@scripts/check.sh

test: ## everything; installs what the tests need
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory build
	@scripts/check.sh
	@scripts/test.sh

test-vm: ## black-box tests in a virtual machine: systemd, cgroups v2, AppArmor, quotas, NFS, CRIU, firewalld (root)
	@scripts/setup.sh vm
	@$(MAKE) --no-print-directory build
	@scripts/vm.sh $(PACKAGES)

bench: ## measurements beside dockerd and bare runtimes; prints the table. ROWS=run,exec N=7 for some of them
	@scripts/setup.sh bench
	@$(MAKE) --no-print-directory build
	@scripts/bench.sh $(if $(N),-n $(N)) $(if $(ROWS),-only $(ROWS))

soak: ## long crash, fault and life-cycle runs; KILLS=200 CYCLES=2000
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory build
	@LONGSHORE_KILLS=$(KILLS) LONGSHORE_CYCLES=$(CYCLES) scripts/soak.sh

fuzz: ## ten seconds of every fuzz target
	@scripts/fuzz.sh 10s

clean: ## remove bin/
	rm -rf bin
