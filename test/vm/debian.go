// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

//go:embed debian
var debianFiles embed.FS

// serverPackages make of Debian's important packages a server as many are: with what listens, what runs by the clock, and
// what keeps it up to date.
func serverPackages() []string {
	return []string{"systemd-sysv", "dbus", "libpam-systemd", "systemd-timesyncd", "polkitd", "openssh-server", "cron", "rsyslog",
		"logrotate", "unattended-upgrades", "man-db", "mdadm", "sysstat", "sudo", "curl", "python3", "kmod", "procps", "iproute2",
		"nginx-light", "postgresql", "redis-server", "redis-tools"}
}

// debianGuest is a Debian host with systemd on two disks: its root, which is made once for each kernel and kept in the cache,
// and the tests of this run. Neither is changed by what the guest does.
func debianGuest(ctx context.Context, cfg config, img image, bins []testBinary, work string) (guest, error) {
	root, err := debianRoot(ctx, img, cfg.cache)
	if err != nil {
		return guest{}, fmt.Errorf("make Debian's root: %w", err)
	}
	tests, err := testsDisk(ctx, cfg, bins, work)
	if err != nil {
		return guest{}, fmt.Errorf("make the disk of tests: %w", err)
	}
	return guest{kernel: img.vmlinuz, root: root, tests: tests, memory: cfg.memory, cpus: 1, clock: sundayMorning(time.Now()),
		append: "root=/dev/nvme0n1 rw systemd.show_status=0 systemd.default_timeout_start_sec=1h"}, nil
}

// sundayMorning is shortly before cron's hourly, daily and weekly jobs start one after the other, on the next Sunday: a clock that
// goes back would have files from the future.
func sundayMorning(now time.Time) time.Time {
	day := now.AddDate(0, 0, 7-int(now.Weekday()))
	return time.Date(day.Year(), day.Month(), day.Day(), 6, 10, 0, 0, time.UTC)
}

// debianRoot returns the file system with Debian's packages and this kernel's modules; it is made where the cache lacks it.
func debianRoot(ctx context.Context, img image, cache string) (string, error) {
	sources, suite, err := debianSources(ctx)
	if err != nil {
		return "", err
	}
	files := filepath.Join(cache, "debian-files")
	sum := sha256.New()
	fmt.Fprintln(sum, suite, serverPackages())
	for _, name := range []string{"customize.sh", "tests.service"} {
		b, err := fs.ReadFile(debianFiles, "debian/"+name)
		if err != nil {
			return "", err
		}
		sum.Write(b)
		if err := errors.Join(os.MkdirAll(files, 0o755), os.WriteFile(filepath.Join(files, name), b, 0o755)); err != nil {
			return "", err
		}
	}
	kind := filepath.Join(cache, fmt.Sprintf("debian-%s-%s-", suite, img.release))
	disk := fmt.Sprintf("%s%x.ext4", kind, sum.Sum(nil)[:6])
	if _, err := os.Stat(disk); err == nil {
		return disk, nil
	}
	earlier, err := filepath.Glob(kind + "*.ext4")
	if err != nil {
		return "", err
	}
	if os.Geteuid() != 0 {
		return "", errors.New("root is needed to make it, once: the files of a Debian host belong to many users")
	}
	dir, err := os.MkdirTemp(cache, "debian-root-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	args := append([]string{"--mode=root", "--quiet", "--variant=important", "--include=" + strings.Join(serverPackages(), ","),
		"--aptopt=Apt::Install-Recommends false", "--customize-hook=" + filepath.Join(files, "customize.sh"), suite, dir}, sources...)
	bootstrap := exec.CommandContext(ctx, "mmdebstrap", args...)
	bootstrap.Env = append(os.Environ(), "KERNEL_DIR="+img.dir, "KERNEL_RELEASE="+img.release, "GUEST_DIR="+files)
	if msg, err := bootstrap.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mmdebstrap (tools/deps.sh host installs it): %w\n%s", err, msg)
	}
	if err := ext4(ctx, dir, disk, "4G"); err != nil {
		return "", err
	}
	for _, name := range earlier { // a guest that runs from one has it open
		if err := os.Remove(name); err != nil {
			return "", fmt.Errorf("remove an earlier root: %w", err)
		}
	}
	return disk, nil
}

// debianSources are the places that this machine's apt takes its own release from, its updates included, as lines of a
// sources.list; and the release's name.
func debianSources(ctx context.Context) (lines []string, suite string, err error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return nil, "", err
	}
	m := regexp.MustCompile(`(?m)^VERSION_CODENAME=(\w+)$`).FindSubmatch(release)
	if m == nil {
		return nil, "", errors.New("/etc/os-release names no release: this lane needs a Debian host")
	}
	suite = string(m[1])
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return nil, "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[1] == "main" && slices.Contains([]string{suite, suite + "-updates", suite + "-security"}, f[0]) {
			lines = append(lines, fmt.Sprintf("deb %s %s main", f[2], f[0]))
		}
	}
	if len(lines) == 0 {
		return nil, "", fmt.Errorf("this machine's apt has no lists of %s: run apt-get update", suite)
	}
	return lines, suite, nil
}

// testsDisk packs what the guest's tests.sh runs: the parts of the repository that tests look at, in their places, and
// the test binaries in those of their packages.
func testsDisk(ctx context.Context, cfg config, bins []testBinary, work string) (string, error) {
	top := filepath.Join(work, "tests")
	if err := os.RemoveAll(top); err != nil {
		return "", err
	}
	script, err := fs.ReadFile(debianFiles, "debian/tests.sh")
	if err != nil {
		return "", err
	}
	var list strings.Builder
	for _, b := range bins {
		fmt.Fprintln(&list, b.pkg, b.dir)
		err = errors.Join(err, os.MkdirAll(filepath.Join(top, b.dir), 0o755), os.Link(b.path, filepath.Join(top, b.dir, "package.test")))
		if b.testdata != "" {
			err = errors.Join(err, os.CopyFS(filepath.Join(top, b.dir, "testdata"), os.DirFS(b.testdata)))
		}
	}
	var env strings.Builder
	for _, v := range cfg.env {
		fmt.Fprintf(&env, "export %s\n", v)
	}
	for name, text := range map[string]string{"tests.sh": string(script), "packages": list.String(), "run": cfg.run, "env": env.String()} {
		err = errors.Join(err, os.WriteFile(filepath.Join(top, name), []byte(text), 0o644))
	}
	err = errors.Join(err, os.CopyFS(filepath.Join(top, "deploy"), os.DirFS("deploy")))
	for _, pkg := range []string{"./cmd/vigie", "./test/servers/implant"} {
		err = errors.Join(err, goBuild(ctx, "build", filepath.Join(top, "bin", filepath.Base(pkg)), pkg))
	}
	if err != nil {
		return "", err
	}
	disk := filepath.Join(work, "tests.ext4")
	return disk, ext4(ctx, top, disk, "2G")
}

// ext4 makes a file system of a folder, which appears complete or not at all. The file is sparse.
func ext4(ctx context.Context, from, disk, size string) error {
	tmp := disk + ".partial"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if msg, err := exec.CommandContext(ctx, "/sbin/mkfs.ext4", "-q", "-d", from, tmp, size).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w\n%s", err, msg)
	}
	return os.Rename(tmp, disk)
}
