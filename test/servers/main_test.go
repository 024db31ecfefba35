// SPDX-License-Identifier: Apache-2.0

// Package servers learns policies from nginx, PostgreSQL and Redis as Debian ships them, enforces these, and then attacks
// the servers: through what they offer, and as code that runs inside of them. In: a real agent, real servers, real loads.
// Out: no verdict under load, and for each attack a verdict, an error, and an effect that did not happen.
package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

// deadline bounds how long a test waits for something that must happen. These tests run on emulated hosts too.
const deadline = 9 * testkit.Deadline

// programsEnv names a directory with the programs of these tests. Without it they are made: a guest has no Go.
const programsEnv = "VIGIE_TEST_PROGRAMS"

// built makes the programs of these tests, once: the agent and the implant, both static.
var built = sync.OnceValues(func() (string, error) {
	dir := os.Getenv(programsEnv)
	if _, err := os.Stat(filepath.Join(dir, "vigie")); err == nil {
		return dir, nil
	}
	for name, pkg := range map[string]string{"vigie": "cmd/vigie", "implant": "test/servers/implant"} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, name), "github.com/vigie-io/vigie/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	// The first thread stays where it is: /proc/self is about it, and tests move others into namespaces.
	runtime.LockOSThread()
	if os.Getenv(programsEnv) != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "vigie-servers-")
	if err == nil {
		err = os.Setenv(programsEnv, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// await polls for something that must become true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %v for %s", deadline, what)
}
