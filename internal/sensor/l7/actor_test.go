// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// actorPrefix is before the name of what a copy of the test does instead of testing.
const actorPrefix = "actor:"

// actors are clients and servers in Go, run by copies of the test: the test itself is not listened to.
var actors = map[string]func(args []string) error{
	"grpc-server": grpcServer, "grpc-client": grpcClient, "https-server": httpsServer, "https-client": httpsClient,
	"kafka-broker": kafkaBroker, "kafka-client": kafkaClient,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if name, ok := strings.CutPrefix(os.Args[1], actorPrefix); ok {
			if err := actors[name](os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	os.Exit(m.Run())
}

func grpcServer(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	var options []grpc.ServerOption
	if len(args) > 1 {
		c, err := credentials.NewServerTLSFromFile(args[1], args[2])
		if err != nil {
			return err
		}
		options = append(options, grpc.Creds(c))
	}
	s := grpc.NewServer(options...)
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	return s.Serve(l)
}

func grpcClient(args []string) error {
	c := insecure.NewCredentials()
	if len(args) > 1 {
		c = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	}
	conn, err := grpc.NewClient(args[0], grpc.WithTransportCredentials(c))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)
	if _, err := client.Check(context.Background(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		return err
	}
	_, err = client.Check(context.Background(), &grpc_health_v1.HealthCheckRequest{Service: "secret-of-grpc"})
	if err == nil {
		return fmt.Errorf("a service that is not there is well")
	}
	return nil
}

func httpsServer(args []string) error {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that both ends see all of it before the answer
		fmt.Fprint(w, "hello")
	})
	return http.ListenAndServeTLS(args[0], args[1], args[2], nil)
}

func httpsClient(args []string) error {
	t := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.ForceAttemptHTTP2 = args[0] == "2"
	for range 2 {
		r, err := (&http.Client{Transport: t}).Post(args[1], "text/plain", io.LimitReader(zeros{}, 100000))
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return err
		}
		r.Body.Close()
	}
	return nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
