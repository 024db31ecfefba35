// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// account is who a process runs as.
type account struct{ uid, gid uint32 }

func accountOf(t *testing.T, name string) account {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Skipf("needs the user of a Debian package: %v; tools/deps.sh test installs it", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return account{uint32(uid), uint32(gid)}
}

// needProgram skips the test where a program of a Debian package is missing.
func needProgram(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Skipf("needs %s: tools/deps.sh test installs its Debian package", pattern)
	}
	return found[len(found)-1]
}

// unit is a workload as systemd makes one: a cgroup with a unit's name, made when the service starts and removed when it
// has stopped. Its name is nobody else's.
type unit struct {
	t    *testing.T
	site *site
	name string
	as   account
	dir  string // of the cgroup
}

func newUnit(t *testing.T, s *site, service string, as account) *unit {
	t.Helper()
	u := &unit{t: t, site: s, name: fmt.Sprintf("vigie-test-%s-%d.service", service, os.Getpid()), as: as}
	u.dir = filepath.Join(cgroup2(t), "system.slice", u.name)
	t.Cleanup(u.remove)
	return u
}

// cgroup2 is where cgroup v2 is mounted.
func cgroup2(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	t.Skip("needs cgroup v2")
	return ""
}

// create makes the cgroup. system.slice may be somebody else's, who may be removing it.
func (u *unit) create() {
	u.t.Helper()
	await(u.t, "the cgroup "+u.name, func() bool {
		_ = os.Mkdir(filepath.Dir(u.dir), 0o755)
		err := os.Mkdir(u.dir, 0o755)
		return err == nil || os.IsExist(err)
	})
}

// remove ends what runs in the unit and takes its cgroup away, and system.slice where it is empty then.
func (u *unit) remove() {
	await(u.t, "the cgroup "+u.name+" to be removed", func() bool {
		_ = os.WriteFile(filepath.Join(u.dir, "cgroup.kill"), []byte("1"), 0)
		err := os.Remove(u.dir)
		return err == nil || os.IsNotExist(err)
	})
	_ = os.Remove(filepath.Dir(u.dir))
}

// process is a program that runs in the site.
type process struct {
	cmd  *exec.Cmd
	out  bytes.Buffer // what it has said, once it has ended
	done chan error
}

// how says in which way a program is started.
type how struct {
	as     account
	inside bool // in the unit's cgroup, from its first moment
	stdin  io.Reader
	env    []string
	files  []*os.File
}

// begin starts a program in the site.
func (u *unit) begin(h how, argv ...string) (*process, error) {
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Stdin, p.cmd.Dir, p.cmd.ExtraFiles = &p.out, &p.out, h.stdin, "/", h.files
	p.cmd.WaitDelay = deadline // children that keep the output open
	p.cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, h.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: h.as.uid, Gid: h.as.gid},
		Pdeathsig: unix.SIGKILL} // with the thread of the site, so with the test
	if h.inside {
		dir, err := os.Open(u.dir)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		p.cmd.SysProcAttr.UseCgroupFD, p.cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	if err := u.site.do(p.cmd.Start); err != nil {
		return nil, err
	}
	go func() { p.done <- p.cmd.Wait() }()
	return p, nil
}

// start starts a server in the unit.
func (u *unit) start(argv ...string) *process {
	u.t.Helper()
	p, err := u.begin(how{as: u.as, inside: true}, argv...)
	if err != nil {
		u.t.Fatalf("start %s: %v", argv[0], err)
	}
	return p
}

// client runs a program of the host beside the unit, and returns what it says. Error: it failed, which it says.
func (u *unit) client(argv ...string) (string, error) {
	return u.finish(how{as: u.as}, argv...)
}

// finish runs a program to its end.
func (u *unit) finish(h how, argv ...string) (string, error) {
	p, err := u.begin(h, argv...)
	if err != nil {
		return "", err
	}
	err = p.wait()
	text := strings.TrimSpace(p.out.String())
	if err != nil {
		return text, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, text)
	}
	return text, nil
}

// wait waits for the end of a process; one that takes longer than the deadline is killed.
func (p *process) wait() error {
	late := time.NewTimer(deadline)
	defer late.Stop()
	select {
	case err := <-p.done:
		return err
	case <-late.C:
	}
	_ = p.cmd.Process.Kill()
	return <-p.done
}

// awaitReady waits until a server serves.
func (p *process) awaitReady(t *testing.T, serves func() error) {
	t.Helper()
	var why error
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if why = serves(); why == nil {
			return
		}
		select {
		case err := <-p.done:
			t.Fatalf("%s ended, with %v: %s", p.cmd.Path, err, p.out.String())
		default:
		}
	}
	t.Fatalf("%s does not serve: %v", p.cmd.Path, why)
}

// end asks a server to end and waits until it has.
func (p *process) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatalf("end %s: %v", p.cmd.Path, err)
	}
	_ = p.wait()
}
