// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"testing"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
)

func defaultJudge(t testing.TB, target engine.Version) *Judge {
	t.Helper()
	controls, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	j, err := NewJudge(controls, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestControlsJudgeTheirExamples runs with the CEL of the oldest and of the newest version.
func TestControlsJudgeTheirExamples(t *testing.T) {
	oldest, newest := engine.Supported()
	for _, target := range []engine.Version{oldest, newest} {
		t.Run(target.String(), func(t *testing.T) {
			trials, err := defaultJudge(t, target).Try(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, trial := range trials {
				if !trial.OK {
					t.Errorf("%s: %s: %s", trial.Example.File, trial.Example.Name, trial.Reason)
				}
			}
			if len(trials) == 0 {
				t.Error("no control has an example")
			}
		})
	}
}
