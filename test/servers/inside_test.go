// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// inside are attacks by code that runs in the unit: first as a program of its own, then under the server's name. log is a
// file that the server writes and others must not remove.
func (g *siege) inside(log string) {
	g.t.Helper()
	as, root := g.unit.as, account{}
	by := func(deed ...string) func() error { return g.implant(as, nil, deed...) }
	byRoot := func(deed ...string) func() error { return g.implant(root, nil, deed...) }
	self := func(deed ...string) func() error { return g.asServer(as, nil, deed...) }
	written := func(name string) func() bool { return func() bool { return g.site.text(name) != "" } }
	gone := func(name string) func() bool { return func() bool { return !g.site.exists(name) } }

	shell := g.site.real("/bin/sh")
	loader := g.site.real(needProgram(g.t, "/lib*/ld-linux*.so.*"))
	dropped, script := "/tmp/dropped", "/tmp/script"
	g.site.put(dropped, readFile(g.t, program(g.t, "implant")), 0o755)
	g.site.put(script, []byte("#!/bin/sh\n: >/tmp/by-script\n"), 0o755)
	beside := filepath.Dir(g.binary) + "/beside"
	only := g.onlyRead()
	g.site.must(func() error {
		return errors.Join(os.Symlink(shadow, "/tmp/symlink"), os.Link(shadow, "/tmp/hardlink"), os.Chmod(filepath.Dir(g.binary), 0o777))
	})

	// Where capabilities are listed too, what needs one of root's is denied as the use of it.
	g.attack(
		attack{"run a shell", by("exec", "/bin/sh", "-c", ": >/tmp/by-shell"), "exec", shell, written("/tmp/by-shell")},
		attack{"run a program from /tmp", by("exec", dropped, "create", "/tmp/by-dropped"), "exec", dropped, written("/tmp/by-dropped")},
		attack{"run a script", by("exec", script), "exec", "*", written("/tmp/by-script")},
		attack{"run a program by its loader", by("exec", loader, "/bin/true"), "exec", "*", nil},
		attack{"run a program from memory", g.implant(as, readFile(g.t, "/bin/true"), "memfd", "true"), "exec", "/memfd:payload*", nil},
		attack{"read /etc/shadow", by("read", shadow), "read", shadow, nil},
		attack{"read it through a symbolic link", by("read", "/tmp/symlink"), "read", shadow, nil},
		attack{"read it through a hard link", by("read", "/tmp/hardlink"), "read", "*", nil},
		attack{"read it through /proc/self/root", by("read", "/proc/self/root"+shadow), "read", shadow, nil},
		attack{"read it by openat2", by("openat2", shadow), "read", shadow, nil},
		attack{"read a private key", by("read", secret), "read", secret, nil},
		attack{"add a key to authorized_keys", by("create", "/root/.ssh/authorized_keys2"), "write", "/root/.ssh/authorized_keys2", written("/root/.ssh/authorized_keys2")},
		attack{"add a cron job", by("create", "/etc/cron.d/job"), "write", "/etc/cron.d/job", written("/etc/cron.d/job")},
		attack{"put a program beside the server's", by("create", beside), "write", beside, written(beside)},
		attack{"write the password file", by("write", shadow), "write", shadow, nil},
		attack{"write what the server only reads", by("write", only), "write", only, nil},
		attack{"connect to a new address", by("connect", elsewhere+":8888"), "connect", elsewhere + ":8888", nil},
		attack{"connect to a new port", by("connect", bystander), "connect", bystander, nil},
		attack{"connect by an IPv4-mapped address", by("mapped", bystander), "connect", "*", nil},
		attack{"send a datagram", by("send", elsewhere+":8888"), "send", elsewhere + ":8888", nil},
		attack{"listen on a new port", by("listen", "0.0.0.0:4444"), "bind", "0.0.0.0:4444", nil},
		attack{"listen on any port", g.listenAnywhere, "listen", "*", nil},
		attack{"open a raw socket", byRoot("raw"), "socket|capability", "*", nil},
		attack{"open a packet socket", byRoot("packet"), "socket|capability", "*", nil},
		attack{"run a shell, as the server", self("exec", "/bin/sh", "-c", ": >/tmp/by-server"), "exec", shell, written("/tmp/by-server")},
		attack{"read /etc/shadow, as the server", self("read", shadow), "read", shadow, nil},
		attack{"write what it only reads, as the server", self("write", only), "write", only, nil},
		attack{"add a cron job, as the server", self("create", "/etc/cron.d/own"), "write", "/etc/cron.d/own", written("/etc/cron.d/own")},
		attack{"connect to a new address, as the server", self("connect", elsewhere+":8888"), "connect", elsewhere + ":8888", nil},
		attack{"listen on a new port, as the server", self("listen", "0.0.0.0:4445"), "bind", "0.0.0.0:4445", nil},
	)
	g.ownBinary()
	// What only LSM and fmod_ret deny. Elsewhere it has happened when the agent hears of it.
	g.attack(
		attack{"remove a key of root's", by("-stay", "unlink", secret), "modify", secret, gone(secret)},
		attack{"empty the password file", by("-stay", "truncate", shadow), "modify|write", shadow, func() bool { return g.site.text(shadow) == "" }},
		attack{"rename the log", by("-stay", "rename", log, log+".gone"), "modify", log + "*", gone(log)},
		attack{"make a program setuid", byRoot("-stay", "setuid", dropped), "modify", dropped, nil},
		attack{"trace the server", byRoot("-stay", "ptrace", strconv.Itoa(g.server.pid())), "ptrace|capability", "*", nil},
		attack{"mount a file system", byRoot("-stay", "mount", "/tmp"), "mount|capability", "*", nil},
	)
	memory := attack{"read the server's memory", by("read", fmt.Sprintf("/proc/%d/mem", g.server.pid())), "read", "/proc/*", nil}
	if g.why["modify"] == nil {
		g.attack(memory)
	} else {
		g.uncovered(memory, "fanotify leaves the kernel's own file systems out")
	}
}

// onlyRead is a file that the learned policy allows to be read and not to be written, as it does for whom runs in the unit; now
// nothing but the policy keeps it from being written.
func (g *siege) onlyRead() string {
	g.t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^ +- \{path: (/etc/[\w./-]+), access: read\}`).FindAllStringSubmatch(g.text, -1) {
		name := m[1]
		if !g.site.exists(name) || g.site.text(name) == "" {
			continue
		}
		g.site.must(func() error { return os.Chmod(name, 0o666) })
		if err := g.implant(g.unit.as, nil, "read", name)(); err != nil {
			g.t.Errorf("%s, which may be read, is not: %v", name, err)
		}
		return name
	}
	g.t.Fatalf("no file of /etc is only read in\n%s", g.text)
	return ""
}

// ownBinary writes to the server's program while it does not run: else the kernel refuses that anyway.
func (g *siege) ownBinary() {
	g.t.Helper()
	g.site.must(func() error { return os.Chmod(g.binary, 0o777) })
	g.server.stop()
	g.attackOnly(attack{"write to the server's own program", g.implant(g.unit.as, nil, "write", g.binary), "write", g.binary, nil})
	g.server.start()
}

// real is the path of a program of the site without symbolic links, as verdicts name it.
func (s *site) real(name string) (path string) {
	s.t.Helper()
	s.must(func() (err error) {
		path, err = filepath.EvalSymlinks(name)
		return err
	})
	return path
}

// listenAnywhere has an implant listen on a port that the kernel chooses. It worked when somebody reaches it.
func (g *siege) listenAnywhere() error {
	read, write, err := os.Pipe()
	if err != nil {
		g.t.Fatal(err)
	}
	defer read.Close()
	in, hold, err := os.Pipe()
	if err != nil {
		g.t.Fatal(err)
	}
	defer in.Close()
	procs := g.procs()
	defer procs.Close()
	p, err := g.unit.begin(how{as: g.unit.as, stdin: in, files: []*os.File{procs, write}, env: quiet()}, implanted+"/implant", "-join", "listen-anywhere")
	write.Close()
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { hold.Close(); _ = p.wait() }()
	port, err := io.ReadAll(io.LimitReader(read, 5))
	if err != nil || len(port) == 0 {
		return fmt.Errorf("it does not listen: %w", err)
	}
	return g.site.do(func() error {
		c, err := net.DialTimeout("tcp4", "127.0.0.1:"+string(port), time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
}
