// SPDX-License-Identifier: Apache-2.0

package shop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// The ports of the shop, all on loopback.
const (
	webPort   = "27080"
	apiPort   = "27081"
	stockPort = "27082"
	redisPort = "27379"
)

// payment is where nobody listens: the connection is refused.
const payment = "127.0.0.1:27443"

func roles() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{"api": api, "stock": stock, "worker": worker, "visitors": visitors}
}

// RoleOf is the role that this program was started in, by its name.
func RoleOf(args []string) (string, bool) {
	name := filepath.Base(args[0])
	_, ok := roles()[name]
	return name, ok
}

// Play plays a role until the process is killed.
func Play(role string) {
	if err := roles()[role](context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "shop %s: %v\n", role, err)
		os.Exit(1)
	}
}

// api answers the web server with what the stock keeper and Redis say.
func api(ctx context.Context) error {
	return listen(ctx, apiPort, func(w http.ResponseWriter, r *http.Request) {
		stock := get(r.Context(), "http://127.0.0.1:"+stockPort+r.URL.Path)
		carts := redis(r.Context(), "GET cart\r\n")
		if err := errors.Join(stock, carts); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = fmt.Fprintf(w, "goods %s\n", r.URL.Path)
	})
}

// stock counts goods. One question in twenty is about something that it does not have.
func stock(ctx context.Context) error {
	return listen(ctx, stockPort, func(w http.ResponseWriter, r *http.Request) {
		if rand.IntN(20) == 0 {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, "12\n")
	})
}

// visitors look at goods, some at a time.
func visitors(ctx context.Context) error {
	return every(ctx, 120*time.Millisecond, func(n int) {
		_ = get(ctx, fmt.Sprintf("http://127.0.0.1:%s/goods/%d", webPort, n%40))
	})
}

// worker takes orders, tries to have them paid, and now and then does what an intruder would do in its place.
func worker(ctx context.Context) error {
	return every(ctx, 500*time.Millisecond, func(n int) {
		_ = redis(ctx, "LPOP orders\r\n")
		_ = get(ctx, "http://127.0.0.1:"+stockPort+"/orders")
		if n%4 == 0 {
			if c, err := dial(ctx, payment); err == nil {
				_ = c.Close()
			}
		}
		if n%6 == 1 {
			// It reads and keeps nothing.
			_ = exec.CommandContext(ctx, "sh", "-c", "id >/dev/null; cat /etc/shadow >/dev/null").Run()
		}
	})
}

// every calls f until ctx ends.
func every(ctx context.Context, wait time.Duration, f func(n int)) error {
	tick := time.NewTicker(wait)
	defer tick.Stop()
	for n := 0; ; n++ {
		f(n)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func listen(ctx context.Context, port string, answer http.HandlerFunc) error {
	s := &http.Server{Addr: "127.0.0.1:" + port, Handler: answer, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	return s.ListenAndServe()
}

// get asks over a connection of its own, as short as those of many clients.
func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// redis sends a command and reads the beginning of the answer.
func redis(ctx context.Context, command string) error {
	c, err := dial(ctx, "127.0.0.1:"+redisPort)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, command); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 64))
	return err
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
}
