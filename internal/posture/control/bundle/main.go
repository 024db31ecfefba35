// SPDX-License-Identifier: Apache-2.0

// Command bundle writes controls.json, which holds the controls that come with vigie as a scan needs them: reading 190 YAML files takes longer
// than scanning one manifest. Run it by go generate after a change of a control.
package main

import (
	"fmt"
	"os"

	"github.com/vigie-io/vigie/internal/posture/control"
)

func main() { os.Exit(run()) } //nolint:forbidigo // this is main

func run() int {
	text, err := control.Bundle()
	if err == nil {
		err = os.WriteFile("controls.json", text, 0o644) //nolint:gosec // it is committed
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bundle the controls:", err)
		return 1
	}
	return 0
}
