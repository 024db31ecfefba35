// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
)

// fieldErrors are the parts of a joined error.
func fieldErrors(err error) []*FieldError {
	var out []*FieldError
	var one *FieldError
	var joined interface{ Unwrap() []error }
	switch {
	case errors.As(err, &joined):
		for _, inner := range joined.Unwrap() {
			out = append(out, fieldErrors(inner)...)
		}
	case errors.As(err, &one):
		out = append(out, one)
	}
	return out
}

func TestErrorsNameLineAndField(t *testing.T) {
	_, err := Parse("p.yaml", []byte(`apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata:
  name: x
spec:
  kprobes:
  - call: sys_openat
    args:
    - index: 1
      type: strin
    - {index: two, type: int}
    selectors:
    - matchArgs: [{index: 1, operator: Equal, values: [a]}]
    - matchArgs:
      - index: 1
        operator: Eqal
        values: [a]
      matchPid: []
  - call: sys_nothing
`))
	want := []string{
		`p.yaml:10:13: spec.kprobes[0].args[0].type: "strin" is not known`,
		`p.yaml:11:15: spec.kprobes[0].args[1].index: "two" is not a whole number`,
		`p.yaml:18:7: spec.kprobes[0].selectors[1].matchPid: there is no such field`,
		`p.yaml:16:19: spec.kprobes[0].selectors[1].matchArgs[0].operator: "Eqal" does not go with`,
		`p.yaml:19:11: spec.kprobes[1].call: there is no system call "sys_nothing"`,
	}
	var got []string
	for _, e := range fieldErrors(err) {
		got = append(got, e.Error())
	}
	for _, w := range want {
		found := false
		for _, g := range got {
			found = found || strings.HasPrefix(g, w)
		}
		if !found {
			t.Errorf("there is no error %q in\n%s", w, strings.Join(got, "\n"))
		}
	}
}

// TestRefusedWhereverItRuns: what is wrong without looking at a kernel.
func TestRefusedWhereverItRuns(t *testing.T) {
	open := func(rest string) string { return onCall("sys_openat", "[{index: 1, type: string}]", rest) }
	tests := []struct{ name, spec, field, problem string }{
		{"no hook", "  options: []\n", "spec", "there is no hook"},
		{"loader", "  loader: true\n", "spec.loader", "not reported"},
		{"option", open("{}") + "  options: [{name: speed, value: high}]\n", "spec.options[0].name", "no option"},
		{"mode", open("{}") + "  options: [{name: policy-mode, value: hard}]\n", "spec.options[0].value", "no mode"},
		{"nodes", open("{}") + "  nodeSelector: {}\n", "spec.nodeSelector", "nodes"},
		{"host labels", open("{}") + "  hostSelector: {matchLabels: {a: b}}\n", "spec.hostSelector", "only {}"},
		{"label operator", open("{}") + "  podSelector: {matchExpressions: [{key: a, operator: Like, values: [b]}]}\n", "spec.podSelector.matchExpressions[0].operator", "Like"},
		{"too many args", onCall("sys_openat", "[{index: 0, type: int}, {index: 1, type: int}, {index: 2, type: int}, {index: 3, type: int}, {index: 4, type: int}, {index: 5, type: int}]", "{}"), "spec.kprobes[0].args", "at most 5"},
		{"auto of a call", onCall("sys_openat", "[{index: 1}]", "{}"), "", ""},
		{"no size", onCall("sys_write", "[{index: 1, type: char_buf}]", "{}"), "spec.kprobes[0].args[0].sizeArgIndex", "counted from 1"},
		{"late without return", onCall("sys_read", "[{index: 1, type: char_buf, returnCopy: true}]", "{}"), "spec.kprobes[0].args[0].returnCopy", "return: true"},
		{"return without type", "  kprobes: [{call: sys_read, return: true}]\n", "spec.kprobes[0].returnArg", "needs the type"},
		{"iov_iter", onCall("sys_read", "[{index: 1, type: iov_iter}]", "{}"), "spec.kprobes[0].args[0].type", "char_iovec"},
		{"pt_regs", "  kprobes: [{call: sys_read, data: [{type: int, source: pt_regs, resolve: ax}]}]\n", "spec.kprobes[0].data[0].source", "pt_regs"},
		{"other ABI", onCall("i386/sys_openat", "[]", "{}"), "spec.kprobes[0].call", "i386"},
		{"no such argument", open("matchArgs: [{index: 3, operator: Equal, values: [a]}]"), "spec.kprobes[0].selectors[0].matchArgs[0]", "add it to args"},
		{"no values", open("matchArgs: [{index: 1, operator: Equal}]"), "spec.kprobes[0].selectors[0].matchArgs[0].values", "at least one"},
		{"CEL of a text", open("matchArgs: [{operator: CelExpr, values: [\"arg0 == 'a'\"]}]"), "spec.kprobes[0].selectors[0].matchArgs[0].values[0]", "arg0"},
		{"CEL of another function", onCall("sys_lseek", "[{index: 1, type: int64}]", "matchArgs: [{operator: CelExpr, values: [\"arg0 * 2 == 4\"]}]"), "spec.kprobes[0].selectors[0].matchArgs[0].values[0]", "not compiled"},
		{"CEL without an answer", onCall("sys_lseek", "[{index: 1, type: int64}]", "matchArgs: [{operator: CelExpr, values: [\"arg0 + 2\"]}]"), "spec.kprobes[0].selectors[0].matchArgs[0].values[0]", "true or false"},
		{"wrong operator", open("matchArgs: [{index: 1, operator: SAddr, values: [127.0.0.1]}]"), "spec.kprobes[0].selectors[0].matchArgs[0].operator", "does not go with the type string"},
		{"pid operator", open("matchPIDs: [{operator: Equal, values: [1]}]"), "spec.kprobes[0].selectors[0].matchPIDs[0].operator", "In and NotIn"},
		{"two binaries", open("matchBinaries: [{operator: In, values: [a]}, {operator: In, values: [b]}]"), "spec.kprobes[0].selectors[0].matchBinaries", "more than one"},
		{"capability", open("matchCapabilities: [{operator: In, values: [CAP_FLY]}]"), "spec.kprobes[0].selectors[0].matchCapabilities[0].values[0]", "CAP_FLY"},
		{"namespace", open("matchNamespaces: [{namespace: Disk, operator: In, values: [host_ns]}]"), "spec.kprobes[0].selectors[0].matchNamespaces[0].namespace", "Disk"},
		{"return filter", open("matchReturnArgs: [{operator: Equal, values: [\"0\"]}]"), "spec.kprobes[0].selectors[0].matchReturnArgs", "return: true"},
		{"FollowFD", open("matchActions: [{action: FollowFD}]"), "spec.kprobes[0].selectors[0].matchActions[0].action", "type fd"},
		{"GetUrl", open("matchActions: [{action: GetUrl, argUrl: http://x}]"), "spec.kprobes[0].selectors[0].matchActions[0].action", "way out"},
		{"Set", open("matchActions: [{action: Set}]"), "spec.kprobes[0].selectors[0].matchActions[0].action", "Set"},
		{"signal", open("matchActions: [{action: Signal, argSig: 65}]"), "spec.kprobes[0].selectors[0].matchActions[0].argSig", "no signal"},
		{"rate limit", open("matchActions: [{action: Post, rateLimit: often}]"), "spec.kprobes[0].selectors[0].matchActions[0].rateLimit", "no time"},
		{"no enforcer", open("matchActions: [{action: NotifyEnforcer, argSig: 9}]"), "spec.kprobes[0].selectors[0].matchActions[0].action", "spec.enforcers"},
		{"Override of a tracepoint", "  tracepoints: [{subsystem: a, event: b, selectors: [{matchActions: [{action: Override}]}]}]\n", "spec.tracepoints[0].selectors[0].matchActions[0].action", "only observes"},
		{"no macro", open("macros: [m]"), "spec.kprobes[0].selectors[0].macros[0]", "no macro"},
		{"macro twice", open("macros: [m]\n      matchPIDs: [{operator: In, values: [1]}]") + "  selectorsMacros: {m: {matchPIDs: [{operator: In, values: [1]}]}}\n", "spec.kprobes[0].selectors[0].macros[0]", "matchPIDs"},
		{"no list", onCall("list:x", "[]", "{}"), "spec.kprobes[0].call", "no list"},
		{"two places", "  uprobes: [{path: /x, symbols: [a], offsets: [1]}]\n", "spec.uprobes[0]", "exactly one"},
		{"program's types", "  uprobes: [{path: /x, btfPath: /y, symbols: [a]}]\n", "spec.uprobes[0].btfPath", "types"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("p.yaml", []byte(policyText(test.spec)))
			list := fieldErrors(err)
			if test.field == "" {
				if err != nil {
					t.Errorf("error is %v, want none", err)
				}
				return
			}
			if len(list) == 0 || list[0].Field != test.field || !strings.Contains(list[0].Problem, test.problem) || list[0].Line < 4 {
				t.Errorf("error is %v, want one of %s with %q", err, test.field, test.problem)
			}
		})
	}
}

// TestRefusedHere: what the running kernel has to be asked for.
func TestRefusedHere(t *testing.T) {
	tests := []struct{ name, spec, field, problem string }{
		{"auto of a call", onCall("sys_openat", "[{index: 1}]", "{}"), "spec.kprobes[0].args[0].type", "give one"},
		{"seventh argument", onCall("sys_openat", "[{index: 6, type: int}]", "{}"), "spec.kprobes[0].args[0].index", "at most six"},
		{"no tracepoint", "  tracepoints: [{subsystem: sched, event: sched_nothing}]\n", "spec.tracepoints[0].event", "no tracepoint"},
		{"no raw tracepoint", "  tracepoints: [{subsystem: sched, event: sched_nothing, raw: true}]\n", "spec.tracepoints[0].event", "no tracepoint"},
		{"hidden field", "  tracepoints: [{subsystem: sched, event: sched_process_exec, args: [{index: 0, type: int}]}]\n", "spec.tracepoints[0].args[0].index", "does not show"},
		{"no member", "  tracepoints: [{subsystem: sched, event: sched_process_exec, raw: true, args: [{index: 0, type: int, resolve: nothing.here}]}]\n", "spec.tracepoints[0].args[0].resolve", "no member"},
		{"no program", "  uprobes: [{path: /nowhere/program, symbols: [main]}]\n", "spec.uprobes[0].path", "/nowhere/program"},
		{"no static probes", "  usdts: [{path: /proc/self/exe, provider: a, name: b}]\n", "spec.usdts[0].path", "no static probes"},
		{"number", onCall("sys_openat", "[{index: 2, type: int}]", "matchArgs: [{index: 2, operator: Equal, values: [many]}]"), "spec.kprobes[0].selectors[0].matchArgs[0].values[0]", "no number"},
		{"network", onCall("sys_connect", "[{index: 1, type: sockaddr}]", "matchArgs: [{index: 1, operator: SAddr, values: [10.0.0.0/33]}]"), "spec.kprobes[0].selectors[0].matchArgs[0].values[0]", "10.0.0.0/33"},
		{"no hook", "  lsmhooks: [{hook: file_nothing}]\n", "spec.lsmhooks[0]", "no security hook"},
		{"digest", "  uprobes: [{path: /proc/self/exe, symbols: [main.main], binaryDigests: [\"sha256:00\"]}]\n", "spec.uprobes[0].binaryDigests", "sha256:"},
		{"workloads", onOpen("Prefix", "/vt/") + "  podSelector: {}\n", "spec.podSelector", "nobody here knows"},
	}
	r := newRig(t, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			err := r.Apply(context.Background(), r.parse(test.spec)...)
			list := fieldErrors(err)
			if len(list) == 0 || list[0].Field != test.field || !strings.Contains(list[0].Problem, test.problem) {
				t.Errorf("error is %v, want one of %s with %q", err, test.field, test.problem)
			}
			if n := len(r.List()); n != 0 {
				t.Errorf("%d policies are in force after a refusal", n)
			}
		})
	}
	r.t = t
}

func TestSeveralDocuments(t *testing.T) {
	one := policyText(onOpen("Prefix", "/a"))
	list, err := Parse("p.yaml", []byte(one+"---\n"+strings.Replace(one, "name: test", "name: other", 1)+"---\n"))
	if err != nil || len(list) != 2 || list[1].Name != "other" {
		t.Errorf("policies are %v, error %v", list, err)
	}
	for _, bad := range []string{"", "# nothing\n", "a: [", "- a\n", "apiVersion: v1\nkind: Pod\n"} {
		var field *FieldError
		if _, err := Parse("p.yaml", []byte(bad)); !errors.As(err, &field) || field.Line == 0 {
			t.Errorf("%q: error is %v, want one with a line", bad, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(policyText(killOpens)))
	f.Add([]byte(policyText(sentinel)))
	if b, err := os.ReadFile("testdata/everything.yaml"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := Parse("f.yaml", text)
		if err == nil && len(list) == 0 {
			t.Error("neither a policy nor an error")
		}
	})
}
