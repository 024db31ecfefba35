// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"strings"

	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/vigie-io/vigie/internal/model"
)

// Logs and spans wait as the bytes they are sent as, so that the queue's bound is one of memory. A request of either kind
// has the same shape, with the same field numbers (opentelemetry/proto/collector/*/v1):
//
//	request { 1: repeated of_resource { 1: resource, 2: repeated of_scope { 1: scope, 2: repeated record } } }

// head is the part of a request that stands before its records.
type head struct {
	resource, scope []byte // messages
}

// group is records under one head.
type group struct {
	head    head
	records [][]byte
}

// appendRequest appends a request of groups to dst.
func appendRequest(dst []byte, groups ...group) []byte {
	for _, g := range groups {
		scope := fieldSize(len(g.head.scope))
		for _, r := range g.records {
			scope += fieldSize(len(r))
		}
		dst = appendHeader(dst, 1, fieldSize(len(g.head.resource))+fieldSize(scope))
		dst = appendField(dst, 1, g.head.resource)
		dst = appendHeader(dst, 2, scope)
		dst = appendField(dst, 1, g.head.scope)
		for _, r := range g.records {
			dst = appendField(dst, 2, r)
		}
	}
	return dst
}

func appendHeader(dst []byte, field protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.BytesType), uint64(size))
}

func appendField(dst []byte, field protowire.Number, message []byte) []byte {
	return append(appendHeader(dst, field, len(message)), message...)
}

// fieldSize is how many bytes a message takes as field 1 or 2, whose tags are one byte.
func fieldSize(n int) int { return 1 + protowire.SizeBytes(n) }

// agentResource says which agent speaks.
func agentResource(o Options) *resource.Resource {
	var a attributes
	a.text("service.name", "vigie")
	a.text("service.version", o.Version)
	a.text("service.instance.id", o.Host)
	a.text("host.name", o.Host)
	a.text("os.type", "linux")
	return &resource.Resource{Attributes: a}
}

// workloadResource says which service a span is of: its workload.
func workloadResource(o Options, w *model.Workload) *resource.Resource {
	var a attributes
	if w == nil {
		a.text("service.name", "unknown_service")
	} else {
		a.text("service.name", serviceName(w))
		a.text("service.namespace", w.Namespace)
		a.text("service.instance.id", w.ID)
		a.workload(w)
	}
	a.text("host.name", o.Host)
	a.text("os.type", "linux")
	return &resource.Resource{Attributes: a}
}

// serviceName is what people call a workload.
func serviceName(w *model.Workload) string {
	if w.Kind == model.WorkloadUnit {
		return strings.TrimSuffix(w.Name, ".service")
	}
	return firstOf(w.Name, "unknown_service")
}

func scopeHead(r *resource.Resource, version string) head {
	return head{resource: marshal(r), scope: marshal(&common.InstrumentationScope{Name: "vigie", Version: version})}
}

// marshal is for messages made here: their texts are valid UTF-8, and nothing else can fail.
func marshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil
	}
	return b
}
