// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"encoding/hex"
	"errors"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	pb "go.opentelemetry.io/proto/slim/otlp/logs/v1"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/model"
)

// logs sends events as log records.
type logs struct {
	client  *client
	boot    string
	head    head
	scratch []byte // of Encode
}

// Encode implements export.Sink.
func (l *logs) Encode(e *model.Event) (record []byte, size int, ok bool) {
	number, text := severity(e)
	l.scratch = e.AppendJSON(l.scratch[:0], l.boot)
	r := &pb.LogRecord{TimeUnixNano: uint64(e.Time.UnixNano()), ObservedTimeUnixNano: uint64(e.Time.UnixNano()), EventName: "vigie." + string(e.Type),
		SeverityNumber: number, SeverityText: text, Attributes: ofEvent(e, l.boot),
		Body: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: string(l.scratch)}}}
	if e.Request != nil {
		r.TraceId, _ = hex.DecodeString(e.Request.TraceID)
	}
	record = marshal(r)
	return record, len(record), len(record) > 0
}

// Send implements export.Sink.
func (l *logs) Send(ctx context.Context, records [][]byte) (int, error) {
	var answer collector.ExportLogsServiceResponse
	err := l.client.send(ctx, appendRequest(nil, group{l.head, records}), len(records), &answer)
	return dealtWith(len(records), err, answer.GetPartialSuccess().GetRejectedLogRecords(), answer.GetPartialSuccess().GetErrorMessage())
}

// Close implements export.Sink.
func (l *logs) Close() error { return l.client.close() }

// dealtWith is the result of Send: all of a request's items or none, but for those that the receiver says it did not take.
func dealtWith(items int, err error, rejected int64, message string) (int, error) {
	var refused *export.RefusedError
	if err != nil && !errors.As(err, &refused) {
		return 0, err
	}
	if err == nil && rejected > 0 {
		err = &export.RefusedError{Items: int(min(rejected, int64(items))), Reason: "rejected by the receiver", Detail: short([]byte(message))}
	}
	return items, err
}

// severity is how much an event matters.
func severity(e *model.Event) (pb.SeverityNumber, string) {
	switch {
	case e.Alert != nil:
		switch e.Alert.Severity {
		case model.SeverityCritical:
			return pb.SeverityNumber_SEVERITY_NUMBER_FATAL, "FATAL"
		case model.SeverityHigh:
			return pb.SeverityNumber_SEVERITY_NUMBER_ERROR, "ERROR"
		case model.SeverityMedium, model.SeverityLow:
			return pb.SeverityNumber_SEVERITY_NUMBER_WARN, "WARN"
		}
	case e.Verdict != nil, e.Loss != nil:
		return pb.SeverityNumber_SEVERITY_NUMBER_WARN, "WARN"
	case e.Flow != nil && e.Flow.Verdict == model.FlowDenied:
		return pb.SeverityNumber_SEVERITY_NUMBER_WARN, "WARN"
	}
	return pb.SeverityNumber_SEVERITY_NUMBER_INFO, "INFO"
}
