// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/vigie-io/vigie/internal/posture/scan"
)

// JSON writes the report as it is. Findings are written one by one, so that a long report is not in memory twice.
func JSON(w io.Writer, r *scan.Report) error {
	out := bufio.NewWriter(w)
	if err := writeReport(out, r); err != nil {
		return fmt.Errorf("write json: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write json: %w", err)
	}
	return nil
}

func writeReport(out *bufio.Writer, r *scan.Report) error {
	rest := *r
	rest.Findings = []scan.Finding{}
	whole, err := json.MarshalIndent(&rest, "", "  ")
	if err != nil {
		return err
	}
	before, after, ok := bytes.Cut(whole, []byte(`"findings": []`))
	if !ok || len(r.Findings) == 0 {
		_, err := out.Write(append(whole, '\n'))
		return err
	}
	if _, err := out.Write(append(before, `"findings": [`...)); err != nil {
		return err
	}
	for i := range r.Findings {
		finding, err := json.MarshalIndent(&r.Findings[i], "    ", "  ")
		if err != nil {
			return err
		}
		between := ",\n    "
		if i == 0 {
			between = "\n    "
		}
		if _, err := out.WriteString(between); err != nil {
			return err
		}
		if _, err := out.Write(finding); err != nil {
			return err
		}
	}
	if _, err := out.WriteString("\n  ]"); err != nil {
		return err
	}
	_, err = out.Write(append(after, '\n'))
	return err
}
