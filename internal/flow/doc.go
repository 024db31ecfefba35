// SPDX-License-Identifier: Apache-2.0

// Package flow turns what single sockets say into conversations. In: the river's events of connections, names and policies, in
// order, and counters of what is open. Out: flow events, each conversation once, with both of its ends where both are on this
// host; the list of what is open; and the map of who talks to whom, of now or of any range of history.
//
// A flow is found by its two addresses. Across network namespaces the two ends are joined too, where the addresses leave no
// doubt. Time is the events' own (BootTime).
package flow
