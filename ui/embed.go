// SPDX-License-Identifier: Apache-2.0

// Package ui is the web page. In: its sources, in TypeScript, of which `make ui` builds dist; that is committed, so
// that building the agent needs Go alone. Out: the files of the page.
package ui

import (
	"embed"
	"io/fs"
)

//go:embed dist
var dist embed.FS

// Page is the built page, index.html at its root.
func Page() (fs.FS, error) { return fs.Sub(dist, "dist") }
