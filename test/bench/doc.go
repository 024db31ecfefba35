// SPDX-License-Identifier: Apache-2.0

// Command bench measures what the agent costs, and whether it sees everything.
//
// In flows an agent binary; out flow docs/benchmarks.md and, beside it in the user's cache folder, every raw sample.
// A load runs without the agent, with it, and with empty programs on the same hooks; these arms take turns in random
// order within each round, the agent is started anew for each, and what is reported is the ratio of neighbours. So a
// machine that drifts, or is another one, does not change the answer. The loads are this same binary started again
// as a worker; the programs that they start are ELF files of one page that it writes itself. Policies are compared by agents
// that differ in their policies only (policy_*.go), detections by the rules of the engine alone (detect.go).
package main
