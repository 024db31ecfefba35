// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"slices"
	"strings"
)

const maxSelectors = 64 // a record has a byte for the selector, and a program an end

// selectors plans what is tested and done.
func (l *planner) selectors(h *hookPlan, path string, list []Selector) {
	if len(list) > maxSelectors {
		l.fail(path+".selectors", "there are %d; at most %d are possible", len(list), maxSelectors)
	}
	for i, s := range list {
		at := fmt.Sprintf("%s.selectors[%d]", path, i)
		s = l.expand(at, s)
		l.selector(h, at, &s)
		h.selectors = append(h.selectors, selectorPlan{path: at, Selector: s})
	}
	if len(list) == 0 {
		h.selectors = []selectorPlan{{path: path}}
	}
}

func (l *planner) selector(h *hookPlan, path string, s *Selector) {
	for i := range s.MatchPIDs {
		l.inOrNot(fmt.Sprintf("%s.matchPIDs[%d]", path, i), s.MatchPIDs[i].Operator, len(s.MatchPIDs[i].Values))
	}
	l.argMatches(h, path+".matchArgs", s.MatchArgs, h.args)
	l.argMatches(h, path+".matchData", s.MatchData, h.data)
	l.returnMatches(h, path, s)
	l.binaries(path+".matchBinaries", s.MatchBinaries)
	l.binaries(path+".matchParentBinaries", s.MatchParentBinaries)
	for i := range s.MatchNamespaces {
		m, at := &s.MatchNamespaces[i], fmt.Sprintf("%s.matchNamespaces[%d]", path, i)
		l.inOrNot(at, m.Operator, len(m.Values))
		l.namespaceName(at+".namespace", m.Namespace)
	}
	for i := range s.MatchNamespaceChanges {
		m, at := &s.MatchNamespaceChanges[i], fmt.Sprintf("%s.matchNamespaceChanges[%d]", path, i)
		l.inOrNot(at, m.Operator, len(m.Values))
		for k, v := range m.Values {
			l.namespaceName(fmt.Sprintf("%s.values[%d]", at, k), v)
		}
	}
	l.capabilities(path+".matchCapabilities", s.MatchCapabilities)
	l.capabilities(path+".matchCapabilityChanges", s.MatchCapabilityChanges)
	if w := s.MatchWorkloads; w != nil {
		l.labelSelector(path+".matchWorkloads.podSelector", w.PodSelector)
		l.labelSelector(path+".matchWorkloads.containerSelector", w.ContainerSelector)
	}
	l.actionList(h, path+".matchActions", s.MatchActions)
	l.actionList(h, path+".matchReturnActions", s.MatchReturnActions)
}

func (l *planner) inOrNot(path, operator string, values int) {
	if operator != "In" && operator != "NotIn" {
		l.fail(path+".operator", "%q is not known; there are In and NotIn", operator)
	}
	if values == 0 {
		l.fail(path+".values", "at least one value is wanted")
	}
}

func (l *planner) namespaceName(field, name string) {
	for _, n := range namespaceNames() {
		if n.name == name {
			return
		}
	}
	l.fail(field, "there is no namespace %q; there are Uts, Ipc, Mnt, Pid, PidForChildren, Net, Time, TimeForChildren, Cgroup and User", name)
}

func (l *planner) capabilities(path string, list []CapabilityMatch) {
	for i := range list {
		m, at := &list[i], fmt.Sprintf("%s[%d]", path, i)
		l.inOrNot(at, m.Operator, len(m.Values))
		if m.Type != "" && !slices.Contains(capSets(), m.Type) {
			l.fail(at+".type", "%q is not known; there are Effective, Inheritable and Permitted", m.Type)
		}
		for k, v := range m.Values {
			if _, ok := capByName(v); !ok {
				l.fail(fmt.Sprintf("%s.values[%d]", at, k), "there is no capability %q", v)
			}
		}
	}
}

func (l *planner) binaries(path string, list []BinaryMatch) {
	if len(list) > 1 {
		l.fail(path, "there is more than one entry: put the values into one")
	}
	for i, m := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if !slices.Contains([]string{"In", "NotIn", "Prefix", "NotPrefix", "Postfix", "NotPostfix"}, m.Operator) {
			l.fail(at+".operator", "%q is not known; there are In, NotIn, Prefix, NotPrefix, Postfix and NotPostfix", m.Operator)
		}
		if len(m.Values) == 0 {
			l.fail(at+".values", "at least one path is wanted")
		}
	}
}

func (l *planner) argMatches(h *hookPlan, path string, list []ArgMatch, values []*value) {
	for i := range list {
		m, at := &list[i], fmt.Sprintf("%s[%d]", path, i)
		if m.Operator == "CapabilitiesGained" {
			l.gained(at, m, values)
			continue
		}
		if m.Operator == "CelExpr" {
			for k, expression := range m.Values {
				if _, err := parseCel(expression, values); err != nil {
					l.fail(fmt.Sprintf("%s.values[%d]", at, k), "%s", oneLine(err))
				}
				celValues(expression, values)
			}
			continue
		}
		v := chosen(m, values)
		if v == nil && h.kind == "tracepoint" && int(m.Index) < len(values) {
			// Of a tracepoint, whose fields begin with those that all have, policies also count the arguments that they list.
			m.Index = values[m.Index].arg.Index
			v = chosen(m, values)
		}
		if v == nil {
			l.fail(at, "no value with this index is read: add it to args or data")
			continue
		}
		if v.late {
			l.fail(at, "%s is read at the return, too late for a filter", v.path)
			continue
		}
		v.used = true
		l.operator(at, m, v)
	}
}

func (l *planner) gained(path string, m *ArgMatch, values []*value) {
	if len(m.Args) != 2 {
		l.fail(path+".args", "CapabilitiesGained compares two values: the set before and the set after")
		return
	}
	for i, a := range m.Args {
		if int(a) >= len(values) || values[a].typ.class != classNumber || values[a].typ.bits != 64 {
			l.fail(fmt.Sprintf("%s.args[%d]", path, i), "it must name a value that is a set of capabilities")
			m.Args[i] = 0
			continue
		}
		values[a].used = true
	}
}

func (l *planner) returnMatches(h *hookPlan, path string, s *Selector) {
	if (len(s.MatchReturnArgs) > 0 || len(s.MatchReturnActions) > 0) && h.ret == nil {
		l.fail(path+".matchReturnArgs", "it needs return: true and a returnArg")
		return
	}
	for i := range s.MatchReturnArgs {
		l.operator(fmt.Sprintf("%s.matchReturnArgs[%d]", path, i), &s.MatchReturnArgs[i], h.ret)
	}
}

// operator checks that an operator goes with the type of what it compares.
func (l *planner) operator(path string, m *ArgMatch, v *value) {
	op, _ := operator(m.Operator)
	var allowed []string
	switch v.typ.class {
	case classNumber:
		allowed = []string{"Equal", "GreaterThan", "LessThan", "Mask", "InMap", "InRange"}
	case classText:
		allowed = []string{"Equal", "Prefix", "Postfix", "SubString", "SubStringIgnCase"}
	case classBytes:
		allowed = []string{"Equal", "Prefix", "Postfix", "SubString", "SubStringIgnCase"}
	case classSock:
		allowed = []string{"SAddr", "DAddr", "SPort", "DPort", "SPortPriv", "DPortPriv", "Protocol", "Family", "State"}
		if v.arg.Type == "sockaddr" {
			allowed = []string{"SAddr", "SPort", "SPortPriv", "Family"}
		}
	}
	switch {
	case hasFile(v.arg.Type):
		allowed = append(allowed, "FileType")
	case v.arg.Type == "sockaddr_un":
		allowed = append(allowed, "Family")
	case v.arg.Type == "auto":
		return // known when the hook's types are
	}
	if !slices.Contains(allowed, op) {
		if len(allowed) == 0 {
			l.fail(path+".operator", "%s is not compared; it is reported only", v.arg.Type)
			return
		}
		l.fail(path+".operator", "%q does not go with the type %s; there are %s, and their negations", m.Operator, v.arg.Type, strings.Join(allowed, ", "))
	}
	if len(m.Values) == 0 && op != "SPortPriv" && op != "DPortPriv" {
		l.fail(path+".values", "at least one value is wanted")
	}
}

// actionList checks what is to be done.
func (l *planner) actionList(h *hookPlan, path string, list []Action) {
	for i := range list {
		a, at := &list[i], fmt.Sprintf("%s[%d]", path, i)
		switch a.Action {
		case "Post":
			if a.RateLimit != "" {
				if _, err := parseWindow(a.RateLimit); err != nil {
					l.fail(at+".rateLimit", "%v", err)
				}
			}
			if !slices.Contains([]string{"", "thread", "process", "global"}, a.RateLimitScope) {
				l.fail(at+".rateLimitScope", "%q is not known; there are thread, process and global", a.RateLimitScope)
			}
			if a.ImaHash {
				l.fail(at+".imaHash", "hashes of the integrity subsystem are not read")
			}
			if strings.HasSuffix(path, "matchReturnActions") && (a.RateLimit != "" || a.KernelStackTrace || a.UserStackTrace) {
				l.fail(at, "rate limits and stacks belong to matchActions")
			}
		case "NoPost", "Sigkill", "CleanupEnforcerNotification":
		case "Signal":
			if a.ArgSig < 1 || a.ArgSig > 64 {
				l.fail(at+".argSig", "%d is no signal; there are 1 to 64", a.ArgSig)
			}
		case "TrackSock", "UntrackSock":
		case "Override":
			l.overrideArgs(h, at, a)
		case "NotifyEnforcer":
			if len(l.p.Document.Spec.Enforcers) == 0 {
				l.fail(at+".action", "NotifyEnforcer needs spec.enforcers")
			}
			if a.ArgError != 0 {
				l.fail(at+".argError", "the result of a call is changed by Override in a kprobe of that call; of NotifyEnforcer only argSig is carried out")
			}
			if a.ArgSig > 64 {
				l.fail(at+".argSig", "%d is no signal; there are 1 to 64", a.ArgSig)
			}
		case "FollowFD", "UnfollowFD", "CopyFD":
			l.fail(at+".action", "%s was taken out of Tetragon: read the descriptor with the type fd, which is the open file", a.Action)
		case "GetUrl", "DnsLookup":
			l.fail(at+".action", "%s is not done: an agent on every host that makes requests for what a process does is a way out for data. A detection can raise an alert", a.Action)
		case "Set":
			l.fail(at+".action", "Set is not done: it writes into the memory of a program that does not expect it")
		default:
			l.fail(at+".action", "%q is not known; there are Post, NoPost, Sigkill, Signal, Override, NotifyEnforcer, CleanupEnforcerNotification, TrackSock and UntrackSock", a.Action)
		}
	}
}

func (l *planner) overrideArgs(h *hookPlan, path string, a *Action) {
	if h.kind == "uprobe" || len(a.ArgRegs) > 0 || a.ArgNewSymbol != "" || a.ArgNewAddr != 0 || a.ArgNewOffset != 0 {
		l.fail(path+".action", "registers and calls of programs are not changed: only functions of the kernel can be overridden, with argError")
	}
	if h.kind == "tracepoint" || h.kind == "usdt" {
		l.fail(path+".action", "a %s only observes: Override belongs to kprobes and lsmhooks", h.kind)
	}
	if h.kind == "lsm" && (a.ArgError > 0 || a.ArgError < -4095) {
		l.fail(path+".argError", "%d is no error, which a security hook must return: it is between -4095 and 0", a.ArgError)
	}
}
