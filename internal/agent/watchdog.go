// SPDX-License-Identifier: Apache-2.0

package agent

import "github.com/vigie-io/vigie/internal/enforce/fanotify"

// Watchdog is the process that answers in the agent's place where that is late. The agent starts it.
func Watchdog() error { return fanotify.Watch() }

// WatchdogCommand starts it with the binary that runs.
func WatchdogCommand() []string { return []string{"/proc/self/exe", "watchdog"} }
