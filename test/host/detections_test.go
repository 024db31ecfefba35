// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"strings"
	"testing"
)

// What no test may do to a host that is somebody's, a real process does here: each detection finds it, and not its near miss.
func TestDetectionsOfWhatChangesTheKernel(t *testing.T) {
	needGuest(t)
	install(t)
	for rule, does := range map[string]struct{ hit, miss string }{
		"module_loaded":   {"insmod $(modinfo --field filename dummy)", "modprobe veth"},
		"sysrq_triggered": {"echo h >/proc/sysrq-trigger", "cat /proc/sys/kernel/sysrq"}, // h: the kernel prints its help
	} {
		t.Run(rule, func(t *testing.T) {
			found := func() bool {
				out := must(t, "vigie", "events", "--type", "alert", "--last", "1000", "-o", "json")
				return strings.Contains(out, fmt.Sprintf(`"rule":%q`, rule))
			}
			mark := "/srv/mark-" + rule
			must(t, "sh", "-c", does.miss+" && echo >"+mark)
			await(t, "the near miss to be over", func() bool {
				return strings.Contains(must(t, "vigie", "events", "--path", mark, "-o", "json"), mark)
			})
			if found() {
				t.Errorf("the near miss raises it: %s", does.miss)
			}
			must(t, "sh", "-c", does.hit)
			await(t, "the alert "+rule, found)
		})
	}
}
