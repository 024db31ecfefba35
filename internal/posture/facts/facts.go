// SPDX-License-Identifier: Apache-2.0

// Package facts is what an agent saw of a workload, as far as posture asks. In: nothing; the agent's side fills it. Out: the
// question that a fix or a finding puts before it is believed.
package facts

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Workload names what a user deployed, as its manifest does.
type Workload struct {
	Kind, Namespace, Name string
}

// Seen is what one container did in all pods of its workload. What a list does not hold was not seen.
type Seen struct {
	From, To     time.Time // watched without a gap between these
	Writes       []string  // files written, made or removed: absolute, as the container sees them
	Capabilities []string  // that were used, as in "NET_ADMIN"
	Listens      []uint16  // ports that connections were accepted on
	Reads        []string  // mount paths of volumes that files were read from
	Users        []uint32  // user ids that its processes had
	Setuid       bool      // a program that raises privileges was started
}

// Source answers for containers; ok is false for one that was never watched.
type Source interface {
	Container(w Workload, container string) (seen Seen, ok bool)
}

// Watched is how long a container was watched, in whole days when there are some.
func (s Seen) Watched() string {
	const day = 24 * time.Hour
	switch watched := s.To.Sub(s.From); {
	case watched >= 2*day:
		return fmt.Sprintf("%d days", watched/day)
	case watched >= time.Hour:
		return watched.Round(time.Minute).String()
	default:
		return watched.Round(time.Second).String()
	}
}

// Outside are the files written that are below none of the paths: where the container has volumes.
func (s Seen) Outside(mounts []string) []string {
	var out []string
	for _, file := range s.Writes {
		if !slices.ContainsFunc(mounts, func(m string) bool { return Below(file, m) }) {
			out = append(out, file)
		}
	}
	return out
}

// Below reports whether a path is in a directory, or is it. /var/run is /run in most images, so that what a manifest calls the one the kernel
// calls the other: both are the same here.
func Below(file, dir string) bool {
	file, dir = real(file), real(dir)
	rest, ok := strings.CutPrefix(file, strings.TrimSuffix(dir, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

func real(path string) string {
	path = filepath.Clean(path)
	if rest, ok := strings.CutPrefix(path, "/var/run"); ok && (rest == "" || rest[0] == '/') {
		return "/run" + rest
	}
	return path
}

// Proof says why a change is safe, or why it is not: ok false. What it proves is named by the fix of a control; mounts are the paths of the
// container's volumes.
func (s Seen) Proof(what string, atLeast time.Duration, mounts []string) (why string, ok bool) {
	if watched := s.To.Sub(s.From); watched < atLeast {
		return fmt.Sprintf("watched for %s, want %s", s.Watched(), atLeast), false
	}
	said := what
	var against []string
	switch what {
	case NoWrites:
		against = s.Outside(mounts)
		if len(mounts) > 0 {
			said = "no write outside of " + strings.Join(mounts, ", ")
		}
	case NoCapabilities:
		against = s.Capabilities
	case NoSetuid:
		if s.Setuid {
			against = []string{"a setuid program was started"}
		}
	case NotRoot:
		for _, u := range s.Users {
			if u == 0 {
				against = []string{"user 0"}
			}
		}
	default:
		return fmt.Sprintf("no proof is called %q", what), false
	}
	if len(against) > 0 {
		return fmt.Sprintf("seen in %s: %s", s.Watched(), strings.Join(against[:min(len(against), 3)], ", ")), false
	}
	return fmt.Sprintf("seen %s, %s", s.Watched(), said), true
}

// What can be proved.
const (
	NoWrites       = "no write outside of volumes"
	NoCapabilities = "no capability used"
	NoSetuid       = "no setuid program started"
	NotRoot        = "no process of user 0"
)

// Proofs are all of them.
func Proofs() []string { return []string{NoWrites, NoCapabilities, NoSetuid, NotRoot} }
