// SPDX-License-Identifier: Apache-2.0

// Package api holds the definitions of the agent's API. In: vigie/v1/*.proto. Out, by `go generate`: the
// Go code beside them and docs/events.md. Generating needs nothing but Go.
package api

//go:generate go run ./internal/protogen
//go:generate go run ./internal/docgen
