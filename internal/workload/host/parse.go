// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// Found is what the path of a cgroup says about its workload.
type Found struct {
	// Workload is complete but for what only a container runtime knows: a container's or a pod's
	// Name is provisional (the short container id, the pod's uid).
	Workload model.Workload
	// ContainerID is set for containers that have a runtime to ask, which Workload.Runtime names or
	// leaves open.
	ContainerID string
	// Owner is the user under whose slice a container runs, model.NoUID for the system's. Such a
	// user can make cgroups of any name, so only that user's own runtime may be asked about it.
	Owner uint32
	// Nested: the container runs inside another one, which can make cgroups of any name too.
	Nested bool
}

// Parse says what workload the cgroup at path belongs to; ok is false where the path names none (the
// root, a bare slice, a cgroup that somebody made for accounting). Path is relative to the root of
// the hierarchy, v1 or v2; leading ".." of a foreign cgroup namespace are ignored. Of containers in
// containers the innermost counts, and a container counts before the units inside or around it.
// login turns a uid into a login name; nil leaves the number.
func Parse(path string, login func(uid uint32) string) (f Found, ok bool) {
	parts := split(path)
	if f, ok = parseContainer(parts); ok {
		if f.Owner != model.NoUID {
			f.Workload.User = loginName(f.Owner, login)
		}
		return f, true
	}
	w, ok := parseUnit(parts, login)
	return Found{Workload: w, Owner: model.NoUID}, ok
}

// split cuts a cgroup path into its components and makes them printable text.
func split(path string) []string {
	path = model.CleanString([]byte(path))
	parts := strings.Split(path, "/")
	kept := parts[:0]
	for _, p := range parts {
		if p != "" && p != "." && p != ".." {
			kept = append(kept, p)
		}
	}
	return kept
}

func join(parts []string) string { return "/" + strings.Join(parts, "/") }

// parseUnit follows systemd's tree: slices, then one unit, and below a user's manager the same again.
func parseUnit(parts []string, login func(uint32) string) (model.Workload, bool) {
	unit, slice, ok := firstUnit(parts)
	if !ok {
		return parseOpenRC(parts)
	}
	name := unescapeCgroup(parts[unit])
	w := model.Workload{Kind: model.WorkloadUnit, Name: name, Slice: slice}
	owner := ownerOf(parts[:unit+1])
	if owner != model.NoUID {
		w.User = loginName(owner, login)
	}
	if id, isSession := sessionID(name); isSession && w.User != "" {
		w.Kind, w.Name = model.WorkloadSession, "session-"+id+" ("+w.User+")"
	} else if isUserManager(name) {
		rest := parts[unit+1:]
		inner, innerSlice, ok := firstUnit(rest)
		if ok && rest[inner] != "init.scope" {
			w.Name, unit = unescapeCgroup(rest[inner]), unit+1+inner
			if innerSlice != "" {
				w.Slice = innerSlice
			}
		} else {
			w.Kind, w.Name = model.WorkloadSession, strings.TrimSuffix(name, ".service")+" ("+w.User+")"
		}
	}
	w.Cgroup = join(parts[:unit+1])
	w.ID = w.Cgroup
	return w, true
}

// firstUnit is the index of the first component that is not a slice, and the slice that holds it; ok
// is false when there is none or it is not a unit that can hold processes.
func firstUnit(parts []string) (index int, slice string, ok bool) {
	for i, p := range parts {
		if strings.HasSuffix(p, ".slice") {
			slice = unescapeCgroup(p)
			continue
		}
		for _, suffix := range [...]string{".service", ".scope", ".socket", ".mount", ".swap"} {
			if len(p) > len(suffix) && strings.HasSuffix(p, suffix) {
				return i, slice, true
			}
		}
		return 0, "", false
	}
	return 0, "", false
}

// parseOpenRC knows the service groups of OpenRC: /openrc/NAME (v1) and /openrc.NAME (v2).
func parseOpenRC(parts []string) (model.Workload, bool) {
	var name string
	var depth int
	switch {
	case len(parts) > 1 && parts[0] == "openrc":
		name, depth = parts[1], 2
	case len(parts) > 0:
		name, depth = strings.TrimPrefix(parts[0], "openrc."), 1
		if name == parts[0] {
			return model.Workload{}, false
		}
	}
	if name == "" {
		return model.Workload{}, false
	}
	path := join(parts[:depth])
	return model.Workload{Kind: model.WorkloadUnit, Name: name, ID: path, Cgroup: path}, true
}

// unescapeCgroup takes off the underscore that systemd puts before a unit's name where the name could
// be mistaken for a file of the cgroup file system. The escapes inside unit names (\x2d) are part of
// the name, as systemctl shows it.
func unescapeCgroup(p string) string { return strings.TrimPrefix(p, "_") }

func sessionID(unit string) (string, bool) {
	id, ok := strings.CutPrefix(unit, "session-")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(id, ".scope")
}

func isUserManager(unit string) bool {
	_, ok := userManagerUID(unit)
	return ok
}

func userManagerUID(unit string) (uint32, bool) { return uidBetween(unit, "user@", ".service") }

// ownerOf is the user whose slice or manager is among the components, the innermost if several;
// model.NoUID if none.
func ownerOf(parts []string) uint32 {
	owner := model.NoUID
	for _, p := range parts {
		if uid, ok := uidBetween(p, "user-", ".slice"); ok {
			owner = uid
		} else if uid, ok := userManagerUID(p); ok {
			owner = uid
		}
	}
	return owner
}

func uidBetween(s, prefix, suffix string) (uint32, bool) {
	s, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return 0, false
	}
	if s, ok = strings.CutSuffix(s, suffix); !ok {
		return 0, false
	}
	uid, err := strconv.ParseUint(s, 10, 32)
	return uint32(uid), err == nil && uint32(uid) != model.NoUID
}

func loginName(uid uint32, login func(uint32) string) string {
	if login != nil {
		if name := login(uid); name != "" {
			return name
		}
	}
	return strconv.FormatUint(uint64(uid), 10)
}
