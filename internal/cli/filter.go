// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// filterFlags are the flags that choose events or processes.
type filterFlags struct {
	types, workloads, kinds, binaries, paths, addrs, names, uids, execIDs, nodes []string

	pids         []uint
	since, until string
	where        string
}

// processes adds the flags that make sense for processes and for events.
func (f *filterFlags) processes(fs *pflag.FlagSet) {
	fs.StringSliceVarP(&f.workloads, "workload", "w", nil, "only these workloads, by name ('*' and '?' are wildcards)")
	fs.StringSliceVar(&f.kinds, "kind", nil, "only workloads of these kinds: unit, session, container, pod, process, kernel, unknown")
	fs.StringSliceVarP(&f.binaries, "binary", "b", nil, "only these binaries: a name, or a path ('*', '?', '**' are wildcards)")
	fs.UintSliceVarP(&f.pids, "pid", "p", nil, "only these processes and their descendants")
	fs.StringSliceVar(&f.execIDs, "exec-id", nil, "only these process images")
	fs.StringSliceVarP(&f.uids, "uid", "u", nil, "only these users, by number or name")
	fs.StringSliceVar(&f.nodes, "node", nil, "with a relay: only these nodes ('*' and '?' are wildcards)")
	fs.StringVar(&f.where, "where", "", `only what this CEL expression accepts: 'process.uid == 0u && file.path.startsWith("/etc/")'`)
}

// events adds all flags.
func (f *filterFlags) events(fs *pflag.FlagSet) {
	fs.StringSliceVarP(&f.types, "type", "t", nil, "only these types: "+strings.Join(typeNames(), ", "))
	fs.StringSliceVar(&f.paths, "path", nil, "only files, sockets and mounts with these paths ('*', '?', '**' are wildcards)")
	f.flows(fs)
}

// flows adds the flags that make sense for conversations: those of processes are about either end.
func (f *filterFlags) flows(fs *pflag.FlagSet) {
	f.processes(fs)
	fs.StringSliceVarP(&f.addrs, "addr", "a", nil, "only these addresses at either end: ADDRESS, ADDRESS/PREFIX, ADDRESS:PORT or :PORT")
	fs.StringSliceVar(&f.names, "name", nil, "only these DNS names, asked for or connected to ('*' and '?' are wildcards)")
	fs.StringVar(&f.since, "since", "", "only from then on: a duration (10m, 7d), a time (15:04[:05]), today, yesterday or 2006-01-02T15:04:05Z")
	fs.StringVar(&f.until, "until", "", "only until then, in the same forms")
}

// proto makes the request. Errors name the flag.
func (f *filterFlags) proto(now time.Time) (*vigiev1.Filter, error) {
	p := &vigiev1.Filter{Types: f.types, WorkloadNames: f.workloads, WorkloadKinds: f.kinds, Binaries: f.binaries,
		ExecIds: f.execIDs, Paths: f.paths, Addresses: f.addrs, Names: f.names, Where: f.where, Nodes: f.nodes}
	for _, t := range f.types {
		if !slices.Contains(model.Types(), model.Type(t)) {
			return nil, fmt.Errorf("--type %q: the types are %s", t, strings.Join(typeNames(), ", "))
		}
	}
	for _, k := range f.kinds {
		if !slices.Contains(workloadKinds(), k) {
			return nil, fmt.Errorf("--kind %q: the kinds are %s", k, strings.Join(workloadKinds(), ", "))
		}
	}
	for _, pid := range f.pids {
		if pid == 0 || pid > 1<<22 { // PID_MAX_LIMIT
			return nil, fmt.Errorf("--pid %d: pids go from 1 to %d", pid, 1<<22)
		}
		p.PidTrees = append(p.PidTrees, uint32(pid))
	}
	for _, u := range f.uids {
		uid, err := userID(u)
		if err != nil {
			return nil, err
		}
		p.Uids = append(p.Uids, uid)
	}
	var err error
	if p.Since, err = moment("since", f.since, now); err != nil {
		return nil, err
	}
	if p.Until, err = moment("until", f.until, now); err != nil {
		return nil, err
	}
	if p.Since != nil && p.Until != nil && !p.Since.AsTime().Before(p.Until.AsTime()) {
		return nil, fmt.Errorf("--since %s is not before --until %s: exchange them", f.since, f.until)
	}
	return p, nil
}

func userID(s string) (uint32, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return uint32(n), nil
	}
	u, err := user.Lookup(s)
	if err != nil {
		return 0, fmt.Errorf("--uid %q: this host has no such user: give the number", s)
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(n), err
}

// moment reads a time flag: ago, today at, or a date.
func moment(flag, s string, now time.Time) (*timestamppb.Timestamp, error) {
	if s == "" {
		return nil, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		if d < 0 {
			d = -d
		}
		return timestamppb.New(now.Add(-d)), nil
	}
	if t, ok := day(s, now); ok {
		return timestamppb.New(t), nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, now.Location())
			if t.After(now) {
				t = t.AddDate(0, 0, -1)
			}
			return timestamppb.New(t), nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return timestamppb.New(t), nil
		}
	}
	return nil, fmt.Errorf("--%s %q: give a duration (10m, 7d), a time of day (15:04), today, yesterday or a date (2006-01-02T15:04:05Z)", flag, s)
}

// day reads days: the beginning of today and yesterday, and 7d ago.
func day(s string, now time.Time) (time.Time, bool) {
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch s {
	case "today":
		return midnight, true
	case "yesterday":
		return midnight.AddDate(0, 0, -1), true
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(s, "d"), 10, 16)
	if err != nil || !strings.HasSuffix(s, "d") {
		return time.Time{}, false
	}
	return now.AddDate(0, 0, -int(n)), true
}

func typeNames() []string {
	var names []string
	for _, t := range model.Types() {
		names = append(names, string(t))
	}
	return names
}

func workloadKinds() []string {
	return []string{string(model.WorkloadUnit), string(model.WorkloadSession), string(model.WorkloadContainer),
		string(model.WorkloadPod), string(model.WorkloadProcess), string(model.WorkloadKernel), string(model.WorkloadUnknown)}
}
