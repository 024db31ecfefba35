// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCustomResources holds that the kinds' definitions in api/crd, and in the chart, are what the parser reads.
func TestCustomResources(t *testing.T) {
	for kind, namespaced := range map[string]bool{"WorkloadPolicy": true, "ClusterWorkloadPolicy": false} {
		want, err := CustomResource(kind, namespaced)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"../../api/crd/v1alpha1", "../../deploy/helm/vigie/kinds"} {
			file := filepath.Join(dir, "vigie.io_"+strings.TrimSuffix(strings.ToLower(kind), "y")+"ies.yaml")
			if *update {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != string(want) {
				t.Errorf("%s is old (%v): run go test ./internal/policy -run CustomResources -update", file, err)
			}
		}
	}
}
