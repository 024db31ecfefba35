// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// The benchmarks of `make bench-cluster`. Each is one part of docs/benchmarks-cluster.md, run with -benchtime 1x.
var (
	benchRounds = flag.Int("bench-rounds", 6, "rounds of each comparison")
	benchSample = flag.Duration("bench-sample", time.Second, "length of one sample")
	benchPage   = flag.String("bench-page", "", "where the page goes that is made of the last run of each part; standard output without it")
)

// arm is one of the things that are compared.
type arm struct {
	name     string
	agent    bool
	count    int  // of policies
	selected bool // they select the pods that are measured, not others
	cluster  bool // the cluster has policies already
}

const (
	armWithout  = "without vigie"
	armWatching = "vigie watches"
)

// policyCounts are how many policies there are in the arms with policies.
func policyCounts() []int { return []int{10, 1000, 5000} }

func armName(count int, selected bool) string {
	about := "other pods"
	if selected {
		about = "these pods"
	}
	return fmt.Sprintf("%d policies about %s", count, about)
}

func benchArms() []arm {
	list := []arm{{name: armWithout}, {name: armWatching, agent: true}}
	for _, selected := range []bool{false, true} {
		for _, n := range policyCounts() {
			list = append(list, arm{name: armName(n, selected), agent: true, count: n, selected: selected})
		}
	}
	return list
}

// The loads, as the actor calls them, and where the server is.
const (
	loadRequests    = "rr"
	loadConnections = "crr"
	loadStream      = "stream"
	oneNode         = "one node"
	acrossNodes     = "across nodes"
)

func benchLoads() []string { return []string{loadRequests, loadConnections, loadStream} }

// benchSampled is one load in one arm of one round.
type benchSampled struct {
	Load  string        `json:"load"`
	Where string        `json:"where"`
	Arm   string        `json:"arm"`
	Round int           `json:"round"`
	Count int           `json:"count"`      // round trips, connections, or bytes
	PerOp float64       `json:"per_op_ns"`  // of wall time
	Agent time.Duration `json:"agent_cpu"`  // of all agents, in the sample
	For   time.Duration `json:"elapsed_ns"` // of the sample
}

// benchPrograms is what the agent's programs took in one load.
type benchPrograms struct {
	Load, Arm string
	Count     int
	Programs  []measure.RunStats
}

// loaded is the part of the page about the speed of pods' connections.
type loaded struct {
	About    about
	Rounds   int
	Sample   time.Duration
	Seed     uint64
	Samples  []benchSampled
	Programs []benchPrograms
	InForce  map[string][]time.Duration // by arm: from the agent's start until its policies were in force
}

// sample runs each load once between the client and a server.
func (w *bench) sample(a arm, where string, round int) (out []benchSampled) {
	w.t.Helper()
	server := map[string]string{oneNode: "measured/near", acrossNodes: "measured/far"}[where]
	for _, load := range benchLoads() {
		if _, _, err := w.order("n1", "measured/client", load, w.addresses[server], *benchSample/8); err != nil {
			w.t.Fatalf("%s, %s: %s: %v", a.name, where, load, err)
		}
		before := w.cpu()
		n, elapsed, err := w.order("n1", "measured/client", load, w.addresses[server], *benchSample)
		if err != nil || n == 0 {
			w.t.Fatalf("%s, %s: %s: %d done, %v", a.name, where, load, n, err)
		}
		s := benchSampled{Load: load, Where: where, Arm: a.name, Round: round, Count: n, PerOp: float64(elapsed) / float64(n), Agent: w.cpu() - before, For: elapsed}
		w.t.Logf("round %d, %s, %s: %s: %.4g ns", round+1, a.name, where, load, s.PerOp)
		out = append(out, s)
	}
	return out
}

// BenchmarkClusterPods measures connections between pods, on one node with that node's agent, and across nodes with an agent on each.
func BenchmarkClusterPods(b *testing.B) {
	w := newBench(b)
	part := loaded{Rounds: *benchRounds, Sample: *benchSample, Seed: uint64(time.Now().UnixNano()), InForce: map[string][]time.Duration{}}
	part.About = begin(b, w.Cluster)
	arms := benchArms()
	for round, places := range measure.Order(*benchRounds, len(arms), rand.New(rand.NewPCG(part.Seed, part.Seed))) {
		for _, i := range places {
			a := arms[i]
			if took := w.startAgentOf("n1", a); a.count > 0 {
				part.InForce[a.name] = append(part.InForce[a.name], took)
			}
			part.Samples = append(part.Samples, w.sample(a, oneNode, round)...)
			w.startAgentOf("n2", a)
			part.Samples = append(part.Samples, w.sample(a, acrossNodes, round)...)
			w.stopAgents()
		}
	}
	w.programs(&part, arms)
	part.About.end()
	store(b, func(r *benchResults) { r.Pods = &part })
}

// programs runs loads once more with the programs' run time measured, which itself costs time: so these are no samples.
func (w *bench) programs(part *loaded, arms []arm) {
	w.t.Helper()
	for _, a := range arms {
		if !a.agent || a.count != 0 && a.count != slices.Max(policyCounts()) {
			continue
		}
		w.startAgentOf("n1", a)
		stop, err := measure.TimePrograms()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, load := range []string{loadRequests, loadConnections} {
			before, err := measure.ProgramsOf(w.agents["n1"].pid())
			if err != nil {
				w.t.Fatal(err)
			}
			n, _, err := w.order("n1", "measured/client", load, w.addresses["measured/near"], *benchSample)
			if err != nil {
				w.t.Fatal(err)
			}
			after, err := measure.ProgramsOf(w.agents["n1"].pid())
			if err != nil {
				w.t.Fatal(err)
			}
			part.Programs = append(part.Programs, benchPrograms{Load: load, Arm: a.name, Count: n, Programs: measure.RanBetween(before, after)})
		}
		if err := stop.Close(); err != nil {
			w.t.Fatal(err)
		}
		w.stopAgents()
	}
}

// begin notes what the machine is.
func begin(t testing.TB, c *lab.Cluster) about {
	return about{Began: time.Now().UTC(), Host: measure.Host(vigieBinary(t)), Kubernetes: kubernetesVersion(t, c)}
}

// about is when, on what and with what a part was measured.
type about struct {
	Began      time.Time
	Took       time.Duration
	Host       measure.Facts
	Kubernetes string
}

func (a *about) end() {
	a.Took, a.Host.LoadAfter = time.Since(a.Began).Round(time.Second), measure.LoadAverage()
}

// benchResults are the last results of each part.
type benchResults struct {
	Pods   *loaded  `json:"pods,omitempty"`
	Change *changed `json:"change,omitempty"`
	Scale  *scaled  `json:"scale,omitempty"`
}

// store puts a part among the results, which lie in the cache folder, and writes the page anew.
func store(t testing.TB, put func(*benchResults)) {
	t.Helper()
	cache, err := lab.Cache()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(cache), "bench-cluster.json")
	var r benchResults
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("read the results of the other parts: %v: remove %s", err, file)
	}
	put(&r)
	if data, err = json.MarshalIndent(&r, "", "\t"); err == nil {
		err = os.WriteFile(file, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	r.write(&page)
	if *benchPage == "" {
		_, err = io.WriteString(os.Stdout, page.String())
	} else {
		err = os.WriteFile(*benchPage, []byte(page.String()), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
