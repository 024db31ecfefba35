// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// said is a thing in the tests of merging: the i-th of a node.
type said struct {
	node int
	i    int
}

// scene is what several nodes say, and when each thing arrives.
type scene struct {
	at, arrived [][]time.Time // by node
}

func newScene(rng *rand.Rand, nodes int, delay time.Duration) scene {
	s := scene{make([][]time.Time, nodes), make([][]time.Time, nodes)}
	for n := range nodes {
		at, arrived := time.Unix(1000, 0), time.Unix(1000, 0)
		for range rng.IntN(60) {
			at = at.Add(time.Duration(rng.Int64N(int64(50 * time.Millisecond))))
			if a := at.Add(time.Duration(rng.Int64N(int64(delay) + 1))); a.After(arrived) {
				arrived = a // a stream keeps its order
			}
			s.at[n], s.arrived[n] = append(s.at[n], at), append(s.arrived[n], arrived)
		}
	}
	return s
}

// play lets the scene happen millisecond by millisecond, with a reader that takes at most so many things in each.
func (s scene) play(t *testing.T, m *merger[said], pace int) (out []said, late uint64) {
	t.Helper()
	var lanes []*lane[said]
	next := make([]int, len(s.at))
	left := 0
	for n := range s.at {
		lanes = append(lanes, m.add(fmt.Sprint(n)))
		m.want(lanes[n], true)
		left += len(s.at[n])
	}
	now := time.Unix(1000, 0)
	for range 60_000 {
		now = now.Add(time.Millisecond)
		for n := range s.at {
			for next[n] < len(s.at[n]) && !s.arrived[n][next[n]].After(now) && !m.isFull(lanes[n]) {
				m.push(lanes[n], said{n, next[n]}, s.at[n][next[n]], now)
				next[n]++
			}
		}
		for range pace {
			_, v, _, ok := m.take(now)
			if !ok {
				break
			}
			out = append(out, v)
		}
		if len(out) == left {
			break
		}
	}
	if len(out) != left {
		t.Fatalf("%d of %d things came", len(out), left)
	}
	if _, _, wait, ok := m.take(now); ok || wait != 0 {
		t.Errorf("an empty merger has something: %v, wait %v", ok, wait)
	}
	for _, l := range lanes {
		late += l.late
	}
	return out, late
}

// Nothing is lost or told twice, each node's own order is kept, and the whole is in the order of time but for what is counted as
// late.
func TestMergeKeepsOrderAndEverything(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		s := newScene(rng, 1+rng.IntN(6), time.Duration(rng.Int64N(int64(400*time.Millisecond))))
		m := newMerger[said](time.Duration(rng.Int64N(int64(300*time.Millisecond))), 1+rng.IntN(20), rng.IntN(2) == 0)
		out, late := s.play(t, m, 1+rng.IntN(5))
		next := make([]int, len(s.at))
		var high time.Time
		misplaced := uint64(0)
		for _, v := range out {
			if v.i != next[v.node] {
				t.Fatalf("round %d: node %d says %d after %d", round, v.node, v.i, next[v.node]-1)
			}
			next[v.node]++
			if at := s.at[v.node][v.i]; at.Before(high) {
				misplaced++
			} else {
				high = at
			}
		}
		if misplaced != late {
			t.Errorf("round %d: %d things stand behind younger ones, %d were counted", round, misplaced, late)
		}
	}
}

// When no node is slower than the window, nothing is late.
func TestMergeIsInOrderWithinTheWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 200 {
		const delay = 100 * time.Millisecond
		s := newScene(rng, 2+rng.IntN(5), delay)
		if _, late := s.play(t, newMerger[said](delay+2*time.Millisecond, 1000, false), 1000); late != 0 {
			t.Errorf("round %d: %d things are late", round, late)
		}
	}
}

// A lane that says nothing is waited for as long as the window, and one that is not wanted not at all.
func TestMergeWaitsForNobodyForLong(t *testing.T) {
	m := newMerger[said](time.Second, 10, false)
	quick, quiet := m.add("quick"), m.add("quiet")
	m.want(quick, true)
	m.want(quiet, true)
	now := time.Unix(1000, 0)
	m.push(quick, said{0, 0}, now, now)
	if _, _, wait, ok := m.take(now.Add(300 * time.Millisecond)); ok || wait != 700*time.Millisecond {
		t.Fatalf("taken %v, to wait %v; want 700ms", ok, wait)
	}
	m.want(quiet, false)
	if _, _, _, ok := m.take(now.Add(300 * time.Millisecond)); !ok {
		t.Error("a node that is away is waited for")
	}
	m.want(quiet, true)
	m.push(quick, said{0, 1}, now, now)
	if _, _, _, ok := m.take(now.Add(time.Second)); !ok {
		t.Error("a node that says nothing is waited for longer than the window")
	}
	for i := range 10 {
		m.push(quick, said{0, 2 + i}, now, now)
	}
	if _, _, _, ok := m.take(now); !ok {
		t.Error("a full lane waits for a quiet one")
	}
}
