// SPDX-License-Identifier: Apache-2.0

// Package export runs the real binary against the receivers that people have: Prometheus, which scrapes /metrics, takes OTLP
// metrics and answers the dashboards' queries, and Jaeger, which takes spans by OTLP over HTTP and gRPC. In: events of a
// capture made here, so that what must arrive is known. It needs no privilege.
//
// The receivers are built from their Go modules by `make test-export`, into the user's cache, once: about twelve minutes on
// two cores. prometheus/ and jaeger/ are modules of their own because nothing of theirs belongs in vigie's; they repeat the
// replace lines of theirs. Their web pages are not in the modules: the binaries have only their APIs.
package export
