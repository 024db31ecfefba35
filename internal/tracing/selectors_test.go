// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// onCall is a policy for one system call.
func onCall(call, args, match string) string {
	return fmt.Sprintf("  kprobes:\n  - call: %s\n    args: %s\n    selectors:\n    - %s\n", call, args, match)
}

// onOpen is a policy for the name that openat is given.
func onOpen(op string, values ...string) string {
	return onCall("sys_openat", "[{index: 1, type: string}]", fmt.Sprintf("matchArgs: [{index: 1, operator: %s, values: [%s]}, {index: 1, operator: Prefix, values: [/vt/]}]",
		op, strings.Join(values, ", ")))
}

// onSeek is a policy for the offset that lseek is given, on a descriptor that no other code uses.
func onSeek(typ, op string, values ...string) string {
	return onCall("sys_lseek", fmt.Sprintf("[{index: 0, type: int}, {index: 1, type: %s}]", typ),
		fmt.Sprintf("matchArgs: [{index: 0, operator: Equal, values: [\"777\"]}, {index: 1, operator: %s, values: [%s]}]", op, strings.Join(values, ", ")))
}

// onCel is a policy for the arguments of lseek.
func onCel(expression string) string {
	return onCall("sys_lseek", "[{index: 0, type: int}, {index: 1, type: int64}]", fmt.Sprintf("matchArgs: [{operator: CelExpr, values: [%q]}]", expression))
}

// onConnect is a policy for the address that connect is given.
func onConnect(op string, values ...string) string {
	return onCall("sys_connect", "[{index: 1, type: sockaddr}]", fmt.Sprintf("matchArgs: [{index: 1, operator: %s, values: [%s]}, {index: 1, operator: Family, values: [AF_INET, inet6]}]",
		op, strings.Join(values, ", ")))
}

// onState is a policy for the socket of the tracepoint of TCP's states, when a connection has been made.
func onState(op string, values ...string) string {
	return fmt.Sprintf("  tracepoints:\n  - {subsystem: sock, event: inet_sock_set_state, raw: true, args: [{index: 0, type: sock}, {index: 2, type: int}], selectors: [{matchArgs: ["+
		"{index: 2, operator: Equal, values: [\"1\"]}, {index: 0, operator: DPort, values: [\"45123\"]}, {index: 0, operator: %s, values: [%s]}]}]}\n", op, strings.Join(values, ", "))
}

func many(n int, format string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return out
}

// TestOperators: a process does what matches, and what only nearly does.
func TestOperators(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct{ name, spec, hit, miss string }{
		{"Equal", onOpen("Equal", "/vt/a", "/vt/abc"), "open /vt/abc", "open /vt/ab"},
		{"Equal with a NUL", onOpen("Equal", `"/vt/a\0"`), "open /vt/a", "open /vt/ab"},
		{"Equal, long", onOpen("Equal", "/vt/"+long), "open /vt/" + long, "open /vt/" + long[1:]},
		{"Equal, many", onOpen("Equal", many(200, "/vt/%d")...), "open /vt/137", "open /vt/200"},
		{"NotEqual", onOpen("NotEqual", "/vt/a", "/vt/b"), "open /vt/c", "open /vt/b"},
		{"NotEqual, many", onOpen("NotEqual", many(200, "/vt/%d")...), "open /vt/200", "open /vt/199"},
		{"Prefix", onOpen("Prefix", "/vt/dir/"), "open /vt/dir/x", "open /vt/di"},
		{"Prefix, many", onOpen("Prefix", many(200, "/vt/d%d/")...), "open /vt/d77/x", "open /vt/d200/x"},
		{"NotPrefix", onOpen("NotPrefix", "/vt/dir/"), "open /vt/other", "open /vt/dir/x"},
		{"Postfix", onOpen("Postfix", ".key", "passwd"), "open /vt/a.key", "open /vt/a.keys"},
		{"Postfix, many", onOpen("Postfix", many(200, ".k%d")...), "open /vt/a.k55", "open /vt/a.k200"},
		{"NotPostfix", onOpen("NotPostfix", ".key"), "open /vt/a.txt", "open /vt/a.key"},
		{"SubString", onOpen("SubString", "needle"), "open /vt/hay-needle-hay", "open /vt/hay-needl-hay"},
		{"SubString, long", onOpen("SubString", "0123456789abcdef"), "open /vt/x0123456789abcdefx", "open /vt/x0123456789abcdeFx"},
		{"SubStringIgnCase", onOpen("SubStringIgnCase", `"NeedLe[@"`), "open /vt/hay-nEEdlE[@", "open /vt/hay-needle{`"},

		{"int Equal", onSeek("int64", "Equal", "5", "-7"), "seek 777 -7", "seek 777 7"},
		{"int Equal, many", onSeek("int64", "Equal", many(100, "%d")...), "seek 777 99", "seek 777 100"},
		{"int NotEqual", onSeek("int64", "NotEqual", "5"), "seek 777 6", "seek 777 5"},
		{"int wide", onSeek("int64", "Equal", "0x123456789a"), "seek 777 78187493530", "seek 777 78187493531"},
		{"int narrow", onSeek("uint8", "Equal", "1"), "seek 777 257", "seek 777 258"},
		{"int signed", onSeek("int8", "LessThan", "0"), "seek 777 255", "seek 777 127"},
		{"GT", onSeek("int64", "GT", "10"), "seek 777 11", "seek 777 -11"},
		{"GT unsigned", onSeek("uint64", "GT", "10"), "seek 777 -11", "seek 777 10"},
		{"LT", onSeek("int64", "LT", "10"), "seek 777 -11", "seek 777 10"},
		{"Mask", onSeek("int64", "Mask", "6"), "seek 777 4", "seek 777 9"},
		{"InMap", onSeek("int64", "InMap", `"3"`, `"10:12"`), "seek 777 11", "seek 777 13"},
		{"NotInMap", onSeek("int64", "NotInMap", `"3"`, `"10:12"`), "seek 777 13", "seek 777 12"},
		{"InRange", onSeek("int64", "InRange", `"10:20"`), "seek 777 20", "seek 777 21"},
		{"NotInRange", onSeek("int64", "NotInRange", `"10:20"`), "seek 777 9", "seek 777 10"},

		{"CelExpr", onCel("arg0 == 777 && arg1 - 3 >= 7"), "seek 777 10", "seek 777 9"},
		{"CelExpr or not", onCel("arg0 == 777 && (!(arg1 < 5) || arg1 == -1)"), "seek 777 -1", "seek 777 4"},
		{"CelExpr bits", onCel("arg0 == 777 && and(arg1, 6) == 4 && xor(or(arg1, 1), 5) == 0"), "seek 777 4", "seek 777 6"},
		{"CelExpr casts", onCel("arg0 == 777 && int32(arg1) == -(2) && uint32(arg1) > 4000000000u"), "seek 777 4294967294", "seek 777 2"},
		{"CelExpr not()", onCel("arg0 == 777 && not(arg1) == -8"), "seek 777 7", "seek 777 8"},

		{"FileType", onCall("sys_fchdir", "[{index: 0, type: fd}]", "matchArgs: [{index: 0, operator: FileType, values: [dir]}]"), "fchdir /tmp", "fchdir /proc/self/maps"},
		{"NotFileType", onCall("sys_fchdir", "[{index: 0, type: fd}]", "matchArgs: [{index: 0, operator: NotFileType, values: [dir]}]"), "fchdir /proc/self/maps", "fchdir /tmp"},
		{"fd Equal", onCall("sys_fchdir", "[{index: 0, type: fd}]", "matchArgs: [{index: 0, operator: Equal, values: [/proc]}]"), "fchdir /proc", "fchdir /tmp"},
		{"char_buf", onCall("sys_write", "[{index: 1, type: char_buf, sizeArgIndex: 3}]", "matchArgs: [{index: 1, operator: Prefix, values: [vigie-trace-]}]"), "write vigie-trace-1", "write vigie-tracE-1"},
		{"char_iovec", onCall("sys_writev", "[{index: 1, type: char_iovec, sizeArgIndex: 3}]", "matchArgs: [{index: 1, operator: Equal, values: [vigie-trace-two]}]"), "writev vigie- trace- two", "writev vigie- trace- thr"},

		{"SAddr", onConnect("SAddr", "127.9.0.0/16", "10.0.0.1"), "connect 127.9.3.4:9", "connect 127.8.3.4:9"},
		{"SAddr, v6", onConnect("SAddr", `"::1/128"`), "connect [::1]:9", "connect 127.0.0.1:9"},
		{"SAddr, many", onConnect("SAddr", many(200, "127.%d.0.0/16")...), "connect 127.77.1.1:9", "connect 127.201.1.1:9"},
		{"NotSAddr", onConnect("NotSAddr", "127.9.0.0/16"), "connect 127.8.3.4:9", "connect 127.9.3.4:9"},
		{"SPort", onConnect("SPort", `"9"`, `"1000:1010"`), "connect 127.0.0.1:1005", "connect 127.0.0.1:1011"},
		{"NotSPort", onConnect("NotSPort", `"9"`), "connect 127.0.0.1:10", "connect 127.0.0.1:9"},
		{"SPortPriv", onConnect("SPortPriv"), "connect 127.0.0.1:9", "connect 127.0.0.1:1024"},
		{"NotSportPriv", onConnect("NotSportPriv"), "connect 127.0.0.1:1024", "connect 127.0.0.1:9"},
		{"Family", onConnect("Family", "AF_INET6"), "connect [::1]:9", "connect 127.0.0.1:9"},

		{"DAddr", onState("DAddr", "127.0.0.0/8"), "serve 127.0.0.1:45123", "serve [::1]:45123"},
		{"NotDAddr", onState("NotDAddr", "127.0.0.0/8"), "serve [::1]:45123", "serve 127.0.0.1:45123"},
		{"DPort", onState("DPort", `"45123"`), "serve 127.0.0.1:45123", "serve 127.0.0.1:45124"},
		{"NotDPort", onState("NotDPort", `"45120:45122"`), "serve 127.0.0.1:45123", "serve 127.0.0.1:45122"},
		{"DPortPriv", onState("NotDPortPriv"), "serve 127.0.0.1:45123", "serve 127.0.0.1:45124"},
		{"Protocol", onState("Protocol", "IPPROTO_TCP"), "serve 127.0.0.1:45123", "serve 127.0.0.1:45124"},
		{"State", onState("State", "TCP_SYN_SENT"), "serve 127.0.0.1:45123", "serve 127.0.0.1:45124"},
	}
	r := newRig(t, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			r.apply(test.spec)
			if len(r.hits(test.hit)) == 0 {
				t.Errorf("%q was not reported", test.hit)
			}
			if got := r.hits(test.miss); len(got) > 0 {
				t.Errorf("%q was reported: %+v", test.miss, got[0])
			}
		})
	}
	r.t = t
}

// TestSelectors: the same call by processes that differ.
func TestSelectors(t *testing.T) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	netns := strings.Trim(strings.TrimPrefix(readlink(t, "/proc/self/ns/net"), "net:"), "[]")
	match := func(s string) string {
		return onCall("sys_openat", "[{index: 1, type: string}]", "matchArgs: [{index: 1, operator: Equal, values: [/vt/x]}]\n      "+s)
	}
	tests := []struct{ name, spec, hit, miss string }{
		{"matchPIDs In", match(fmt.Sprintf("matchPIDs: [{operator: In, values: [%d]}]", os.Getpid())), "", "open /vt/x"},
		{"matchPIDs NotIn", match(fmt.Sprintf("matchPIDs: [{operator: NotIn, values: [%d]}]", os.Getpid())), "open /vt/x", ""},
		{"matchPIDs followForks", match(fmt.Sprintf("matchPIDs: [{operator: In, followForks: true, values: [%d]}]", os.Getpid())), "open /vt/x", "open /vt/y"},
		{"matchPIDs NotIn followForks", match(fmt.Sprintf("matchPIDs: [{operator: NotIn, followForks: true, values: [%d]}]", os.Getpid())), "", "open /vt/x"},
		{"matchPIDs isNamespacePID", match("matchPIDs: [{operator: In, isNamespacePID: true, values: [1]}]"), "newpid open /vt/x", "open /vt/x"},
		{"matchPIDs isNamespacePID followForks", match("matchPIDs: [{operator: In, isNamespacePID: true, followForks: true, values: [1]}]\n      matchNamespaces: [{namespace: Pid, operator: NotIn, values: [host_ns]}]"), "newpid shell /vt/x", "newpid shell /vt/y"},
		{"matchPIDs NotIn isNamespacePID followForks", match("matchPIDs: [{operator: NotIn, isNamespacePID: true, followForks: true, values: [1]}]\n      matchNamespaces: [{namespace: Pid, operator: NotIn, values: [host_ns]}]"), "", "newpid shell /vt/x"},
		{"matchBinaries In", match("matchBinaries: [{operator: In, values: [/nowhere, " + self + "]}]"), "open /vt/x", "shell /vt/x"},
		{"matchBinaries by a link", match("matchBinaries: [{operator: In, values: [/bin/sh]}]"), "shell /vt/x", "open /vt/x"},
		{"matchBinaries NotIn", match("matchBinaries: [{operator: NotIn, values: [" + self + "]}]"), "shell /vt/x", "open /vt/x"},
		{"matchBinaries Prefix", match("matchBinaries: [{operator: Prefix, values: [" + self[:len(self)-2] + "]}]"), "open /vt/x", "shell /vt/x"},
		{"matchBinaries NotPrefix", match("matchBinaries: [{operator: NotPrefix, values: [" + self[:len(self)-2] + "]}]"), "shell /vt/x", "open /vt/x"},
		{"matchBinaries Postfix", match("matchBinaries: [{operator: Postfix, values: [" + self[3:] + "]}]"), "open /vt/x", "shell /vt/x"},
		{"matchBinaries NotPostfix", match("matchBinaries: [{operator: NotPostfix, values: [" + self[3:] + "]}]"), "shell /vt/x", "open /vt/x"},
		{"matchBinaries many", match("matchBinaries: [{operator: In, values: [" + strings.Join(append(many(100, "/bin/x%d"), self), ", ") + "]}]"), "open /vt/x", "shell /vt/x"},
		{"matchBinaries followChildren", match("matchBinaries: [{operator: In, followChildren: true, values: [" + self + "]}]"), "shell /vt/x", "shell /vt/y"},
		{"matchBinaries NotIn followChildren", match("matchBinaries: [{operator: NotIn, followChildren: true, values: [" + self + "]}]"), "", "shell /vt/x"},
		{"matchParentBinaries", match("matchParentBinaries: [{operator: In, values: [" + shell(t) + "]}]"), "shell-child /vt/x", "open /vt/x"},
		{"matchParentBinaries NotIn", match("matchParentBinaries: [{operator: NotIn, values: [" + shell(t) + "]}]"), "open /vt/x", "shell-child /vt/x"},
		{"matchNamespaces In", match("matchNamespaces: [{namespace: Net, operator: In, values: [\"" + netns + "\"]}]"), "open /vt/x", "newnet open /vt/x"},
		{"matchNamespaces NotIn", match("matchNamespaces: [{namespace: Net, operator: NotIn, values: [\"" + netns + "\"]}]"), "newnet open /vt/x", "open /vt/x"},
		{"matchNamespaces pid", match("matchNamespaces: [{namespace: Pid, operator: NotIn, values: [host_ns]}]"), "newpid open /vt/x", "open /vt/x"},
		{"matchCapabilities In", match("matchCapabilities: [{type: Effective, operator: In, values: [CAP_SYS_ADMIN]}]"), "open /vt/x", "nocaps open /vt/x"},
		{"matchCapabilities NotIn", match("matchCapabilities: [{type: Permitted, operator: NotIn, values: [CAP_SYS_ADMIN]}]"), "nocaps open /vt/x", "open /vt/x"},
		{"matchNamespaceChanges In", match("matchNamespaceChanges: [{operator: In, values: [Uts, Net]}]"), "unshare /vt/x", "open /vt/x"},
		{"matchNamespaceChanges NotIn", match("matchNamespaceChanges: [{operator: NotIn, values: [Uts, Net]}]"), "open /vt/x", "unshare /vt/x"},
		{"matchNamespaceChanges of another", match("matchNamespaceChanges: [{operator: In, values: [Mnt]}]"), "", "unshare /vt/x"},
		{"matchCapabilityChanges In", match("matchCapabilityChanges: [{type: Effective, operator: In, values: [CAP_SYS_NICE]}]"), "dropcaps /vt/x", "open /vt/x"},
		{"matchCapabilityChanges NotIn", match("matchCapabilityChanges: [{operator: NotIn, values: [CAP_SYS_NICE]}]"), "open /vt/x", "dropcaps /vt/x"},
		{"matchCapabilities in a namespace", match("matchCapabilities: [{operator: In, isNamespaceCapability: true, values: [CAP_SYS_ADMIN]}]"), "newuser open /vt/x", "open /vt/x"},
	}
	r := newRig(t, nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			r.apply(test.spec)
			if test.hit != "" && r.reported(test.hit) == 0 {
				t.Errorf("%q was not reported", test.hit)
			}
			if test.miss != "" && r.reported(test.miss) > 0 {
				t.Errorf("%q was reported", test.miss)
			}
		})
	}
	r.t = t
}

// reported counts what the policy reported while a helper and its children ran.
func (r *rig) reported(what string) int {
	before := r.count("test")
	r.run(what)
	return r.count("test") - before
}

func (r *rig) count(policy string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Probe.Policy == policy {
			n++
		}
	}
	return n
}

func readlink(t *testing.T, name string) string {
	t.Helper()
	s, err := os.Readlink(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestManySelectors: a large policy loads, and what is too large is refused by its size.
func TestManySelectors(t *testing.T) {
	policy := func(n, values int, dir string) string {
		var b strings.Builder
		b.WriteString("  kprobes:\n  - call: sys_openat\n    return: true\n    returnArg: {index: 0, type: int}\n    args: [{index: 1, type: string}]\n    selectors:\n")
		for i := range n {
			fmt.Fprintf(&b, "    - matchArgs: [{index: 1, operator: Prefix, values: [%s]}, {index: 1, operator: SubString, values: [needle-%d]}]\n"+
				"      matchBinaries: [{operator: NotIn, values: [%s]}]\n      matchActions: [{action: Post, rateLimit: 1m}]\n",
				strings.Join(many(values, fmt.Sprintf("/vt/%d/%s/%%d/", i, dir)), ", "), i, strings.Join(many(values, "/usr/bin/a-program-%d"), ", "))
		}
		return b.String()
	}
	r := newRig(t, nil)
	r.apply(policy(30, 5, "a"))
	for i := range 30 {
		if got := r.hits(fmt.Sprintf("open /vt/%d/a/3/needle-%d", i, i)); len(got) != 1 {
			t.Errorf("selector %d reported %d calls, want one", i, len(got))
		}
	}
	if got := r.hits("open /vt/7/a/3/needle-8"); len(got) > 0 {
		t.Errorf("what no selector matches was reported: %+v", got[0])
	}
	long := strings.Repeat("long/", 40)
	for _, test := range []struct{ spec, problem string }{
		{policy(maxSelectors, maxTexts, long), "instructions"},
		{policy(maxSelectors, maxTexts+1, long), "different lists"},
	} {
		list := fieldErrors(r.Apply(t.Context(), r.parse(test.spec)...))
		if len(list) == 0 || list[0].Field != "spec.kprobes[0].selectors" || !strings.Contains(list[0].Problem, test.problem) {
			t.Errorf("errors are %v, want one with %q", list, test.problem)
		}
	}
	r.apply(policy(40, maxTexts+1, long))
}
