// SPDX-License-Identifier: Apache-2.0

// Package helm holds the Helm chart of vigie, which is the one description of what vigie is in a cluster: `vigie install` renders the same
// templates. In: nothing. Out: the files of the chart.
package helm

import (
	"embed"
	"io/fs"
)

//go:embed all:vigie
var files embed.FS

// Chart is the chart's folder.
func Chart() (fs.FS, error) { return fs.Sub(files, "vigie") }
