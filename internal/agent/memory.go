// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strings"

	"golang.org/x/sys/unix"
)

// How much memory may be waiting for the collector, in bytes, however much is in use. A fixed share of what is in use (GOGC)
// would collect too often on a quiet host, where little is, and let a host with 50,000 processes take half as much again.
const (
	leastGarbage = 3 << 20
	mostGarbage  = 12 << 20
	// In between, as much as comes in so many seconds: who allocates little can be collected from often, at no cost.
	garbageSeconds = 8
)

// collector keeps the garbage collector's target at an amount of garbage.
type collector struct {
	before  int // the target that it found
	percent int
	samples []metrics.Sample
	made    uint64 // bytes, since the start
	ticks   int    // of adjust, about one a second
	next    int    // the tick from which on memory may be given back
	gave    bool   // it has been, once
}

// startPercent is the target until then. Reading BPF programs and compiling rules makes ten times as much garbage as it leaves, and
// where much of it is around, what stays is scattered over memory that nobody else can have any more.
const startPercent = 25

// What a start or a large change of policies needed for a moment goes back to the system when so many bytes of it lie idle:
// soon after the start, and then once a minute at most, since it takes a collection. Go's own scavenger takes minutes.
// It is put off while the agent is busy, though not for ever: a change of policies would wait for pages that just went.
const (
	idle    = mostGarbage / 2
	startUp = 5       // ticks
	calm    = 60      // ticks
	busy    = 4 << 20 // bytes allocated in a tick
)

// newCollector takes over the target, unless the environment sets one (GOGC): then it is nil, which does nothing.
func newCollector() *collector {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	c := &collector{percent: startPercent, next: startUp, samples: []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}}}
	c.before = debug.SetGCPercent(c.percent)
	return c
}

// adjust sets the target by what is in use now. Changing it stops the world for some microseconds, so that small
// differences do not.
func (c *collector) adjust() {
	if c == nil {
		return
	}
	metrics.Read(c.samples)
	made := c.samples[1].Value.Uint64()
	rate := made - c.made
	c.made = made
	if c.ticks++; c.gives(c.samples[2].Value.Uint64(), rate) {
		c.next, c.gave = c.ticks+calm, true
		debug.FreeOSMemory()
		giveProgramBack()
	}
	percent := gcPercent(c.samples[0].Value.Uint64(), rate)
	if diff := percent - c.percent; diff > c.percent/8 || -diff > c.percent/8 {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

// gives says whether memory goes back now, of which so many bytes lie idle, while so many are allocated in a tick.
func (c *collector) gives(free, rate uint64) bool {
	return c.ticks >= c.next && (!c.gave || free > idle) && (rate < busy || c.ticks >= c.next+calm)
}

func (c *collector) restore() {
	if c != nil {
		debug.SetGCPercent(c.before)
	}
}

// gcPercent is the target beside so many bytes in use, where so many are allocated in a second.
func gcPercent(live, rate uint64) int {
	garbage := min(max(rate*garbageSeconds, leastGarbage), mostGarbage)
	return int(min(max(garbage*100/max(live, 1), 15), 400))
}

// giveProgramBack lets go of the pages of the program's own file. A third of it is what only the start needs: BPF programs,
// tables of initialisation, rules' compiler. What is needed again comes back from the page cache. Nothing depends on it.
func giveProgramBack() {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer f.Close()
	name, err := os.Executable()
	if err != nil {
		return
	}
	for _, m := range cleanMappings(f, name) {
		// Where the page cache holds the file in huge pages, what is needed again would come back 2 MiB at a time: all of it.
		for _, advice := range []uintptr{unix.MADV_NOHUGEPAGE, unix.MADV_DONTNEED} {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(m[0]), uintptr(m[1]-m[0]), advice)
		}
	}
}

// cleanMappings are begin and end of those of a file that nobody can write and nobody has written: of others, what was
// written would be lost.
func cleanMappings(smaps io.Reader, name string) (clean [][2]uint64) {
	var at [2]uint64
	candidate := false
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		line := lines.Text()
		var begin, end uint64
		var perms string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &begin, &end, &perms); n == 3 {
			at = [2]uint64{begin, end}
			candidate = (perms == "r-xp" || perms == "r--p") && strings.HasSuffix(line, " "+name)
		}
		if f := strings.Fields(line); candidate && f[0] == "Anonymous:" && f[1] == "0" {
			clean = append(clean, at)
		}
	}
	return clean
}
