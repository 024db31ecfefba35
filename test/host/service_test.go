// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	policies = "/etc/vigie/policies"
	settings = "/etc/default/vigie" // VIGIE_ARGS
	secret   = "/srv/secret"
	public   = "/srv/public"
)

// The service starts in the sandbox of its unit, and says itself that nothing is amiss.
func TestService(t *testing.T) {
	needGuest(t)
	install(t)
	if n := property(t, "NRestarts"); n != "0" {
		t.Errorf("it was restarted %s times:\n%s", n, journal())
	}
	t.Log(must(t, "vigie", "status")) // its exit code says whether all works
	t.Log(must(t, "vigie", "doctor"))
	t.Log(must(t, "systemd-analyze", "--no-pager", "security", "vigie.service"))
	if log := journal(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("its log has complaints:\n%s", log)
	}
	must(t, "systemctl", "reload", "vigie")
	await(t, "the agent to answer after a reload", func() bool {
		_, err := try("vigie", "status")
		return err == nil
	})
	t.Log(must(t, "vigie", "ps"))
	for _, unit := range []string{"nginx.service", "redis-server.service", "postgresql@15-main.service", "ssh.service", "cron.service"} {
		if out := must(t, "vigie", "ps", "--workload", unit); !strings.Contains(out, unit) {
			t.Errorf("no process of %s in\n%s", unit, out)
		}
	}
}

// Where the kernel has LSM, rules about files need none of the drop-in's capabilities.
func TestFilesAreDeniedByLSM(t *testing.T) {
	needGuest(t)
	install(t)
	protect(t, "keep")
	denied(t, "EPERM by LSM")
	if out := must(t, "vigie", "policy", "show", "clerk"); !strings.Contains(out, "lsm file_open") {
		t.Errorf("the rule is not carried by LSM:\n%s", out)
	}
}

// A restart, also with another program in its place, takes no policy out of force and misses no event.
func TestRestart(t *testing.T) {
	needGuest(t)
	events := "/var/lib/vigie/events.json"
	write(t, settings, "VIGIE_ARGS=--export-json "+events+"\n")
	t.Cleanup(func() { _ = os.Remove(settings) })
	install(t)
	must(t, "systemctl", "restart", "vigie")
	protect(t, "keep")
	denied(t, "before the restart")

	const many = 300
	for _, name := range []string{"/srv/leaked", "/srv/done"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	must(t, "systemd-run", "--unit=clerk", "--service-type=exec", "sh", "-c", fmt.Sprintf(
		"i=0; while [ $i -lt %d ]; do cat %s >>/srv/leaked; /bin/true mark-$i-; i=$((i+1)); done; echo >/srv/done", many, secret))
	before := property(t, "MainPID")
	must(t, "systemctl", "restart", "vigie")
	must(t, "install", "-m", "755", "bin/vigie", "/usr/local/bin/")
	must(t, "systemctl", "restart", "vigie")
	if after := property(t, "MainPID"); after == before {
		t.Errorf("it is still process %s", before)
	}
	await(t, "the work to be done", func() bool { return exists("/srv/done") })
	if b := read(t, "/srv/leaked"); b != "" {
		t.Errorf("the secret was read during the restart: %q", b)
	}
	denied(t, "after the restart")
	missing := func() (list []int) {
		text := read(t, events)
		for i := range many {
			if !strings.Contains(text, fmt.Sprintf(`"mark-%d-"`, i)) {
				list = append(list, i)
			}
		}
		return list
	}
	for end := 100; len(missing()) > 0 && end > 0; end-- {
		must(t, "/bin/true") // the export is written in batches
	}
	if list := missing(); len(list) > 0 {
		t.Errorf("%d of %d programs were not seen: %v\n%s", len(list), many, list, journal())
	}
	t.Log(must(t, "vigie", "status"))
}

// What carries policies of files below LSM needs the drop-in; without it they are refused, with the reason.
func TestDropInForFanotify(t *testing.T) {
	needGuest(t)
	write(t, settings, "VIGIE_ARGS=--enforce-backends fanotify,execkill,network,after\n")
	t.Cleanup(func() {
		_ = os.Remove(settings)
		_ = os.Remove(dropInDir + "/vigie-enforce.conf")
		_, _ = try("systemctl", "daemon-reload")
		_, _ = try("systemctl", "restart", "vigie")
	})
	install(t)
	write(t, policies+"/clerk.yaml", policyText("release"))
	refused := func(needs string) {
		t.Helper()
		must(t, "systemctl", "daemon-reload")
		must(t, "systemctl", "restart", "vigie")
		await(t, "the policy to be refused for want of "+needs, func() bool {
			out, _ := try("vigie", "policy", "show", "clerk")
			return strings.Contains(out, needs)
		})
	}
	refused("CAP_SYS_ADMIN")
	must(t, "install", "-D", "-m", "644", "-t", dropInDir, "deploy/systemd/vigie-enforce.conf")
	write(t, dropInDir+"/without.conf", "[Service]\nCapabilityBoundingSet=~CAP_SYS_CHROOT\n")
	refused("CAP_SYS_CHROOT")
	for _, name := range []string{policies + "/clerk.yaml", dropInDir + "/without.conf"} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}

	must(t, "systemctl", "daemon-reload")
	must(t, "systemctl", "restart", "vigie")
	t.Log(must(t, "vigie", "status"))
	protect(t, "release")
	denied(t, "by fanotify")
	if out := must(t, "vigie", "policy", "show", "clerk"); !strings.Contains(out, "fanotify") {
		t.Errorf("the rule is not carried by fanotify:\n%s", out)
	}
	must(t, "systemctl", "restart", "vigie")
	await(t, "the policy to be in force again", func() bool { return clerk(secret) != nil })
	denied(t, "by fanotify, after a restart")
	log := must(t, "journalctl", "--no-pager", "_SYSTEMD_INVOCATION_ID="+property(t, "InvocationID"))
	if !strings.Contains(log, "level=INFO") || strings.Contains(log, "level=ERROR") {
		t.Errorf("its log has errors:\n%s", log)
	}
}

// A stop is quick and clean, and a policy that is kept stays in force, one that is released does not.
func TestStop(t *testing.T) {
	needGuest(t)
	install(t)
	for _, exit := range []string{"keep", "release"} {
		protect(t, exit)
		must(t, "systemctl", "stop", "vigie")
		if result := property(t, "Result"); result != "success" {
			t.Errorf("it ended with %s:\n%s", result, journal())
		}
		if err := clerk(secret); (err != nil) != (exit == "keep") {
			t.Errorf("onAgentExit: %s, and without an agent the secret is read with %v", exit, err)
		}
		must(t, "systemctl", "start", "vigie")
		await(t, "the policy to be in force again", func() bool { return clerk(secret) != nil })
	}
}

func policyText(exit string) string {
	return "apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: clerk}\nspec:\n  selector: {unit: clerk.service}\n  mode: enforce\n" +
		"  onAgentExit: " + exit + "\n  files: {deny: [{path: " + secret + ", access: read}]}\n"
}

// protect puts a policy into the directory and waits until it is in force. It goes away with the test.
func protect(t *testing.T, exit string) {
	t.Helper()
	write(t, secret, "secret\n")
	write(t, public, "public\n")
	write(t, filepath.Join(policies, "clerk.yaml"), policyText(exit))
	t.Cleanup(func() { _ = os.Remove(filepath.Join(policies, "clerk.yaml")) })
	await(t, "the policy to be in force", func() bool { return clerk(secret) != nil })
}

// denied checks what the policy denies and that it denies nothing else, in a unit of its own each time.
func denied(t *testing.T, when string) {
	t.Helper()
	if err := clerk(secret); err == nil || !strings.Contains(err.Error(), "Operation not permitted") {
		t.Errorf("%s: the secret is read with %v", when, err)
	}
	if err := clerk(public); err != nil {
		t.Errorf("%s: a file of no rule is read with %v", when, err)
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret\n" {
		t.Errorf("%s: a process of another unit reads %q, %v", when, b, err)
	}
	await(t, "the verdict", func() bool {
		out, err := try("vigie", "events", "--type=verdict", "--output=json")
		return err == nil && strings.Contains(out, `"policy":"clerk"`)
	})
}

// clerk reads a file as a unit that systemd makes.
func clerk(name string) error {
	out, err := try("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit=clerk", "cat", name)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
