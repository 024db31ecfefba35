// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/vigie-io/vigie/internal/posture/scan"
)

// baseline is the file of known findings.
type baseline struct {
	Version  int            `json:"version"`
	Findings map[string]int `json:"findings"` // fingerprint → how often
}

func readBaseline(path string) (map[string]int, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the baseline: %w", err)
	}
	var b baseline
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("read the baseline %s: %w", path, err)
	}
	if b.Version != 1 {
		return nil, fmt.Errorf("read the baseline %s: its version is %d, want 1: make it anew with --write-baseline", path, b.Version)
	}
	return b.Findings, nil
}

func writeBaseline(path string, r *scan.Report) error {
	b := baseline{Version: 1, Findings: map[string]int{}}
	for _, f := range r.Findings {
		b.Findings[f.Fingerprint]++
	}
	text, err := json.MarshalIndent(b, "", " ")
	if err != nil {
		return fmt.Errorf("write the baseline: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil { //nolint:gosec // it is meant to be committed
		return fmt.Errorf("write the baseline: %w", err)
	}
	return nil
}
