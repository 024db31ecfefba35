// SPDX-License-Identifier: Apache-2.0

// Package kafka exports events to a topic of Apache Kafka. In: events of the hub. Out: a record an event, its value the
// event as JSON, its key the exec_id, so that what one process did stays in order in one partition. A record counts as sent
// when all in-sync replicas have it.
package kafka

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Name is what status and the table of losses call the exporter.
const Name = "export kafka"

// DefaultTopic is where events go unless something else is said.
const DefaultTopic = "vigie"

// Options configure an exporter.
type Options struct {
	Brokers []string // HOST[:9092] of some; the rest is learned from them
	Topic   string
	TLS     *tls.Config    // nil: none
	SASL    sasl.Mechanism // nil: none
	Boot    string         // the beginning of the boot id, as exec_ids carry it
	Encode  export.Encoder
	Keep    func(*model.Event) bool
	Backoff func(failures int) time.Duration
	Timeout time.Duration // of one attempt

	Log    *slog.Logger
	Losses *pipeline.Losses
}

// New returns an exporter. It connects when it has something to send. Errors: what is wrong with the options.
func New(o Options) (export.Exporter, error) {
	if err := CheckTopic(o.Topic); err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = export.DefaultTimeout
	}
	var seeds []string
	for _, b := range o.Brokers {
		seed, err := ParseBroker(b)
		if err != nil {
			return nil, err
		}
		seeds = append(seeds, seed)
	}
	opts := []kgo.Opt{kgo.SeedBrokers(seeds...), kgo.DefaultProduceTopic(o.Topic), kgo.ClientID("vigie"),
		// One attempt is for Delivery to bound and repeat: it knows what waits, and counts. It bounds it by the context: the
		// client's own bound for a record would begin at the time of the event.
		kgo.RetryTimeout(o.Timeout), kgo.MetadataMinAge(time.Second), kgo.DialTimeout(o.Timeout / 2),
		kgo.ProducerLinger(0), kgo.MaxBufferedRecords(2 * export.DefaultBatchItems), kgo.AllowAutoTopicCreation(),
		kgo.ProducerBatchCompression(kgo.ZstdCompression(), kgo.NoCompression()),
		// What was sent and not answered may be sent again in another batch, which idempotence forbids to cancel.
		kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1)}
	if o.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(o.TLS))
	}
	if o.SASL != nil {
		opts = append(opts, kgo.SASL(o.SASL))
	}
	s := &sender{opts: opts, encode: o.Encode, boot: o.Boot}
	return export.NewDelivery(export.Options{Name: Name, Keep: o.Keep, Backoff: o.Backoff, Timeout: o.Timeout, BatchBytes: export.DefaultBatchBytes / 2,
		Log: o.Log, Losses: o.Losses}, s), nil
}

// ParseBroker is a broker's address with its port.
func ParseBroker(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, "9092"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || !regexp.MustCompile(`^[\w.:%-]+$`).MatchString(host) {
		return "", fmt.Errorf("%q is no broker: write HOST or HOST:PORT", s)
	}
	return net.JoinHostPort(host, port), nil
}

// CheckTopic is an error for what Kafka takes for no topic's name.
func CheckTopic(topic string) error {
	if topic == "." || topic == ".." || !regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`).MatchString(topic) {
		return fmt.Errorf("%q is no topic: use up to 249 letters, digits, dots, underscores and hyphens", topic)
	}
	return nil
}

// sender implements export.Sink.
type sender struct {
	opts    []kgo.Opt
	encode  export.Encoder
	boot    string
	scratch []byte      // of Encode
	client  *kgo.Client // made when there is something to send
	asked   bool        // a broker has answered, and nothing has failed since
}

// record is what waits of an event.
type record struct {
	key, value []byte
	time       time.Time
}

// Encode implements export.Sink.
func (s *sender) Encode(e *model.Event) (r record, size int, ok bool) {
	s.scratch = s.encode(s.scratch[:0], e)
	r = record{value: bytes.Clone(s.scratch), time: e.Time}
	if !e.Key.IsZero() {
		r.key = e.Key.AppendExecID(nil, s.boot)
	}
	return r, len(r.key) + len(r.value), len(r.value) > 0
}

// Send implements export.Sink.
func (s *sender) Send(ctx context.Context, records []record) (int, error) {
	if s.client == nil {
		client, err := kgo.NewClient(s.opts...)
		if err != nil {
			return 0, &export.NamedError{Name: "configuration", Err: fmt.Errorf("make a client of Kafka: %w", err)}
		}
		s.client = client
	}
	if !s.asked { // the client itself would only say that time is up, not why
		if err := s.client.Ping(ctx); err != nil {
			return 0, name(err)
		}
		s.asked = true
	}
	batch := make([]*kgo.Record, len(records))
	for i, r := range records {
		batch[i] = &kgo.Record{Key: r.key, Value: r.value, Timestamp: r.time}
	}
	failed := make(map[*kgo.Record]error)
	for _, result := range s.client.ProduceSync(ctx, batch...) {
		if result.Err != nil {
			failed[result.Record] = result.Err
		}
	}
	s.asked = len(failed) == 0
	refused := 0
	var refusal error
	for i, r := range batch {
		switch err := failed[r]; {
		case err == nil:
		case permanent(err):
			refused++
			refusal = err
		case refused > 0: // those are dealt with; the next attempt begins here
			return i, refusedBy(refused, refusal)
		default: // what is behind it and did arrive arrives twice
			return i, name(err)
		}
	}
	if refused > 0 {
		return len(batch), refusedBy(refused, refusal)
	}
	return len(batch), nil
}

func refusedBy(n int, err error) error {
	return &export.RefusedError{Items: n, Reason: export.Cause(name(err)), Detail: err.Error()}
}

// permanent reports whether a broker will say the same of a record next time.
func permanent(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) || errors.Is(err, kerr.InvalidRecord) ||
		errors.Is(err, kerr.InvalidTimestamp) || errors.Is(err, kerr.CorruptMessage)
}

// name gives an error of Kafka's the name that the protocol has for it.
func name(err error) error {
	var known *kerr.Error
	switch {
	case errors.As(err, &known):
		return &export.NamedError{Name: "kafka " + known.Message, Err: err}
	case errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, kgo.ErrRecordRetries):
		return &export.NamedError{Name: "timeout", Err: err}
	}
	return err
}

// Close implements export.Sink.
func (s *sender) Close() error {
	if s.client != nil {
		s.client.Close()
	}
	return nil
}
