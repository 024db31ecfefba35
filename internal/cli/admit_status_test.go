// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/posture/admission"
)

// TestReadAuditLog counts what vigie's policies found, by control, since each control came to its step.
func TestReadAuditLog(t *testing.T) {
	event := func(at time.Time, stage, annotations string) string {
		return fmt.Sprintf(`{"stage":%q,"stageTimestamp":%q,"annotations":{%s}}`+"\n", stage, at.Format(time.RFC3339Nano), annotations)
	}
	const (
		all    = `"vigie-pods-audit/failed":"privileged, host-pid"`
		first  = `"validation.policy.admission.k8s.io/validation_failure":"[{\"message\":\"privileged: it is\",\"policy\":\"vigie-pods-audit\"}]"`
		theirs = `"validation.policy.admission.k8s.io/validation_failure":"[{\"message\":\"privileged: it is\",\"policy\":\"theirs\"}]"`
	)
	late, early := testNow.Add(time.Minute), testNow.Add(-time.Minute)
	text := event(late, "ResponseComplete", all+","+first) + event(late, "ResponseComplete", first) + event(late, "ResponseStarted", first) +
		event(early, "ResponseComplete", first) + event(late, "ResponseComplete", theirs) + "not an event\n" + event(late, "ResponseComplete", `"vigie-pods-audit/failed":"unknown"`)
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	failed, err := readAuditLog(path, map[string]admission.Reached{"privileged": {Since: testNow}, "host-pid": {Since: testNow.Add(time.Hour)}})
	if err != nil || fmt.Sprint(failed) != "map[privileged:2]" {
		t.Errorf("%v %v", failed, err)
	}
	if _, err := readAuditLog(path+"x", nil); err == nil {
		t.Error("a log that is not there is read")
	}
}
