# SPDX-License-Identifier: Apache-2.0
#
# Everything that people and CI do here has a target; `make help` lists them. build and run need Go alone:
# what clang makes of the BPF C is committed. All else that tests need is installed by `make test` as root.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unversioned)
CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vigie
LDFLAGS := -s -w -X main.version=$(VERSION)

# How the BPF C is compiled; bpf2go reads these. The compiler is pinned because what it makes is committed.
export BPF2GO_CC     := clang-19
export BPF2GO_STRIP  := llvm-strip-19
export BPF2GO_CFLAGS := -O2 -g -Wall -Werror -mcpu=v3 -idirafter /usr/include/$(shell uname -m)-linux-gnu

LINT_VERSION := v2.15.0
LINT         := $(CACHE)/golangci-lint-$(LINT_VERSION)/golangci-lint

# Tests that load programs into the kernel. Packages without tests are passed over.
KERNEL_PACKAGES ?= ./internal/kernel/... ./internal/sensor/... ./internal/process/... ./internal/workload/... ./internal/enforce/... ./internal/tracing/... ./test/vm/smoke
VM_PACKAGES     ?= $(KERNEL_PACKAGES)
VM_KERNELS      ?= 6.1 6.12
# On a whole Debian server: the service, an hour in which nothing happens, servers under attack.
HOST_PACKAGES   ?= ./test/host ./test/servers
HOST_KERNELS    ?= 6.12
HOST_IDLE       ?= 60m
# Against a real Kubernetes.
CLUSTER_PACKAGES ?= ./test/cluster/... ./internal/kube/... ./internal/posture/agreement ./internal/posture/cluster ./internal/posture/reports ./internal/cli
# The race detector needs a C compiler; without root and without one the tests run without it.
TEST_FLAGS      ?= $(if $(shell command -v gcc),-race) -timeout 15m

NO_RACE         := /internal/cli /internal/enforce/all /internal/posture/agreement /internal/sensor/l7 /internal/tracing /test/house

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/vigie (needs Go alone)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/vigie ./cmd/vigie

.PHONY: run
run: build ## build the agent and run it (root); ARGS="--quiet" adds flags
	@if [ "$$(id -u)" != 0 ]; then \
		echo "vigie run loads programs into the kernel and needs root: sudo bin/vigie run" >&2; \
		echo "to see the product without root: bin/vigie run --replay FILE" >&2; exit 2; fi
	bin/vigie run $(ARGS)

.PHONY: test
test: deps check-generated check-ui lint ## all checks and tests of the unit and kernel lanes (root runs all of them)
	@[ "$$(id -u)" = 0 ] || echo "not root: tests that load programs into the kernel skip, and say so" >&2
	@# Built together first; then one package at a time, because kernel tests see the whole host.
	go build $(filter -race,$(TEST_FLAGS)) ./...
	@# Six packages without the race detector. The CLI: muesli/cancelreader, in the terminal library, closes its epoll
	@# descriptor beside its own read when a program ends at once, and the detector says so about one run in ten. Two whose
	@# actors are thousands of copies of the test: each takes a tenth of a second to start with it. Two that have much to look at
	@# in one goroutine: thousands of objects, and every file of the tree. And one whose actors' TLS is probed where Go's compiler
	@# puts it, which with the detector is elsewhere. Last two modules of their own, whose go.mod follow this one: Helm reads the
	@# chart, and DuckDB what the agent wrote.
	set -o pipefail; { go test $(TEST_FLAGS) -p 1 $$(go list ./... | grep -v $(patsubst %,-e '%$$',$(NO_RACE))) && \
		go test $(filter-out -race,$(TEST_FLAGS)) -p 1 $(patsubst %,.%,$(NO_RACE)) && \
		go -C test/helm test -mod=mod $(filter-out -race,$(TEST_FLAGS)) ./... && \
		go -C test/history test -mod=mod $(filter-out -race,$(TEST_FLAGS)) ./...; } | tools/summary.sh

.PHONY: test-kernel
test-kernel: deps ## the tests that load programs into this kernel (root)
	@[ "$$(id -u)" = 0 ] || { echo "kernel tests need root: sudo make test-kernel" >&2; exit 2; }
	set -o pipefail; go test $(TEST_FLAGS) -count=1 -p 1 $(KERNEL_PACKAGES) | tools/summary.sh

.PHONY: test-ui
test-ui: build ## the web page in a browser, with a real agent and real traffic (root, Node); IMAGES=docs/images makes the pictures anew
	@[ "$$(id -u)" = 0 ] || { echo "the page is tested with a real agent, which needs root: sudo make test-ui" >&2; exit 2; }
	tools/deps.sh ui
	tools/ui.sh check
	IMAGES='$(and $(IMAGES),$(abspath $(IMAGES)))' go run ./test/web npm --prefix ui run --silent e2e -- $(UI_ARGS)

.PHONY: test-vm
test-vm: ## the kernel tests on other kernels under QEMU: VM_KERNELS, VM_PACKAGES, VM_ARGS="-v -run X"
	tools/deps.sh vm
	go run ./test/vm -kernels '$(VM_KERNELS)' $(VM_ARGS) $(VM_PACKAGES)

.PHONY: test-host
test-host: ## a Debian server with systemd under QEMU (root, once): HOST_PACKAGES, HOST_KERNELS, HOST_IDLE, VM_ARGS
	tools/deps.sh host
	go run ./test/vm -guest debian -memory 2G -timeout 4h -kernels '$(HOST_KERNELS)' -env VIGIE_IDLE=$(HOST_IDLE) $(VM_ARGS) $(HOST_PACKAGES)

.PHONY: test-hubble
test-hubble: ## Hubble's own command and relay against an agent; builds them once, which takes some minutes
	clients="$$(tools/hubble.sh '$(CACHE)')" && VIGIE_HUBBLE_CLIENTS="$$clients" go test -count=1 ./test/hubble

# Real receivers of exports, built from their modules: see test/export/doc.go. Too large for each run of make test.
EXPORT_TOOLS := $(CACHE)/export/prometheus-v0.305.0 $(CACHE)/export/jaeger-v1.76.0

.PHONY: test-export
test-export: $(EXPORT_TOOLS) ## exports to real Prometheus and Jaeger; builds them first (about 12 minutes on two cores, once)
	set -o pipefail; go test $(TEST_FLAGS) -count=1 ./test/export | tools/summary.sh

$(CACHE)/export/prometheus-%: test/export/prometheus/go.mod
	CGO_ENABLED=0 go build -C test/export/prometheus -trimpath -ldflags '-s -w' -o $@ github.com/prometheus/prometheus/cmd/prometheus

$(CACHE)/export/jaeger-%: test/export/jaeger/go.mod
	CGO_ENABLED=0 go build -C test/export/jaeger -trimpath -ldflags '-s -w' -o $@ github.com/jaegertracing/jaeger/cmd/jaeger

# The commands of the engines whose policies are imported, built from their modules: see internal/posture/migrate/engines_test.go.
IMPORT_TOOLS := $(CACHE)/import/gator-v3.23.1 $(CACHE)/import/kyverno-v1.19.1

.PHONY: test-import
test-import: $(IMPORT_TOOLS) ## what is imported is judged as Kyverno and Gatekeeper judge it; builds their commands first (some 20 minutes on two cores, once)
	set -o pipefail; VIGIE_GATOR=$(word 1,$(IMPORT_TOOLS)) VIGIE_KYVERNO=$(word 2,$(IMPORT_TOOLS)) \
		VIGIE_GATEKEEPER_MODULE="$$(go list -C test/migrate/gator -m -f '{{.Dir}}' github.com/open-policy-agent/gatekeeper/v3)" \
		go test -count=1 -run JudgesTheSame ./internal/posture/migrate | tools/summary.sh

$(CACHE)/import/gator-%: test/migrate/gator/go.mod
	CGO_ENABLED=0 go build -C test/migrate/gator -trimpath -ldflags '-s -w' -o $@ github.com/open-policy-agent/gatekeeper/v3/cmd/gator

$(CACHE)/import/kyverno-%: test/migrate/kyverno/go.mod
	CGO_ENABLED=0 go build -C test/migrate/kyverno -trimpath -ldflags '-s -w' -o $@ github.com/kyverno/kyverno/cmd/cli/kubectl-kyverno

.PHONY: bench-admission
bench-admission: cluster-tools ## what admission adds to a request, beside nothing and a webhook, and a scan of 20,000 objects (a quiet machine)
	VIGIE_CLUSTER=1 go test -run '^$$' -bench 'Admission' -benchtime 1000x ./internal/posture/agreement
	VIGIE_CLUSTER=1 go test -run '^$$' -bench 'ScanCluster' -benchtime 1x -timeout 30m ./internal/posture/agreement

.PHONY: cluster-tools
cluster-tools: ## build what a test cluster runs, Kubernetes above all: half an hour on two cores, once; CLUSTER_TOOLS="etcd kube-1.36" for some
	nice go run ./test/cluster build $(CLUSTER_TOOLS)

.PHONY: test-cluster
test-cluster: cluster-tools ## real Kubernetes clusters of several nodes on this machine (root): CLUSTER_PACKAGES, CLUSTER_ARGS="-v -run X"
	@[ "$$(id -u)" = 0 ] || { echo "a cluster makes namespaces and needs root: sudo make test-cluster" >&2; exit 2; }
	tools/deps.sh cluster
	set -o pipefail; VIGIE_CLUSTER=1 go test -timeout 60m -count=1 -p 1 $(CLUSTER_ARGS) $(CLUSTER_PACKAGES) | tools/summary.sh

.PHONY: bench-cluster
bench-cluster: cluster-tools build ## measure pods' connections, changes of policies and a large cluster (root, a quiet machine, 40 minutes); BENCH=ClusterPods for a part; rewrites docs/benchmarks-cluster.md
	@[ "$$(id -u)" = 0 ] || { echo "a cluster makes namespaces and needs root: sudo make bench-cluster" >&2; exit 2; }
	tools/deps.sh cluster
	VIGIE_CLUSTER=1 go test -timeout 2h -count=1 -run '^$$' -bench '$(or $(BENCH),Cluster)' -benchtime 1x ./test/cluster -args -bench-page '$(CURDIR)/docs/benchmarks-cluster.md' $(BENCH_ARGS)
.PHONY: test-conformance
test-conformance: ## the network-policy suites of cyclonus and Kubernetes against vigie in a real cluster (root, long): CONFORMANCE_ARGS="-for 10m -focus X"
	@[ "$$(id -u)" = 0 ] || { echo "a cluster makes namespaces and needs root: sudo make test-conformance" >&2; exit 2; }
	nice go run ./test/cluster build etcd kube-1.36 containerd cni coredns cyclonus e2e
	tools/deps.sh cluster
	VIGIE_CLUSTER=1 go test -timeout 12h -count=1 -v ./test/conformance -args -report docs/conformance $(CONFORMANCE_ARGS)

.PHONY: cluster
cluster: cluster-tools ## boot a cluster by hand and stay (root): CLUSTER_ARGS="-nodes 3 -minor 1.35"; see test/cluster
	tools/deps.sh cluster
	go run ./test/cluster up -nodes 2 -dns $(CLUSTER_ARGS)

.PHONY: bench
bench: build ## measure with and without the agent (root); rewrites docs/benchmarks.md
	@[ "$$(id -u)" = 0 ] || { echo "benchmarks run the agent and need root: sudo make bench" >&2; exit 2; }
	go run ./test/bench $(BENCH_ARGS)

.PHONY: generate
generate: ## make Go from the BPF C and protobuf (needs clang-19); GENERATE=./internal/kernel for one package
	tools/generate.sh . $(or $(GENERATE),./...)

.PHONY: schema
schema: ## take over the types of the API of a newer Kubernetes, KUBERNETES=v1.38.0 (needs the Go module proxy)
	go run ./internal/posture/schema/gen $(or $(KUBERNETES),v1.37.2) internal/posture/schema/schema.json.gz

.PHONY: check-generated
check-generated: ## generate into a copy and require no difference
	tools/check-generated.sh

.PHONY: ui
ui: ## build the web page that the binary holds (needs Node)
	tools/ui.sh build

.PHONY: check-ui
check-ui: ## require that the committed page is what its sources make (passed over without Node)
	tools/ui.sh check

.PHONY: lint
lint: $(LINT) ## gofmt, go vet and golangci-lint
	@unformatted=$$(gofmt -l $$(find . -name '*.go' -not -path './ui/node_modules/*')); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	$(LINT) run ./...

# Built from the module proxy like any dependency: about a minute and a half on two cores, once.
$(LINT):
	GOBIN=$(@D) GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

.PHONY: deps
deps: ## install the Debian packages that tests need (root), or name them
	@tools/deps.sh test

.PHONY: image
image: build ## a container image of bin/vigie, without a daemon: dist/vigie-VERSION-ARCH.tar for ctr images import or docker load
	mkdir -p dist
	go run ./tools/image -version '$(VERSION)' -o 'dist/vigie-$(VERSION)-$(shell go env GOARCH).tar'

.PHONY: dist
dist: ## static release archives for amd64 and arm64 in dist/, the same bits on every run
	tools/dist.sh '$(VERSION)'

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
