// SPDX-License-Identifier: Apache-2.0

// Package model holds the plain types that every other room speaks: Event, Process, Workload and
// their parts. Sensors fill them, the process table enriches them once, everything after that only
// reads them. A *Process, a *Workload and an *Event are immutable once they have left the enrich
// stage: whoever needs a change makes a copy.
//
// The package imports nothing but the standard library.
package model
