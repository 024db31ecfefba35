// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// request is a hook of a policy and where it is wanted. What is wanted stands in one of the targets.
type request struct {
	*hookPlan
	function   *functionTarget
	tracepoint *TracepointSpec
	uprobe     *UprobeSpec
	usdt       *UsdtSpec
	lsm        *LsmSpec
}

// functionTarget is functions of the kernel, or system calls.
type functionTarget struct {
	names         []string // without "sys_" and its like for system calls
	pattern       string   // of functions that the running kernel has; names is empty then
	syscall       bool
	fentry        bool
	ignoreMissing bool
}

// planner makes requests of a policy and collects what is wrong with it as far as no kernel is needed to know.
type planner struct {
	p    *Policy
	errs []error
}

func (l *planner) fail(field, format string, args ...any) {
	l.errs = append(l.errs, l.p.problem(field, format, args...))
}

// validate says what is wrong with a policy wherever it runs.
func validate(p *Policy) []error {
	_, errs := plan(p)
	return errs
}

// plan resolves lists and macros and checks every hook.
func plan(p *Policy) ([]*request, []error) {
	l := &planner{p: p}
	l.head()
	s := &p.Document.Spec
	var out []*request
	for i := range s.Kprobes {
		out = append(out, l.functions("kprobe", fmt.Sprintf("spec.kprobes[%d]", i), &s.Kprobes[i])...)
	}
	for i := range s.Fentries {
		out = append(out, l.functions("kprobe", fmt.Sprintf("spec.fentries[%d]", i), &s.Fentries[i])...)
	}
	for i := range s.Tracepoints {
		out = append(out, l.tracepointHook(fmt.Sprintf("spec.tracepoints[%d]", i), &s.Tracepoints[i]))
	}
	for i := range s.Uprobes {
		out = append(out, l.uprobeHook(fmt.Sprintf("spec.uprobes[%d]", i), &s.Uprobes[i]))
	}
	for i := range s.Usdts {
		out = append(out, l.usdtHook(fmt.Sprintf("spec.usdts[%d]", i), &s.Usdts[i]))
	}
	for i := range s.LsmHooks {
		out = append(out, l.lsmHook(fmt.Sprintf("spec.lsmhooks[%d]", i), &s.LsmHooks[i]))
	}
	for _, r := range out {
		r.number()
	}
	if len(out) == 0 && len(l.errs) == 0 {
		l.fail("spec", "there is no hook: one of kprobes, tracepoints, uprobes, usdts, lsmhooks or fentries is wanted")
	}
	return out, l.errs
}

// number gives the values of a hook their slots.
func (h *hookPlan) number() {
	for _, v := range slices.Concat(h.args, h.data) {
		v.slot = h.slots
		h.slots++
	}
	if h.returns {
		h.result = h.slots
		h.slots++
	}
	if h.ret != nil {
		h.ret.slot = h.result
	}
}

// head checks what is not in a hook.
func (l *planner) head() {
	d := &l.p.Document
	if d.APIVersion != apiVersion {
		l.fail("apiVersion", "%q is not known; it is %s", d.APIVersion, apiVersion)
	}
	switch d.Kind {
	case "TracingPolicy":
		if d.Metadata.Namespace != "" {
			l.fail("metadata.namespace", "a TracingPolicy has no namespace; a TracingPolicyNamespaced has")
		}
	case "TracingPolicyNamespaced":
		if d.Spec.HostSelector != nil {
			l.fail("spec.hostSelector", "a policy with a namespace selects pods, not the host")
		}
	default:
		l.fail("kind", "%q is not known; there are TracingPolicy and TracingPolicyNamespaced", d.Kind)
	}
	if d.Metadata.Name == "" {
		l.fail("metadata.name", "a policy needs a name")
	}
	if d.Spec.Loader {
		l.fail("spec.loader", "loader events are not reported")
	}
	if d.Spec.NodeSelector != nil {
		l.fail("spec.nodeSelector", "nodes are not selected here: give the policy to the nodes that it is for")
	}
	if h := d.Spec.HostSelector; h != nil && (len(h.MatchLabels) > 0 || len(h.MatchExpressions) > 0) {
		l.fail("spec.hostSelector", "only {} is possible: the host has no labels")
	}
	l.labelSelector("spec.podSelector", d.Spec.PodSelector)
	l.labelSelector("spec.containerSelector", d.Spec.ContainerSelector)
	l.lists()
	l.options()
	for i, e := range d.Spec.Enforcers {
		for k, call := range e.Calls {
			l.calls(fmt.Sprintf("spec.enforcers[%d].calls[%d]", i, k), call, true)
		}
	}
}

func (l *planner) options() {
	for i, o := range l.p.Document.Spec.Options {
		path := fmt.Sprintf("spec.options[%d]", i)
		switch o.Name {
		case "policy-mode":
			if _, err := ParseMode(o.Value); err != nil {
				l.fail(path+".value", "%v", err)
			}
		case "disable-kprobe-multi", "disable-uprobe-multi":
			if _, ok := map[string]bool{"0": false, "1": true, "false": false, "true": true, "False": false, "True": true}[o.Value]; !ok {
				l.fail(path+".value", "%q is neither true nor false", o.Value)
			}
		default:
			l.fail(path+".name", "there is no option %q; there are policy-mode, disable-kprobe-multi and disable-uprobe-multi", o.Name)
		}
	}
}

func (l *planner) labelSelector(path string, s *LabelSelector) {
	if s == nil {
		return
	}
	for i, e := range s.MatchExpressions {
		at := fmt.Sprintf("%s.matchExpressions[%d]", path, i)
		switch e.Operator {
		case "In", "NotIn":
			if len(e.Values) == 0 {
				l.fail(at+".values", "%s needs values", e.Operator)
			}
		case "Exists", "DoesNotExist":
			if len(e.Values) > 0 {
				l.fail(at+".values", "%s has no values", e.Operator)
			}
		default:
			l.fail(at+".operator", "%q is not known; there are In, NotIn, Exists and DoesNotExist", e.Operator)
		}
	}
}

// functions makes a request of a kprobe or an fentry.
func (l *planner) functions(kind, path string, s *FunctionSpec) []*request {
	h := l.hook(kind, path, s.Message, s.Tags)
	h.name = s.Call
	t := &functionTarget{syscall: s.Syscall == nil || *s.Syscall, fentry: strings.HasPrefix(path, "spec.fentries"), ignoreMissing: s.Ignore != nil && s.Ignore.CallNotFound}
	if t.fentry && t.syscall && s.Syscall == nil {
		t.syscall = strings.Contains(s.Call, "sys_")
	}
	if list := l.listOf(path+".call", s.Call); list != nil && list.Type == "generated_ftrace" && list.Pattern != nil {
		t.pattern, t.syscall = *list.Pattern, false
	} else {
		t.names = l.calls(path+".call", s.Call, t.syscall)
	}
	l.values(h, path, s.Args, s.Data)
	l.returned(h, path, s.Return, s.ReturnArg)
	switch s.ReturnArgAction {
	case "":
	case "TrackSock", "UntrackSock":
		h.track = s.ReturnArgAction
		if h.ret == nil || h.ret.arg.Type != "sock" {
			l.fail(path+".returnArgAction", "%s needs a returnArg of type sock", s.ReturnArgAction)
		}
	default:
		l.fail(path+".returnArgAction", "%q is not known; there are TrackSock and UntrackSock", s.ReturnArgAction)
	}
	l.selectors(h, path, s.Selectors)
	return []*request{{hookPlan: h, function: t}}
}

func (l *planner) tracepointHook(path string, s *TracepointSpec) *request {
	h := l.hook("tracepoint", path, s.Message, s.Tags)
	h.name = s.Subsystem + "/" + s.Event
	if s.Subsystem == "" {
		l.fail(path+".subsystem", "a tracepoint needs a subsystem")
	}
	if s.Event == "" {
		l.fail(path+".event", "a tracepoint needs an event")
	}
	l.values(h, path, s.Args, nil)
	l.selectors(h, path, s.Selectors)
	return &request{hookPlan: h, tracepoint: s}
}

func (l *planner) uprobeHook(path string, s *UprobeSpec) *request {
	h := l.hook("uprobe", path, s.Message, s.Tags)
	l.program(path, s.Path, s.BTFPath)
	ways := 0
	for _, n := range []int{len(s.Symbols), len(s.Offsets), len(s.Addrs)} {
		if n > 0 {
			ways++
		}
	}
	if ways != 1 {
		l.fail(path, "exactly one of symbols, offsets and addrs is wanted")
	}
	if n := len(s.RefCtrOffsets); n > 0 && n != len(s.Symbols)+len(s.Offsets)+len(s.Addrs) {
		l.fail(path+".refCtrOffsets", "there must be as many as places")
	}
	h.name = strings.Join(s.Symbols, ",")
	l.values(h, path, s.Args, s.Data)
	l.returned(h, path, s.Return, s.ReturnArg)
	l.selectors(h, path, s.Selectors)
	return &request{hookPlan: h, uprobe: s}
}

func (l *planner) usdtHook(path string, s *UsdtSpec) *request {
	h := l.hook("usdt", path, s.Message, s.Tags)
	h.name = s.Provider + ":" + s.Name
	l.program(path, s.Path, s.BTFPath)
	if s.Provider == "" {
		l.fail(path+".provider", "a static probe needs its provider")
	}
	if s.Name == "" {
		l.fail(path+".name", "a static probe needs its name")
	}
	l.values(h, path, s.Args, nil)
	l.selectors(h, path, s.Selectors)
	return &request{hookPlan: h, usdt: s}
}

func (l *planner) program(path, file, btfFile string) {
	if file == "" {
		l.fail(path+".path", "the path of the program or library is wanted")
	}
	if btfFile != "" {
		l.fail(path+".btfPath", "type information of programs is not read: give the arguments their types")
	}
}

func (l *planner) lsmHook(path string, s *LsmSpec) *request {
	h := l.hook("lsm", path, s.Message, s.Tags)
	h.name = s.Hook
	if s.Hook == "" {
		l.fail(path+".hook", "the name of a security hook is wanted, such as file_open")
	}
	l.values(h, path, s.Args, nil)
	l.selectors(h, path, s.Selectors)
	return &request{hookPlan: h, lsm: s}
}

func (l *planner) hook(kind, path, message string, tags []string) *hookPlan {
	if len(message) > 256 {
		l.fail(path+".message", "it has %d characters; at most 256 are possible", len(message))
	}
	if len(tags) > 16 {
		l.fail(path+".tags", "there are %d; at most 16 are possible", len(tags))
	}
	return &hookPlan{path: path, kind: kind, message: message, tags: tags}
}

// values plans what a hook reads.
func (l *planner) values(h *hookPlan, path string, args, data []Arg) {
	l.list(path+".args", args, &h.args)
	l.list(path+".data", data, &h.data)
	for _, v := range h.data {
		if v.arg.Source == "" {
			l.fail(v.path+".source", "data has a source; there is current_task")
		}
	}
}

func (l *planner) list(path string, args []Arg, into *[]*value) {
	if len(args) > maxValues {
		l.fail(path, "there are %d; at most %d are possible", len(args), maxValues)
		args = args[:maxValues]
	}
	for i := range args {
		if v := l.value(fmt.Sprintf("%s[%d]", path, i), &args[i]); v != nil {
			*into = append(*into, v)
		}
	}
}

func (l *planner) value(path string, a *Arg) *value {
	v := &value{path: path, arg: a}
	if a.Type == "" {
		a.Type = "auto"
	}
	typ, ok := valueTypes()[a.Type]
	switch {
	case !ok && a.Type == "auto":
	case a.Type == "iov_iter":
		l.fail(path+".type", "iov_iter cannot be read: take the system call's char_iovec or char_buf")
	case !ok:
		l.fail(path+".type", "%q is not known; there are auto, %s", a.Type, strings.Join(slices.Sorted(maps.Keys(valueTypes())), ", "))
	}
	v.typ = typ
	v.late = a.ReturnCopy
	if typ.class == classBytes && a.SizeArgIndex == 0 && !a.ReturnCopy {
		l.fail(path+".sizeArgIndex", "%s needs the argument that is its size, counted from 1", a.Type)
	}
	if a.ReturnCopy && typ.class != classBytes {
		l.fail(path+".returnCopy", "it is for char_buf and char_iovec")
	}
	switch a.Source {
	case "":
	case "current_task":
		v.task = true
		if a.Resolve == "" {
			l.fail(path+".resolve", "current_task needs the member to read, such as comm")
		}
	case "pt_regs":
		l.fail(path+".source", "pt_regs is not read: take the arguments; there is current_task")
	default:
		l.fail(path+".source", "%q is not known; there is current_task", a.Source)
	}
	return v
}

func (l *planner) returned(h *hookPlan, path string, wanted bool, a *Arg) {
	h.returns = wanted
	switch {
	case wanted && a == nil:
		l.fail(path+".returnArg", "return: true needs the type of what is returned")
	case !wanted: // a returnArg alone does nothing
	case a != nil:
		h.ret = l.value(path+".returnArg", a)
	}
	for _, v := range h.args {
		if v.late && !wanted {
			l.fail(v.path+".returnCopy", "it needs return: true")
		}
	}
}
