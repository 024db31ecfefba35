// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/charmbracelet/x/ansi"
	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/kernel/probe"
)

// asProgram makes the test binary behave as `vigie doctor`.
const asProgram = "VIGIE_TEST_DOCTOR"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	cmd := NewCommand(Streams{Out: os.Stdout, Err: os.Stderr})
	cmd.SetArgs(os.Args[1:])
	err := cmd.Execute()
	var code interface{ ExitCode() int }
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &code):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(code.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// limited is a host on which some jobs are on a lower rung and one is not possible.
func limited() *probe.Report {
	const cause, needs = "this kernel refuses every program that attaches through a trampoline", "a kernel that allows BPF trampolines"
	const noCgroup = "no cgroup v2 hierarchy is mounted"
	return &probe.Report{
		Verdict: probe.Limited, Privileged: true,
		Facts: probe.Facts{Kernel: "6.18.1", Arch: "amd64", BTF: true, JIT: "enabled", Lockdown: "none", Memlock: 8 << 20,
			LSMs: []string{"capability", "bpf"}, BPFFS: "/sys/fs/\x1b[31mbpf", Cgroup: probe.CgroupFacts{Mode: "v1"}},
		Ladder: []probe.Row{
			{Name: "see_processes", Title: "see exec, fork, exit", InUse: 1, Guarantee: probe.Seen,
				Rungs: []probe.Rung{{Title: "tp_btf", Guarantee: probe.Seen, Works: true}}},
			{Name: "deny_privileged", Title: "deny capability, ptrace, bpf, mount, module", InUse: 2, Guarantee: probe.KilledBefore,
				Rungs: []probe.Rung{{Title: "lsm", Guarantee: probe.Denied, Cause: cause, Needs: needs},
					{Title: "SIGKILL", Guarantee: probe.KilledBefore, Works: true, Limits: []string{"covers only some"}}}},
			{Name: "see_sockets", Title: "see sockets", Guarantee: probe.NotAvailable,
				Rungs: []probe.Rung{{Title: "cgroup hooks", Guarantee: probe.Seen, Cause: noCgroup, Needs: "a mount"}}},
		},
		Findings: []probe.Finding{
			{Severity: probe.Limit, What: cause, Costs: "on a lower rung: " + strings.Repeat("some job; ", 20), Fix: needs},
			{Severity: probe.Limit, What: noCgroup, Costs: "not possible here: see sockets", Fix: "a mount"},
			{Severity: probe.Note, What: "bpffs is not mounted", Costs: "an upgrade has a gap", Fix: "mount -t bpf bpf /sys/fs/bpf"},
		},
		Results: []probe.Result{
			{Name: "tp_btf", Kind: probe.KindProgram, About: "typed tracepoints", Works: true},
			{Name: "lsm", Kind: probe.KindProgram, About: "refuse", Cause: cause, Errno: "EPERM", Needs: needs},
			{Name: "netfilter", Kind: probe.KindProgram, About: "hooks", Cause: "the kernel does not know it", Errno: "EINVAL", Needs: "Linux 6.4 or newer"},
		},
	}
}

func print(t *testing.T, r *probe.Report, screen term.Screen, all bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := writePage(&b, r, screen, all); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPageFitsItsTerminal(t *testing.T) {
	for _, width := range []int{60, 80, 100, 140} {
		for line := range strings.Lines(print(t, limited(), term.Screen{Terminal: true, Width: width}, true)) {
			line = strings.TrimSuffix(line, "\n")
			if term.Width(line) > width || strings.HasSuffix(line, " ") {
				t.Errorf("width %d: %q is %d wide", width, line, term.Width(line))
			}
		}
	}
}

func TestPageSaysWhatTheReportSays(t *testing.T) {
	page := print(t, limited(), term.Screen{Terminal: true, Width: 140}, false)
	for _, pattern := range []string{
		`(?m)^● vigie can run here, with limits\.$`,
		`kernel +6\.18\.1, amd64`,
		`cgroups +v1 only`,
		`(?m)^✓ see exec, fork, exit +seen +rung 1/1  tp_btf$`,
		`(?m)^↓ deny capability, ptrace, bpf, mount, module +killed before the first instruction +rung 2/2 \[1\]  SIGKILL$`,
		`└ covers only some`,
		`(?m)^✗ see sockets +not available +no rung works here \[2\]$`,
		`(?m)^  \[1\]  this kernel refuses every program`,
		`(?m)^  \[2\]  no cgroup v2`,
		`fix +mount -t bpf bpf /sys/fs/bpf`,
		`1 of 3 features tried work here`,
	} {
		if !regexp.MustCompile(pattern).MatchString(page) {
			t.Errorf("no match for %s in\n%s", pattern, page)
		}
	}
	if strings.Contains(page, "Every try") {
		t.Error("every try is listed although nobody asked")
	}
}

func TestAllListsEveryTry(t *testing.T) {
	page := print(t, limited(), term.Screen{Terminal: true, Width: 140}, true)
	for _, pattern := range []string{
		`✓ tp_btf +typed tracepoints`,
		`✗ lsm +refuse: \[1\]`,
		`✗ netfilter +hooks: the kernel does not know it \(EINVAL\); it takes Linux 6\.4 or newer`,
		`✗ 1 lsm +\[1\]`,
		`✓ 2 SIGKILL +killed before the first instruction`,
	} {
		if !regexp.MustCompile(pattern).MatchString(page) {
			t.Errorf("no match for %s in\n%s", pattern, page)
		}
	}
}

func TestColourAddsNothingButColour(t *testing.T) {
	plain := print(t, limited(), term.Screen{Terminal: true, Width: 80}, true)
	colour := print(t, limited(), term.Screen{Terminal: true, Width: 80, Style: term.Style{Color: true}}, true)
	if strings.Contains(plain, "\x1b") {
		t.Error("escape characters without colour")
	}
	if !strings.Contains(colour, "\x1b[32m") || ansi.Strip(colour) != plain {
		t.Errorf("with colour:\n%s\nwithout:\n%s", ansi.Strip(colour), plain)
	}
}

func TestWithoutPrivilegesOnlyThatIsSaid(t *testing.T) {
	r := limited()
	r.Verdict, r.Privileged = probe.Unusable, false
	r.Facts.Capabilities.Missing = []string{"CAP_BPF"}
	r.Findings = []probe.Finding{{Severity: probe.Blocker, What: "this process lacks CAP_BPF", Costs: "vigie cannot start", Fix: "use sudo"}}
	page := print(t, r, term.Screen{}, false)
	if !strings.Contains(page, "vigie cannot run here") || !strings.Contains(page, "lacks CAP_BPF") || strings.Contains(page, "rung") {
		t.Errorf("page:\n%s", page)
	}
}

// execute runs the command on an invented report.
func execute(r *probe.Report, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := newCommand(Streams{Out: &out, Err: &out}, func(context.Context) (*probe.Report, error) { return r, nil })
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

func TestJSONAndYAMLSayTheSame(t *testing.T) {
	asJSON, err := execute(limited(), "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := execute(limited(), "--output", "yaml")
	if err != nil {
		t.Fatal(err)
	}
	var fromJSON, fromYAML, again any
	if err := json.Unmarshal([]byte(asJSON), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(asYAML), &fromYAML); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(fromYAML) // numbers become what JSON makes of them
	if err == nil {
		err = json.Unmarshal(text, &again)
	}
	if err != nil || !reflect.DeepEqual(fromJSON, again) {
		t.Errorf("%v\nJSON %v\nYAML %v", err, fromJSON, again)
	}
	checkNames(t, fromJSON)
	top := fromJSON.(map[string]any)
	for _, name := range []string{"verdict", "facts", "ladder", "findings", "results"} {
		if top[name] == nil {
			t.Errorf("no %q in the report", name)
		}
	}
}

// checkNames requires stable snake_case names at every depth.
func checkNames(t *testing.T, value any) {
	t.Helper()
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			if !regexp.MustCompile(`^[a-z][a-z0-9_]*$`).MatchString(name) {
				t.Errorf("%q is not a snake_case name", name)
			}
			checkNames(t, inner)
		}
	case []any:
		for _, inner := range value {
			checkNames(t, inner)
		}
	}
}

func TestWrongUse(t *testing.T) {
	if out, err := execute(limited(), "-o", "xml"); err == nil || out != "" || !strings.Contains(err.Error(), "table, json or yaml") {
		t.Errorf("output %q, error %v", out, err)
	}
	if _, err := execute(limited(), "extra"); err == nil {
		t.Error("an argument was accepted")
	}
}

func TestUnusableIsExitCode2(t *testing.T) {
	r := limited()
	r.Verdict = probe.Unusable
	r.Findings = append([]probe.Finding{{Severity: probe.Blocker, What: "no BTF", Fix: "another kernel"}}, r.Findings...)
	out, err := execute(r, "-o", "json")
	var unusable *UnusableError
	if !errors.As(err, &unusable) || unusable.ExitCode() != 2 || len(unusable.Findings) != 1 ||
		!strings.Contains(err.Error(), "no BTF; another kernel") {
		t.Errorf("error %v", err)
	}
	if !json.Valid([]byte(out)) {
		t.Error("the report was not printed")
	}
}

func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 2 {
		t.Fatalf("exit code %d (%v): %s", code, err, errOut.String())
	}
	for _, want := range []string{"CAP_BPF", "sudo vigie doctor", "vigie run --replay FILE"} {
		if !strings.Contains(errOut.String(), want) || !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("%q is not said:\n%s\n%s", want, out.String(), errOut.String())
		}
	}
	if strings.Contains(out.String()+errOut.String(), "MEMLOCK") {
		t.Error("the memory limit is blamed")
	}
}

func TestThisHost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to probe the kernel")
	}
	cmd := exec.Command("/proc/self/exe", "-o", "json")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 2) {
		t.Fatal(err)
	}
	var report probe.Report
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	if (report.Verdict == probe.Unusable) != (err != nil) || len(report.Results) != len(probe.Features()) || len(report.Ladder) == 0 {
		t.Errorf("verdict %s, error %v, %d results, %d rows", report.Verdict, err, len(report.Results), len(report.Ladder))
	}
}
