// SPDX-License-Identifier: Apache-2.0

// Package render makes manifests of Helm charts and Kustomize overlays, by their own libraries. In: a directory or an archive, and values.
// Out: manifests, each with a way back from its lines to the sources that a person edits. Nothing is fetched and nothing is run.
package render

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/manifest"
)

// Manifest is a text of one or more documents.
type Manifest struct {
	File   string // that the text was made of
	Text   []byte
	Locate manifest.Locate // from a place in the text to one in the sources
}

// Problem is something that could not be rendered. Note: good to know, and nothing is missing because of it.
type Problem struct {
	File         string
	Line, Column int
	Message      string
	Note         bool
}

// Values are what a chart is rendered with.
type Values struct {
	Files   []string // YAML, the last one wins
	Set     []string // KEY=VALUE as `helm --set` takes them
	Version string   // of Kubernetes, as in "1.36"
}

// ChartIn reports whether a directory holds a Helm chart.
func ChartIn(dir string) bool { return isFile(filepath.Join(dir, "Chart.yaml")) }

// IsArchive reports whether a file may be a packed chart.
func IsArchive(file string) bool {
	return strings.HasSuffix(file, ".tgz") || strings.HasSuffix(file, ".tar.gz")
}

// OverlayIn is the kustomization file of a directory; empty when there is none.
func OverlayIn(dir string) string {
	for _, name := range []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} {
		if file := filepath.Join(dir, name); isFile(file) {
			return file
		}
	}
	return ""
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}
