// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// processes are the programs that belong to a cluster and run as long as it.
type processes struct {
	*cluster
	begun time.Time
	attr  syscall.SysProcAttr // of what is started
	// ended has the first that ended by itself, with the end of its log.
	ended chan error

	mu      sync.Mutex
	running []*exec.Cmd
	stopped bool
	wait    sync.WaitGroup
}

func newProcesses(c *cluster) *processes {
	return &processes{cluster: c, begun: time.Now(), attr: syscall.SysProcAttr{Setpgid: true}, ended: make(chan error, 1)}
}

// say tells what has been reached, and when.
func (p *processes) say(format string, args ...any) {
	fmt.Printf("%6.2fs %s\n", time.Since(p.begun).Seconds(), fmt.Sprintf(format, args...))
}

// ready writes the file for which others wait.
func (p *processes) ready() error {
	return os.WriteFile(p.path("ready"), fmt.Appendf(nil, "%.2f\n", time.Since(p.begun).Seconds()), 0o644)
}

// start starts a program that logs to log/NAME.log.
func (p *processes) start(name, program string, args ...string) error {
	return p.run(false, name, program, args)
}

// keep is start of a program that is started again when it ends, as a node's service manager does.
func (p *processes) keep(name, program string, args ...string) error {
	return p.run(true, name, program, args)
}

func (p *processes) run(again bool, name, program string, args []string) error {
	log, err := os.OpenFile(p.path("log", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, p.environ()
	cmd.SysProcAttr = &p.attr
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return fmt.Errorf("start %s: all is being stopped", name)
	}
	if err := cmd.Start(); err != nil {
		p.mu.Unlock()
		return fmt.Errorf("start %s: %w", name, err)
	}
	p.running = append(p.running, cmd)
	p.mu.Unlock()
	p.wait.Go(func() {
		ended := exitError(cmd.Wait())
		if again && p.run(again, name, program, args) == nil {
			return
		}
		err := fmt.Errorf("%s ended: %w; its log ends with:\n%s", name, ended, tail(log.Name()))
		select {
		case p.ended <- err:
		default: // the first is what matters
		}
	})
	return nil
}

// stop ends them all and waits for that.
func (p *processes) stop() {
	p.mu.Lock()
	p.stopped = true
	for _, cmd := range p.running {
		_ = cmd.Process.Kill() // it may have ended
	}
	p.mu.Unlock()
	p.wait.Wait()
}

// orEnd does something, and fails at once when a program ends meanwhile.
func (p *processes) orEnd(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var result error
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		result = do(ctx)
	}()
	select {
	case <-finished:
		return result
	case err := <-p.ended:
		cancel(err)
		<-finished
		return err
	}
}

// apiServer starts etcd, and kube-apiserver at this address.
func (p *processes) apiServer(address, port string) error {
	etcd := "unix://" + p.path("etcd.sock")
	err := p.start("etcd", filepath.Join(p.Tools.Etcd, "etcd"), "--data-dir", p.path("etcd", "data"), "--unsafe-no-fsync",
		"--listen-client-urls", etcd, "--listen-peer-urls", "http://127.0.0.1:0", "--advertise-client-urls", "http://127.0.0.1:2379", // nobody is told
		"--log-level", "warn", "--quota-backend-bytes", "4294967296")
	if err != nil {
		return err
	}
	pki := p.path("pki")
	args := []string{"--etcd-servers=" + etcd, "--secure-port=" + port, "--bind-address=" + address, "--advertise-address=" + address,
		"--client-ca-file=" + pki + "/ca.crt", "--tls-cert-file=" + pki + "/apiserver.crt", "--tls-private-key-file=" + pki + "/apiserver.key",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + pki + "/service-accounts.key",
		"--service-account-signing-key-file=" + pki + "/service-accounts.key",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--kubelet-client-certificate=" + pki + "/kubelet-client.crt", "--kubelet-client-key=" + pki + "/kubelet-client.key",
		"--requestheader-client-ca-file=" + pki + "/ca.crt", "--requestheader-allowed-names=front-proxy",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + pki + "/front-proxy.crt", "--proxy-client-key-file=" + pki + "/front-proxy.key",
		"--kubelet-preferred-address-types=InternalIP", "--service-cluster-ip-range=" + serviceCIDR,
		// No kube-proxy runs where the API server does: it reaches webhooks by their endpoints.
		"--enable-aggregator-routing=true"}
	return p.start("kube-apiserver", p.kube("kube-apiserver"), append(args, p.APIServer...)...)
}

func exitError(err error) error {
	if err == nil {
		return fmt.Errorf("exit status 0")
	}
	return err
}

// tail is the end of a log.
func tail(file string) []byte {
	data, err := os.ReadFile(file)
	if err != nil {
		return []byte(err.Error())
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-8):], []byte("\n"))
}
