// SPDX-License-Identifier: Apache-2.0

// Package history reads what the agent's history is on disk with a reader of somebody else: DuckDB, which comes as a
// library in C++. It is a module of its own, so that neither the agent nor its other tests depend on that.
package history
