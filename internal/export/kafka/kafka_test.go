// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/model/modeltest"
	"github.com/vigie-io/vigie/internal/pipeline"
)

type running struct {
	export.Exporter
	hub    *pipeline.Hub
	losses *pipeline.Losses
	seq    uint64
	end    func()
}

func start(t *testing.T, auth sasl.Mechanism, brokers ...string) *running {
	t.Helper()
	r := &running{losses: new(pipeline.Losses)}
	r.hub = pipeline.NewHub(r.losses)
	var err error
	r.Exporter, err = New(Options{Brokers: brokers, Topic: "events", SASL: auth, Boot: modeltest.Boot, Timeout: time.Second,
		Encode:  func(dst []byte, e *model.Event) []byte { return e.AppendJSON(dst, modeltest.Boot) },
		Backoff: func(int) time.Duration { return time.Millisecond }, Log: slog.New(slog.DiscardHandler), Losses: r.losses})
	if err != nil {
		t.Fatal(err)
	}
	sub := r.hub.Subscribe(r.Subscribe())
	done := make(chan error, 1)
	go func() { done <- r.Run(sub) }()
	r.end = sync.OnceFunc(func() {
		r.hub.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.end)
	return r
}

// publish publishes n events, of ten processes in turn.
func (r *running) publish(n int) {
	for range n {
		r.seq++
		e := modeltest.Exec()
		e.Seq = r.seq
		e.Key.PID = uint32(1000 + r.seq%10)
		r.hub.Publish([]*model.Event{e})
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if holds() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s did not happen", what)
}

func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(2), kfake.SeedTopics(4, "events")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// consume reads n records of the topic.
func consume(t *testing.T, n int, brokers []string, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(brokers...), kgo.ConsumeTopics("events"))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var list []*kgo.Record
	for len(list) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(list), n, err)
		}
		list = append(list, fetches.Records()...)
	}
	return list
}

func TestRecords(t *testing.T) {
	c := cluster(t)
	r := start(t, nil, c.ListenAddrs()...)
	const n = 2000
	r.publish(n)
	r.end()
	if s := r.Stats(); s.Sent != n || s.Lost != 0 {
		t.Fatalf("%+v", s)
	}
	partition := make(map[string]int32) // of a process
	last := make(map[string]uint64)
	seen := make(map[uint64]bool)
	for _, record := range consume(t, n, c.ListenAddrs()) {
		var e struct {
			Seq     uint64
			Process struct {
				ExecID string `json:"exec_id"`
			}
		}
		if err := json.Unmarshal(record.Value, &e); err != nil {
			t.Fatal(err)
		}
		key := string(record.Key)
		if p, ok := partition[key]; ok && p != record.Partition || e.Seq <= last[key] {
			t.Fatalf("event %d of %s in partition %d, the one before was %d in %d", e.Seq, key, record.Partition, last[key], p)
		}
		partition[key], last[key], seen[e.Seq] = record.Partition, e.Seq, true
		if !record.Timestamp.Equal(modeltest.Exec().Time.Truncate(time.Millisecond)) {
			t.Fatalf("time %s", record.Timestamp)
		}
	}
	if len(seen) != n || len(partition) != 10 {
		t.Errorf("%d events of %d processes", len(seen), len(partition))
	}
}

func TestPassword(t *testing.T) {
	c := cluster(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "agent", "secret"))
	good := scram.Auth{User: "agent", Pass: "secret"}.AsSha256Mechanism()
	r := start(t, good, c.ListenAddrs()...)
	r.publish(10)
	r.end()
	if s := r.Stats(); s.Sent != 10 || s.Lost != 0 {
		t.Fatalf("%+v", s)
	}
	bad := start(t, scram.Auth{User: "agent", Pass: "wrong"}.AsSha256Mechanism(), c.ListenAddrs()...)
	bad.publish(10)
	eventually(t, "trouble", func() bool { return bad.Stats().Trouble != "" })
	bad.end()
	if s := bad.Stats(); s.Sent != 0 || s.Lost != 10 {
		t.Errorf("%+v", s)
	}
}

// A broker that answers produce requests with errors: some pass, some never will.
func TestErrorsOfABroker(t *testing.T) {
	for _, c := range []struct {
		err    *kerr.Error
		lost   uint64
		reason string
	}{
		{kerr.NotEnoughReplicas, 0, ""},
		{kerr.InvalidRecord, 5, "kafka INVALID_RECORD"},
	} {
		cl := cluster(t, kfake.NumBrokers(1))
		left := 1
		cl.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
			cl.KeepControl()
			if left == 0 {
				return nil, nil, false
			}
			left--
			res := req.ResponseKind().(*kmsg.ProduceResponse)
			for _, topic := range req.(*kmsg.ProduceRequest).Topics {
				t := kmsg.NewProduceResponseTopic()
				t.Topic, t.TopicID = topic.Topic, topic.TopicID
				for _, p := range topic.Partitions {
					rp := kmsg.NewProduceResponseTopicPartition()
					rp.Partition, rp.ErrorCode = p.Partition, c.err.Code
					t.Partitions = append(t.Partitions, rp)
				}
				res.Topics = append(res.Topics, t)
			}
			return res, nil, true
		})
		r := start(t, nil, cl.ListenAddrs()...)
		for range 5 { // of one process: in one partition, so one answer is for all
			e := modeltest.Exec()
			r.hub.Publish([]*model.Event{e})
		}
		eventually(t, c.err.Message, func() bool { s := r.Stats(); return s.Sent+s.Lost == 5 })
		r.end()
		if s := r.Stats(); s.Lost != c.lost || s.Sent != 5-c.lost || r.losses.Counter(Name, c.reason).Load() != c.lost {
			t.Errorf("%s: %+v, %v", c.err.Message, s, r.losses.Snapshot())
		}
	}
}

// No broker at first, then one: what waited arrives. And one that takes connections and says nothing.
func TestBrokerThatIsGoneOrHangsAndComesBack(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if !hangs {
			_ = l.Close()
		}
		port := l.Addr().(*net.TCPAddr).Port
		r := start(t, nil, l.Addr().String())
		r.publish(10)
		eventually(t, "trouble", func() bool { return r.Stats().Trouble != "" })
		if got := r.Stats().Trouble; !hangs && !strings.Contains(got, "refused") {
			t.Errorf("trouble: %s", got)
		}
		_ = l.Close()
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.SeedTopics(1, "events"))
		if err != nil {
			t.Skipf("the port was taken by another process: %v", err)
		}
		eventually(t, "delivery", func() bool { return r.Stats().Sent == 10 })
		r.end()
		var seqs []string
		for _, record := range consume(t, 10, c.ListenAddrs()) {
			seqs = append(seqs, string(record.Value))
		}
		c.Close()
		slices.Sort(seqs)
		if len(slices.Compact(seqs)) != 10 || r.Stats().Lost != 0 || r.Stats().Retried == 0 {
			t.Errorf("hangs %v: %d records, %+v", hangs, len(seqs), r.Stats())
		}
	}
}

func TestBrokersAndTopics(t *testing.T) {
	for in, want := range map[string]string{"h": "h:9092", "h:1": "h:1", "[::1]:2": "[::1]:2", "": "no broker", "http://h": "no broker", "h:": "no broker", "a b:1": "no broker"} {
		got, err := ParseBroker(in)
		if err != nil && !strings.Contains(err.Error(), want) || err == nil && got != want {
			t.Errorf("%q: %q, %v, want %s", in, got, err, want)
		}
	}
	for topic, ok := range map[string]bool{"vigie": true, "a.b-c_1": true, "": false, "..": false, "a b": false, strings.Repeat("x", 250): false} {
		if err := CheckTopic(topic); (err == nil) != ok {
			t.Errorf("%q: %v", topic, err)
		}
	}
}
