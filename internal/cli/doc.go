// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of vigie. In: arguments, an optional configuration file, and what an
// agent answers over its API. Out: text, JSON or YAML on standard output, errors that say what to do
// next on standard error, and an exit code. It does not know the agent: `vigie run` gets it as a
// function from cmd/vigie.
package cli
