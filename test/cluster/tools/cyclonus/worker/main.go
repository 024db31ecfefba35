// SPDX-License-Identifier: Apache-2.0

// Command worker makes the probes of one pod for cyclonus. It reads and answers as cyclonus' own worker does, and its probes by TCP and UDP
// are what `agnhost connect` does, with the same time for each and the same second try; but they are made at once, in this process, and
// each name is asked for once. The original starts agnhost for each of them: 324 programs a step, which on two cores starve each other until
// connections time out that are allowed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/worker"
	v1 "k8s.io/api/core/v1"
)

// timeout is that of one try.
const timeout = time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "worker: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	jobs := flag.String("jobs", "", "a batch, as JSON")
	flag.Parse()
	var batch worker.Batch
	if err := json.Unmarshal([]byte(*jobs), &batch); err != nil {
		return fmt.Errorf("read the jobs: %w", err)
	}
	if err := batch.IsValid(); err != nil {
		return err
	}
	addresses := resolve(batch.Requests)
	results := make([]*worker.Result, len(batch.Requests))
	var all sync.WaitGroup
	for i, r := range batch.Requests {
		all.Go(func() { results[i] = probe(r, addresses[r.Host]) })
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(results)
}

// answer is what is known of a name.
type answer struct {
	address string
	err     error
}

// resolve asks for each name once: questions for each probe at once are more than a DNS server's socket holds.
func resolve(requests []*worker.Request) map[string]*answer {
	answers := map[string]*answer{}
	var all sync.WaitGroup
	for _, r := range requests {
		if answers[r.Host] != nil {
			continue
		}
		a := &answer{}
		answers[r.Host] = a
		all.Go(func() {
			a.err = twice(func() error {
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				defer cancel()
				found, err := net.DefaultResolver.LookupHost(ctx, r.Host)
				if err == nil {
					a.address = found[0]
				}
				return err
			})
		})
	}
	all.Wait()
	return answers
}

// twice tries again what failed, as cyclonus does.
func twice(do func() error) error {
	if do() == nil {
		return nil
	}
	return do()
}

func probe(r *worker.Request, to *answer) *worker.Result {
	if r.Protocol == v1.ProtocolSCTP {
		return worker.IssueRequestWithRetries(r, 1)
	}
	err := to.err
	if err == nil {
		err = twice(func() error { return connect(r.Protocol, net.JoinHostPort(to.address, strconv.Itoa(r.Port))) })
	}
	result := &worker.Result{Request: r}
	if err != nil {
		result.Error = err.Error()
	}
	return result
}

// connect opens a connection by TCP, or sends a question by UDP and waits for the answer.
func connect(protocol v1.Protocol, address string) error {
	if protocol == v1.ProtocolTCP {
		conn, err := net.DialTimeout("tcp", address, timeout)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	conn, err := net.DialTimeout("udp", address, timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("hostname\n")); err != nil {
		return err
	}
	reply := make([]byte, 1024)
	n, err := conn.Read(reply)
	if err == nil && n == 0 {
		err = errors.New("the answer is empty")
	}
	return err
}
