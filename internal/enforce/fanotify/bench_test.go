// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
)

// BenchmarkOpen is what an open costs that the agent is asked about: of a file that a rule denies, of its neighbour that no
// rule speaks of, and of the neighbour by a process under no policy; and of a file on a watched file system that the cache
// has found not to matter. Each round also opens a file that is not watched. Opener and agent are processes of their own, as in life.
func BenchmarkOpen(b *testing.B) {
	s := newScene(b, "allow")
	stranger := &scene{t: b, dir: s.dir, opened: make(chan string, 16)}
	stranger.startOpener()
	tree := newTreeScene(b)
	unwatched := &scene{t: b, dir: ownMount(b)}
	if err := os.WriteFile(unwatched.dir+"/file", nil, 0o644); err != nil {
		b.Fatal(err)
	}
	const opens = 1000
	took := func(who *scene, name string) int64 {
		if _, err := fmt.Fprintf(who.asks, "%d %s\n", -opens, name); err != nil {
			b.Fatal(err)
		}
		ns, err := strconv.ParseInt(who.answer(), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		return ns
	}
	arms := []struct {
		name string
		who  *scene
		path string
		ns   []int64
	}{{"none", s, unwatched.dir + "/file", nil}, {"kept", tree, tree.dir + "/plain/file", nil}, {"no-policy", stranger, s.dir + "/file", nil}, {"allowed", s, s.dir + "/file", nil},
		{"denied", s, s.dir + "/key", nil}}
	for b.Loop() {
		for i := range arms {
			arms[i].ns = append(arms[i].ns, took(arms[i].who, arms[i].path))
		}
	}
	for i := range arms {
		ns := arms[i].ns
		slices.Sort(ns)
		b.ReportMetric(float64(ns[len(ns)/2]), arms[i].name+"-median-ns/open")
		b.ReportMetric(float64(ns[0]), arms[i].name+"-min-ns/open")
	}
	b.ReportMetric(float64(len(arms[0].ns)), "n")
	b.ReportMetric(0, "ns/op")
}
