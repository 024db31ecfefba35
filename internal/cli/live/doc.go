// SPDX-License-Identifier: Apache-2.0

// Package live is the terminal view of `vigie run` and `vigie top`. In: events, processes and status
// from a running agent, through a Source, and the keys that the user presses. Out: a screen that is
// drawn again when something changed. Everything between is a pure model: messages in, text out.
package live
