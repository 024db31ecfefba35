// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tracefs is a tracefs that is mounted nowhere: a detached mount that only this process sees, through its descriptor. So
// formats can be read on hosts where tracefs is not mounted, and nothing about the host changes. Where that is not possible it
// is the one at its usual place.
type tracefs struct {
	dir string
	fd  int // of the detached mount; -1 for none
}

const tracefsDir = "/sys/kernel/tracing"

// openTracefs opens it (fsopen(2), fsmount(2): Linux 5.2).
func openTracefs() (*tracefs, error) {
	fd, err := mountTracefs()
	if err == nil {
		return &tracefs{filepath.Join("/proc/self/fd", strconv.Itoa(fd)), fd}, nil
	}
	if _, statErr := os.Stat(filepath.Join(tracefsDir, "events")); statErr == nil {
		return &tracefs{tracefsDir, -1}, nil
	}
	return nil, err
}

func mountTracefs() (int, error) {
	ctx, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open tracefs: %w", err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, fmt.Errorf("make an instance of tracefs: %w", err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return -1, fmt.Errorf("mount tracefs for this process alone: %w", err)
	}
	return fd, nil
}

// Close takes the detached mount away.
func (t *tracefs) Close() error {
	if t.fd < 0 {
		return nil
	}
	return unix.Close(t.fd)
}

func (t *tracefs) read(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(t.dir, name))
	return string(b), err
}

// event is a tracepoint as its format file describes it.
type event struct {
	id     uint64
	fields []field
}

// field is one of a tracepoint's, common ones included: policies count them.
type field struct {
	name    string
	decl    string // its declaration in C
	offset  int
	size    int
	signed  bool
	dataLoc bool // four bytes: where the data is, and how long
}

// event reads the format of subsystem/name.
func (t *tracefs) event(subsystem, name string) (*event, error) {
	dir := filepath.Join("events", subsystem, name)
	id, err := t.read(filepath.Join(dir, "id"))
	if err != nil {
		return nil, fmt.Errorf("this kernel has no tracepoint %s/%s", subsystem, name)
	}
	e := new(event)
	if e.id, err = strconv.ParseUint(strings.TrimSpace(id), 10, 64); err != nil {
		return nil, fmt.Errorf("read the number of tracepoint %s/%s: %w", subsystem, name, err)
	}
	text, err := t.read(filepath.Join(dir, "format"))
	if err != nil {
		return nil, fmt.Errorf("read the format of tracepoint %s/%s: %w", subsystem, name, err)
	}
	e.fields, err = parseFormat(text)
	return e, err
}

// parseFormat reads the fields of a format file: lines such as
//
//	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
func parseFormat(text string) ([]field, error) {
	var out []field
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "field:")
		if !ok {
			continue
		}
		var f field
		for i, part := range strings.Split(rest, ";") {
			key, value, _ := strings.Cut(strings.TrimSpace(part), ":")
			var err error
			switch {
			case i == 0:
				f.decl = strings.TrimSpace(part)
			case key == "offset":
				f.offset, err = strconv.Atoi(value)
			case key == "size":
				f.size, err = strconv.Atoi(value)
			case key == "signed":
				f.signed = value == "1"
			}
			if err != nil {
				return nil, fmt.Errorf("format line %q: %w", strings.TrimSpace(line), err)
			}
		}
		words := strings.Fields(strings.NewReplacer("*", " ", "[", " [").Replace(f.decl))
		for _, w := range words {
			if !strings.HasPrefix(w, "[") {
				f.name = w
			}
		}
		f.dataLoc = strings.HasPrefix(f.decl, "__data_loc")
		out = append(out, f)
	}
	return out, nil
}
