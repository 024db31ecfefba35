// SPDX-License-Identifier: Apache-2.0

// Command actor is the only program in the images of the test cluster: process 1 of pod sandboxes, a server, and small clients for
// kubectl exec. In: what to do, as arguments. Out: what was seen, on standard output; exit code 1 when it did not work.
//
//	actor pause                     waits, and reaps
//	actor serve [ADDRESS]           HTTP and UDP echo at :8080; /healthz, /readyz
//	actor get URL                   prints the answer
//	actor connect PROTOCOL ADDRESS  one TCP connection, or a datagram and its echo: prints "ok"
//	actor dns NAME                  prints the addresses
//	actor cat FILE | ls DIR | env
//	actor stdin                     prints standard input
//	actor run PROGRAM ARGUMENT…     runs it as a child
//	actor every DURATION COMMAND…   does one of these again and again
//	actor load                      serves what loads talk to, and runs loads as it is told (load.go)
//	actor oom | exit CODE
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long a client waits.
const patience = 3 * time.Second

func main() {
	if err := act(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "actor: %v\n", err)
		os.Exit(1)
	}
}

func act(args []string) error {
	if len(args) == 0 {
		return errors.New("what to do?")
	}
	what, args := args[0], args[1:]
	needs := map[string]int{"get": 1, "connect": 2, "dns": 1, "cat": 1, "ls": 1, "run": 1, "every": 2, "exit": 1}
	if len(args) < needs[what] {
		return fmt.Errorf("%s: %d arguments are missing", what, needs[what]-len(args))
	}
	switch what {
	case "pause":
		pause()
	case "load":
		return load()
	case "serve":
		return serve(append(args, ":8080")[0])
	case "get":
		return get(args[0])
	case "connect":
		return connect(args[0], args[1])
	case "dns":
		ctx, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		found, err := net.DefaultResolver.LookupHost(ctx, args[0])
		fmt.Println(strings.Join(found, " "))
		return err
	case "cat":
		data, err := os.ReadFile(args[0])
		os.Stdout.Write(data)
		return err
	case "ls":
		entries, err := os.ReadDir(args[0])
		for _, e := range entries {
			fmt.Println(e.Name())
		}
		return err
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "stdin":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "run":
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return cmd.Run()
	case "every":
		pace, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		for {
			if err := act(args[1:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			time.Sleep(pace)
		}
	case "oom":
		for held := [][]byte{}; ; {
			held = append(held, []byte(strings.Repeat("x", 1<<20)))
		}
	case "exit":
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		os.Exit(code)
	default:
		return fmt.Errorf("unknown deed %q", what)
	}
	return nil
}

// pause waits for a signal and reaps meanwhile.
func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

// serve answers until it is ended.
func serve(address string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Printf("%s %s from %s\n", r.Method, r.URL, r.RemoteAddr)
		fmt.Fprintf(w, "%s saw %s\n", host, r.RemoteAddr)
	})
	for _, path := range []string{"/healthz", "/readyz"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	}
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	go func() { // ends with the program
		buf := make([]byte, 64<<10)
		for {
			if n, from, err := packets.ReadFrom(buf); err == nil {
				_, _ = packets.WriteTo(buf[:n], from) // who asked will ask again
			}
		}
	}()
	fmt.Printf("%s listens at %s\n", host, address)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: patience}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}

func get(url string) error {
	client := &http.Client{Timeout: patience}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func connect(protocol, address string) error {
	conn, err := net.DialTimeout(protocol, address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if strings.HasPrefix(protocol, "udp") {
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("ping")); err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 16)); err != nil {
			return err
		}
	}
	fmt.Println("ok")
	return nil
}
