// SPDX-License-Identifier: Apache-2.0

// Package facts is what an agent saw of a workload, as far as posture asks. In: nothing; the agent's side fills it. Out: the
// question that a fix or a finding puts before it is believed.
package facts

import (
	"fmt"
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
	Writes       []string  // files written, made or removed that are in no volume: absolute, as the container sees them
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

// Days is how long a container was watched, in whole days.
func (s Seen) Days() int { return int(s.To.Sub(s.From) / (24 * time.Hour)) }

// Proof says why a change is safe, or why it is not: ok false. What it proves is named by the fix of a control.
func (s Seen) Proof(what string, atLeast time.Duration) (why string, ok bool) {
	if watched := s.To.Sub(s.From); watched < atLeast {
		return fmt.Sprintf("watched for %s, want %s", watched.Round(time.Minute), atLeast), false
	}
	var against []string
	switch what {
	case NoWrites:
		against = s.Writes
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
		return fmt.Sprintf("seen in %d days: %s", s.Days(), strings.Join(against[:min(len(against), 3)], ", ")), false
	}
	return fmt.Sprintf("seen %d days, %s", s.Days(), what), true
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
