// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/testkit"
)

// keepBPFFS unmounts bpffs at the end of the test if the agent had to mount it.
func keepBPFFS(t *testing.T) {
	const magic = 0xcafe4a11 // BPF_FS_MAGIC
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/bpf", &st); err != nil {
		t.Skipf("needs /sys/fs/bpf: %v", err)
	}
	if st.Type != magic {
		t.Cleanup(func() { _ = unix.Unmount("/sys/fs/bpf", unix.MNT_DETACH) })
	}
}

func TestAnUpgradeMissesNothing(t *testing.T) {
	testkit.RequireBPF(t)
	keepBPFFS(t)
	dir := t.TempDir()
	first := newAgent(t, dir, "--handover")
	first.start()
	first.stop()
	if !strings.Contains(first.log.String(), "programs go on") {
		t.Skipf("needs bpffs: %s", first.log.String())
	}
	cmd := exec.Command("/bin/true", "between the agents")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	second := newAgent(t, dir)
	second.start()
	e := second.awaitEvent("the exec between the agents", func(e map[string]any) bool {
		return e["type"] == "exec" && get(e, "process.pid") == float64(cmd.Process.Pid)
	})
	if e["pre_existing"] == true {
		t.Errorf("it was found by the inventory, not seen happening: %v", e)
	}
	second.stop()
	if left := vigiePins(t); left != "" {
		t.Errorf("pins are left: %s", left)
	}
}

// What is said while no agent runs is in the flows that the next one tells: of what was open, and of what began and ended meanwhile.
func TestFlowsGoOnOverAnUpgrade(t *testing.T) {
	testkit.RequireBPF(t)
	keepBPFFS(t)
	near, far := host(t)
	dir := t.TempDir()
	first := newAgent(t, dir, "--handover", "--export-types", "flow,listen")
	first.start()
	worker := startPeer(t, far, "echo", listen(t, far, "10.70.0.2:8080"))
	long := dial(t, near, "10.70.0.2:8080")
	exchange(t, long, 1000)
	first.awaitEvent("the first report", func(e map[string]any) bool {
		return get(e, "flow.state") == "open" && get(e, "flow.total.bytes_sent") == 1000.0
	})
	first.stop()
	if !strings.Contains(first.log.String(), "programs go on") {
		t.Skipf("needs bpffs: %s", first.log.String())
	}

	exchange(t, long, 200)
	short := dial(t, near, "10.70.0.2:8080")
	exchange(t, short, 77)
	_ = short.Close()

	second := newAgent(t, dir, "--export-types", "flow,listen")
	second.start()
	checkEnds(t, second.flow("what began and ended meanwhile", "tcp", 8080, 77), testkit.PID(), worker.Process.Pid)
	exchange(t, long, 30)
	_ = long.Close()
	f := second.flow("what was open", "tcp", 8080, 1230)
	checkEnds(t, f, testkit.PID(), worker.Process.Pid)
	if f["pre_existing"] != true || get(f, "flow.total.bytes_received") != 1230.0 {
		t.Errorf("what was open is %v", f)
	}
	second.stop()
}

// vigiePins lists what the agents of this lock left in bpffs.
func vigiePins(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("find", "/sys/fs/bpf/vigie", "-name", "link_*").CombinedOutput()
	if err != nil {
		return ""
	}
	return string(out)
}
