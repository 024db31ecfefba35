// SPDX-License-Identifier: Apache-2.0

// Command worker makes the probes of one pod for cyclonus. It reads and answers as cyclonus' own worker does, and its probes by TCP and UDP
// are what `agnhost connect` does, with the same time for each and the same second try; but they are made at once and in this
// process. The original starts agnhost for each of them: 324 programs a step, which on two cores starve each other until
// connections time out that are allowed.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
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
	results := make([]*worker.Result, len(batch.Requests))
	var all sync.WaitGroup
	for i, r := range batch.Requests {
		all.Go(func() { results[i] = probe(r) })
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(results)
}

// probe tries twice, as cyclonus does.
func probe(r *worker.Request) *worker.Result {
	if r.Protocol == v1.ProtocolSCTP {
		return worker.IssueRequestWithRetries(r, 1)
	}
	err := connect(r)
	if err != nil {
		err = connect(r)
	}
	result := &worker.Result{Request: r}
	if err != nil {
		result.Error = err.Error()
	}
	return result
}

// connect opens a connection by TCP, or sends a question by UDP and waits for the answer.
func connect(r *worker.Request) error {
	if r.Protocol == v1.ProtocolTCP {
		conn, err := net.DialTimeout("tcp", r.Address(), timeout)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	conn, err := net.DialTimeout("udp", r.Address(), timeout)
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
	answer := make([]byte, 1024)
	n, err := conn.Read(answer)
	if err == nil && n == 0 {
		err = errors.New("the answer is empty")
	}
	return err
}
