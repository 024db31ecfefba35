// SPDX-License-Identifier: Apache-2.0

// Package host installs vigie as README says on a Debian server with systemd, and holds it to what a service must do there:
// run in its sandbox, enforce, survive a restart, and keep quiet on a host on which nothing happens. In: the guest that
// test/vm boots with -guest debian, which is changed as it likes. Out: verdicts, and what the agent takes of the host.
package host

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

// top is where the parts of the repository are, which README's commands name.
const top = "../.."

// deadline bounds how long a test waits for something that must happen. An emulated host is slow.
const deadline = 45 * testkit.Deadline

// needGuest skips on every host that is somebody's.
func needGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("VIGIE_VM") != "debian" {
		t.Skip("installs services: needs the Debian guest of make test-host")
	}
}

// dropInDir is where administrators add to the unit.
const dropInDir = "/etc/systemd/system/vigie.service.d"

// install does what README says under "As a service". An emulated host is given more time: its kernel takes a minute to check
// the programs.
func install(t *testing.T) {
	t.Helper()
	write(t, dropInDir+"/emulated.conf", "[Service]\nTimeoutStartSec=15min\nTimeoutStopSec=5min\n")
	for _, line := range []string{
		"install -m 755 bin/vigie /usr/local/bin/",
		"install -m 644 deploy/systemd/vigie.service /etc/systemd/system/",
		"systemctl enable --now vigie",
	} {
		must(t, strings.Fields(line)...)
	}
	if state := property(t, "ActiveState"); state != "active" {
		t.Fatalf("the service is %s after its start:\n%s", state, journal())
	}
}

// must runs a command of an operator's and returns what it prints.
func must(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := try(argv...)
	if err != nil {
		t.Fatalf("%s: %v\n%s\nthe agent's journal:\n%s", strings.Join(argv, " "), err, out, journal())
	}
	return out
}

func try(argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = top
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// property is what systemd says of the service.
func property(t *testing.T, name string) string {
	t.Helper()
	return must(t, "systemctl", "show", "--value", "--property="+name, "vigie.service")
}

// journal is the agent's log, or why there is none.
func journal() string {
	out, err := try("journalctl", "--no-pager", "--unit=vigie.service", "--lines=80")
	if err != nil {
		out += err.Error()
	}
	return out
}

// await polls for something that must become true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %v for %s; the agent's journal:\n%s", deadline, what, journal())
}

// decode reads a command's JSON.
func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
}
