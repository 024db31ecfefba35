// SPDX-License-Identifier: Apache-2.0

// Package shop is a small shop whose workloads talk to each other as those of a real one do: visitors ask a web server, that
// asks an API, which asks a stock keeper and Redis; a worker takes orders, is refused by a payment service and sometimes does
// what it should not. In: nothing. Out: traffic on loopback, by processes in units of their own.
package shop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Shop is an open shop.
type Shop struct {
	dir   string
	units []*unit
	procs []*exec.Cmd
}

// service is a workload of the shop: a program in a unit of a slice.
type service struct {
	slice, unit string
	args        func(dir string) []string
}

func services() []service {
	role := func(name string) func(string) []string {
		return func(dir string) []string { return []string{filepath.Join(dir, name)} }
	}
	return []service{
		{"data.slice", "shop-redis.service", func(dir string) []string {
			return []string{"redis-server", "--port", redisPort, "--bind", "127.0.0.1", "--save", "", "--dir", dir}
		}},
		{"shop.slice", "shop-stock.service", role("stock")},
		{"shop.slice", "shop-api.service", role("api")},
		{"shop.slice", "shop-web.service", func(dir string) []string {
			return []string{"nginx", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-g", "daemon off;"}
		}},
		{"shop.slice", "shop-worker.service", role("worker")},
		{"edge.slice", "shop-visitors.service", role("visitors")},
	}
}

const nginxConfig = `worker_processes 1;
pid nginx.pid;
error_log error.log;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
	server { listen 127.0.0.1:` + webPort + `; location / { proxy_pass http://127.0.0.1:` + apiPort + `; } }
}
`

// Open starts all of it in dir, which it makes.
func Open(ctx context.Context, dir string) (*Shop, error) {
	s := &Shop{dir: dir}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(nginxConfig), 0o644)); err != nil {
		return nil, fmt.Errorf("open the shop: %w", err)
	}
	for _, v := range services() {
		if err := s.start(ctx, v); err != nil {
			s.Close()
			return nil, fmt.Errorf("open the shop: start %s: %w", v.unit, err)
		}
	}
	return s, nil
}

// start runs a service in its unit, from its first moment on. A role of the shop is this program by the role's name.
func (s *Shop) start(ctx context.Context, v service) error {
	args := v.args(s.dir)
	if strings.HasPrefix(args[0], s.dir) {
		if err := copySelf(args[0]); err != nil {
			return err
		}
	}
	u, err := newUnit(v.slice, v.unit)
	if err != nil {
		return err
	}
	s.units = append(s.units, u)
	cgroup, err := os.Open(u.dir)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.procs = append(s.procs, cmd)
	return nil
}

func copySelf(to string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(to, self, 0o755)
}

// Close ends everything that runs in the shop's units and takes the units away.
func (s *Shop) Close() {
	for _, u := range slices.Backward(s.units) {
		u.kill()
	}
	for _, p := range s.procs {
		_ = p.Wait()
	}
	for _, u := range slices.Backward(s.units) {
		u.remove()
	}
}
