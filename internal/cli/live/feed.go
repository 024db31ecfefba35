// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/vigie-io/vigie/internal/cli/show"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
)

const (
	// feedRows is how far back the list goes: some hundred screens.
	feedRows = 5000
	// foldRows and foldTime bound how far back a repetition is folded into the row of its first
	// occurrence: further up, nobody would see the count change.
	foldRows = 200
	foldTime = time.Minute
	// openLimit bounds the processes and sockets whose end is awaited.
	openLimit = 16384
)

// class says which rows a user wants to see.
type class uint8

const (
	classNews      class = iota // always shown
	classRead                   // file reads, searches for files, and writes to terminals and /dev/null
	classNoise                  // forks, good exits, closes, granted capabilities, searches along PATH
	classInventory              // what ran before the agent
)

// row is one line of the list: an event, and those like it that followed.
type row struct {
	event    *model.Event // the latest
	first    time.Time
	node     string
	line     show.Line
	workload string
	process  string
	class    class
	count    uint64
	number   uint64 // of the row, to tell how old it is
	mixed    bool   // it stands for several files

	ended, failed uint64 // of an exec: processes that have ended, and that ended badly
	outcome       string // how the latest ended
	search        string
}

// foldKey says which events are the same to a person.
type foldKey struct {
	typ      model.Type
	node     string
	pid      uint32 // exec: the parent
	binary   string
	workload string
	object   string
	failed   bool
}

// feed folds events into rows. It keeps the latest feedRows of them.
type feed struct {
	rows    []*row // oldest first
	next    uint64
	folds   map[foldKey]*row
	images  map[image]*row  // running processes whose exec has a row
	sockets map[socket]*row // open sockets whose connect or accept has a row
}

// image is a program that a process runs, and socket one by its cookie: each is unique on its node.
type (
	image struct {
		node string
		key  model.ProcessKey
	}
	socket struct {
		node   string
		cookie uint64
	}
)

func newFeed() *feed {
	return &feed{folds: make(map[foldKey]*row), images: make(map[image]*row), sockets: make(map[socket]*row)}
}

// add takes one event in.
func (f *feed) add(e *model.Event) {
	switch e.Type {
	case model.TypeExit:
		if r := f.images[image{e.Node, e.Key}]; r != nil && e.Exit != nil {
			delete(f.images, image{e.Node, e.Key})
			r.exited(e.Exit)
			return
		}
	case model.TypeClose:
		if r := f.sockets[socket{e.Node, cookie(e)}]; r != nil {
			delete(f.sockets, socket{e.Node, e.Socket.Cookie})
			r.outcome = show.Closed(e.Socket)
			return
		}
	}
	r := f.fold(e)
	switch {
	case e.Type == model.TypeExec && len(f.images) < openLimit:
		f.images[image{e.Node, e.Key}] = r
	case cookie(e) != 0 && (e.Type == model.TypeConnect || e.Type == model.TypeAccept) && len(f.sockets) < openLimit:
		f.sockets[socket{e.Node, cookie(e)}] = r
	}
	f.trim()
}

// fold finds the row that e repeats, or makes a new one.
func (f *feed) fold(e *model.Event) *row {
	n := uint64(max(e.Count, 1))
	line := show.Event(e)
	if e.Type == model.TypeExec {
		line.Object = show.Short(line.Object)
	}
	key := keyOf(e, line)
	if r := f.folds[key]; r != nil && f.next-r.number <= foldRows && e.Time.Sub(r.first) < foldTime && e.Type != model.TypeLoss {
		r.line = merged(r, e, line)
		r.event = e
		r.count += n
		r.search = ""
		return r
	}
	workload, process := show.Who(e)
	f.next++
	r := &row{event: e, first: e.Time, node: term.Escape(e.Node), line: line, workload: workload, process: process, class: classOf(e, line), count: n, number: f.next}
	f.rows = append(f.rows, r)
	f.folds[key] = r
	return r
}

func keyOf(e *model.Event, line show.Line) foldKey {
	key := foldKey{typ: e.Type, node: e.Node, object: line.Verb + " " + line.Object, failed: line.Failed}
	if dir, _, ok := workFile(e); ok {
		key.object, key.pid = line.Verb+" "+dir, e.Key.PID
	}
	if p := e.Process; p != nil {
		key.binary, key.workload = p.Binary, show.Workload(p.Workload)
		if e.Type == model.TypeExec {
			key.pid, key.object = p.ParentKey.PID, p.File.Script
			if e.PreExisting {
				key.pid = p.Key.PID
			}
		}
	}
	return key
}

// workFile names the place and the name of a file that a program makes, fills or removes where programs
// do their work: builds and caches touch thousands of files in a tree. Where a change matters to others, every
// file keeps its row.
func workFile(e *model.Event) (dir, name string, ok bool) {
	if e.File == nil || e.File.NewPath != "" {
		return "", "", false
	}
	for _, kept := range []string{"/etc/", "/usr/", "/bin/", "/sbin/", "/lib", "/boot/", "/opt/", "/dev/", "/proc/", "/sys/", "/run/"} {
		if strings.HasPrefix(e.File.Path, kept) {
			return "", "", false
		}
	}
	for _, kept := range []string{"/.ssh/", "/.gnupg/", "/.aws/", "/.kube/"} {
		if strings.Contains(e.File.Path, kept) {
			return "", "", false
		}
	}
	depth := 3 // "/home/me/project", "/var/cache/apt"
	if strings.HasPrefix(e.File.Path, "/tmp/") {
		depth = 2
	}
	end := 0
	for range depth {
		i := strings.IndexByte(e.File.Path[end+1:], '/')
		if i < 0 {
			break
		}
		end += 1 + i
	}
	if end == 0 {
		return "", "", false
	}
	return e.File.Path[:end], e.File.Path[strings.LastIndexByte(e.File.Path, '/')+1:], true
}

// merged is the line of a row that e repeats: of several files in one place, that and the last one.
func merged(r *row, e *model.Event, line show.Line) show.Line {
	dir, name, ok := workFile(e)
	if !ok || r.event.File == nil || !r.mixed && r.event.File.Path == e.File.Path {
		return line
	}
	r.mixed = true
	line.Object = term.Escape(dir) + "/…"
	line.Detail = strings.TrimSuffix("last "+term.Escape(name)+", "+line.Detail, ", ")
	return line
}

func classOf(e *model.Event, line show.Line) class {
	switch {
	case line.Alarm:
		return classNews
	case e.Type == model.TypeListen:
		return classNews // also what listened before: it says what the host is for
	case e.PreExisting:
		return classInventory
	case line.Failed && e.Type == model.TypeExit:
		return classNews
	case e.Type == model.TypeFork, e.Type == model.TypeExit, e.Type == model.TypeClose, e.Type == model.TypeCapability && !line.Failed:
		return classNoise
	case e.ExecFailed != nil && absent(e.ExecFailed.Error):
		return classNoise
	case e.File != nil && (e.File.Op == model.FileRead || terminal(e.File.Path) || absent(e.File.Error)):
		return classRead
	}
	return classNews
}

// absent reports whether nothing happened because something was not there, or was there already: how
// programs look for files.
func absent(err model.Errno) bool {
	switch syscall.Errno(err) {
	case syscall.ENOENT, syscall.ENOTDIR, syscall.EEXIST, syscall.EISDIR:
		return true
	}
	return false
}

// terminal reports whether a file is where programs write to say something, or nothing.
func terminal(path string) bool {
	return path == "/dev/null" || path == "/dev/tty" || path == "/dev/ptmx" || strings.HasPrefix(path, "/dev/pts/")
}

func cookie(e *model.Event) uint64 {
	if e.Socket == nil {
		return 0
	}
	return e.Socket.Cookie
}

// exited notes how a process of the row ended.
func (r *row) exited(x *model.Exit) {
	r.ended++
	if x.Code != 0 || x.Signal != 0 {
		r.failed++
	}
	r.outcome = show.Exit(x)
	if x.Signal == 0 {
		r.outcome = "exit " + r.outcome
	}
	if x.RunTime > 0 {
		r.outcome += " after " + show.Duration(x.RunTime)
	}
}

// notes is what followed: the end of the process or the connection.
func (r *row) notes() (text string, bad bool) {
	switch {
	case r.count > 1 && r.failed > 0:
		return fmt.Sprintf("%d of %d failed, last %s", r.failed, r.ended, r.outcome), true
	case r.count > 1 && r.event.Type == model.TypeExec:
		return "", false
	}
	return r.outcome, r.failed > 0
}

// matches reports whether the row holds words, which are in lower case, in any column.
func (r *row) matches(words []string) bool {
	if len(words) == 0 {
		return true
	}
	if r.search == "" {
		r.search = strings.ToLower(r.node + " " + r.workload + " " + r.process + " " + r.line.Verb + " " + r.line.Text() + " " + string(r.event.Type))
	}
	for _, w := range words {
		if !strings.Contains(r.search, w) {
			return false
		}
	}
	return true
}

// trim drops the oldest rows, and what points at them, in large steps.
func (f *feed) trim() {
	if len(f.rows) < feedRows+feedRows/4 {
		return
	}
	oldest := f.rows[len(f.rows)-feedRows].number
	f.rows = append([]*row(nil), f.rows[len(f.rows)-feedRows:]...)
	for k, r := range f.folds {
		if r.number < oldest {
			delete(f.folds, k)
		}
	}
	for k, r := range f.images {
		if r.number < oldest {
			delete(f.images, k)
		}
	}
	for k, r := range f.sockets {
		if r.number < oldest {
			delete(f.sockets, k)
		}
	}
}
