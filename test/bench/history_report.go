// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"
)

// historyRows are the bars of history.
func (r *results) historyRows() []row {
	h := r.History
	if h == nil {
		return nil
	}
	size := row{what: fmt.Sprintf("history: disk for a day of %d million events", h.Events/1_000_000), bar: "≤ 1 GiB",
		measured: fmt.Sprintf("%.0f MiB (%.0f bytes an event, %d files)", float64(h.Bytes)/(1<<20), float64(h.Bytes)/float64(h.Events), h.Segments), verdict: "met"}
	if h.Bytes > historyBytes {
		size.verdict = fmt.Sprintf("**not met**, %.2f of the bar", float64(h.Bytes)/historyBytes)
	}
	size.bound = fmt.Sprintf("The events are made up: fifty services with six processes each, programs that come and go, 2,000 peers, 20,000 files, and numbers of their own for ports, "+
		"bytes, times and trace ids. What is random in them alone, and so cannot be packed, is about 20 bytes an event. Writing and merging takes %s of CPU an event; most heap in use meanwhile, with what makes the events: %d MiB.",
		short(h.CPU/time.Duration(max(h.Events, 1))), h.Heap>>20)
	query := row{what: "history: what one service connected to between 9 and 10", bar: "≤ " + historyQuery.String(),
		measured: fmt.Sprintf("%v by the clock, %v of CPU (%d events)", medianTime(h.Wall), medianTime(h.Query), h.Found), verdict: "met"}
	if medianTime(h.Wall) > historyQuery {
		query.verdict = fmt.Sprintf("**not met**, %.2f of the bar", float64(medianTime(h.Wall))/float64(historyQuery))
	}
	query.bound = fmt.Sprintf("Reading the %.1f MB of segments of that hour as bytes, with their footers, takes %v of CPU. As a table by destination the answer takes %v, top talkers of the whole day %v.",
		float64(h.Read)/1e6, medianTime(h.Floor), medianTime(h.Figures), medianTime(h.Top))
	if len(h.Peer) > 0 && len(h.PeerTop) > 0 {
		query.bound += fmt.Sprintf(" DuckDB, on one thread and the same files: %v (ours %.2f of it) and %v (ours %.2f of it).", medianTime(h.Peer),
			float64(medianTime(h.Figures))/float64(medianTime(h.Peer)), medianTime(h.PeerTop), float64(medianTime(h.Top))/float64(medianTime(h.PeerTop)))
	}
	return []row{size, query}
}
