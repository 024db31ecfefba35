// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"time"
)

// How soon policies follow what changes around them.
const (
	workloadsSettle = 5 * time.Millisecond // a container that starts makes several cgroups
	refreshFiles    = 5 * time.Second      // files that policies deny, by their inodes
)

// NoticeWorkloads has Run look at the workloads again: a container has its name, labels came, a cgroup was made. It never
// blocks.
func (e *Enforcer) NoticeWorkloads() { notice(e.workloads) }

// NoticeListeners has Run tell the back-ends where workloads listen now. It never blocks.
func (e *Enforcer) NoticeListeners() { notice(e.peers) }

func notice(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // told already
	}
}

// Run keeps the policies on the right cgroups and files until ctx ends.
func (e *Enforcer) Run(ctx context.Context) {
	refresh := time.NewTicker(refreshFiles)
	defer refresh.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-refresh.C:
			err = e.Refresh()
		case <-e.peers:
			err = e.UpdatePeers()
		case <-e.applied:
			err = e.Refresh()
		case <-e.workloads:
			timer := time.NewTimer(workloadsSettle)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			err = e.followWorkloads()
		}
		if err != nil {
			e.options.Log.Error("policies do not follow what they are about", "error", err)
		}
	}
}
