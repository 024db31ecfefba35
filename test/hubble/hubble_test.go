// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"bufio"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

const (
	toWorld  = "backup.service:50000 (ID:1834231) -> 93.184.216.34:443 (world) to-network FORWARDED (TCP Flags: SYN, ACK, FIN; curl[900] to www.example.org; 120 B sent, 5.1 kB received)"
	denied   = "backup.service:50003 (ID:1834231) -> 198.51.100.7:22 (world) Policy denied DROPPED (TCP Flags: SYN; curl[900]; policy backups, egress)"
	audited  = "nginx.service:50009 (ID:6543813) -> 198.51.100.9:80 (world) policy-verdict:none EGRESS AUDITED"
	udp      = "shop/api-7d4b9:50002"
	question = "dns-request vigie FORWARDED (DNS Query www.example.org. A)"
	asked    = "203.0.113.9:40000 (world) -> nginx.service:80 (ID:6543813) http-request FORWARDED (HTTP/1.1 GET http://shop.example/orders/{id})"
	answered = "203.0.113.9:40000 (world) <- nginx.service:80 (ID:6543813) http-response FORWARDED (HTTP/1.1 503 12ms (GET http://shop.example/orders/{id}))"
	lost     = "EVENTS LOST: PERF_EVENT_RING_BUFFER CPU(0) 3"
)

func TestHubbleObserve(t *testing.T) {
	server := startAgent(t)
	for _, c := range []struct {
		args string
		want []string // these lines, and what was lost
	}{
		{"", []string{toWorld, denied, audited, udp, question, "dns-response", asked, answered}},
		{"--last 1", []string{answered}},
		{"--since 1h --protocol tcp --type trace", []string{toWorld}},
		{"--until 2s --since 1h --not --protocol http --not --protocol dns", []string{toWorld, denied, audited, udp}},
		{"--pod backup.service --protocol tcp", []string{toWorld, denied}},
		{"--namespace shop", []string{udp}},
		{"--to-pod nginx", []string{asked}},
		{"--verdict DROPPED --verdict AUDIT", []string{denied, audited}},
		{"--verdict AUDIT --print-policy-names", []string{audited + " BY web (WorkloadPolicy)"}},
		{"--protocol udp --not --protocol dns", []string{udp}},
		{"--http-status 5+", []string{answered}},
		{"--http-method get --http-path ^/orders --http-url ^http://shop", []string{asked, answered}},
		{"--to-fqdn *.example.org", []string{toWorld}},
		{"--label vigie:slice=system.slice --tcp-flags syn --to-identity world --verdict FORWARDED", []string{toWorld}},
		{"--workload unit/nginx.service --drop-reason-desc POLICY_DENIED", nil},
		{"--from-ip 192.0.2.0/24 --to-port 22", []string{denied}},
	} {
		got, err := run(t, server, append([]string{"observe"}, strings.Fields(c.args)...)...)
		if err != nil {
			t.Errorf("observe %s: %v\n%s", c.args, err, got)
		}
		wants(t, "observe "+c.args, got, append(c.want, lost)...)
		if n := strings.Count(got, "\n"); n != len(c.want)+1 {
			t.Errorf("observe %s: %s\n%s", c.args, count(got), got)
		}
	}
}

func TestHubblesOtherOutputs(t *testing.T) {
	server := startAgent(t)
	for args, want := range map[string][]string{
		"observe -o table --last 2":          {"TIMESTAMP", "SOURCE", "203.0.113.9:40000", "nginx.service:80", "http-request", "HTTP/1.1 503 12ms"},
		"observe -o dict --verdict DROPPED":  {"     SOURCE: backup.service:50003", "DESTINATION: 198.51.100.7:22", "    VERDICT: DROPPED"},
		"status":                             {"Healthcheck (via " + server + "): Ok", "Current/Max Flows: 6/"},
		"list nodes":                         {"node1", "Connected"},
		"list nodes -o wide":                 {"hubble.sock", "vigie v1.2.3"},
		"list namespaces":                    {"NAMESPACE", "shop"},
		"observe agent-events":               {"AGENT_STARTED"},
		"observe --print-node-name --last 1": {"[node1]"},
		"reflect":                            {`"name":"Observer"`, "observer.proto"},
	} {
		got, err := run(t, server, strings.Fields(args)...)
		if err != nil {
			t.Errorf("%s: %v", args, err)
		}
		wants(t, args, got, want...)
	}
	for args, want := range map[string]string{
		"observe --http-path (":               "whitelist[0].http_path[0]: error parsing regexp",
		"observe --ip 10.0.0.0/33":            "whitelist[0].source_ip[0]",
		"observe --cel-expression _flow.none": "whitelist[0].experimental.cel_expression[0]",
		"observe debug-events":                "Unimplemented",
	} {
		got, err := run(t, server, strings.Fields(args)...)
		if err == nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v, %s; want %s", args, err, got, want)
		}
	}
}

// What `-o json` prints has the process, although hubble does not know vigie's types.
func TestHubblePrintsTheProcess(t *testing.T) {
	server := startAgent(t)
	for _, format := range []string{"json", "jsonpb"} {
		got, err := run(t, server, "observe", "-o", format, "--verdict", "DROPPED")
		if err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		first, _, _ := strings.Cut(got, "\n")
		var m struct {
			Flow struct {
				Extensions struct {
					Value struct {
						Process struct{ Binary string }
						Flow    struct{ Close string }
					}
				}
			}
		}
		if err := json.Unmarshal([]byte(first), &m); err != nil {
			t.Fatalf("%v: %s", err, first)
		}
		if v := m.Flow.Extensions.Value; v.Process.Binary != "/usr/bin/curl" || v.Flow.Close != "denied" {
			t.Errorf("-o %s: %s", format, first)
		}
	}
}

func TestHubbleFollows(t *testing.T) {
	server := startAgent(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, client(t, "hubble"), "observe", "--follow", "--last", "2", "--server", server)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{asked, answered, lost} {
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Errorf("got %q, want %q", lines.Text(), want)
		}
	}
	cancel()
	_ = cmd.Wait() // it was killed
}

// A relay finds the agent by its peer service and answers as it does.
func TestHubbleRelay(t *testing.T) {
	relay := startRelay(t, startAgent(t))
	await(t, "the relay to be connected", func() bool {
		out, err := run(t, relay, "status")
		return err == nil && strings.Contains(out, "Connected Nodes: 1/1")
	})
	for args, want := range map[string][]string{
		"observe --verdict DROPPED": {denied},
		"list nodes":                {"node1", "Connected"},
		"list namespaces":           {"shop"},
	} {
		got, err := run(t, relay, strings.Fields(args)...)
		if err != nil {
			t.Errorf("%s: %v", args, err)
		}
		wants(t, args, got, want...)
	}
}

// vigie's own relay has the flows of all nodes at one address, says which nodes there are, and which are away.
func TestHubbleThroughVigiesRelay(t *testing.T) {
	one, two := freeAddress(t), freeAddress(t)
	startNode(t, "node1", one)
	startNode(t, "node2", two)
	relay := startVigieRelay(t, one, two, "dead=127.0.0.1:1")
	await(t, "the relay to be connected", func() bool {
		out, err := run(t, relay, "status")
		return err == nil && strings.Contains(out, "Connected Nodes: 2/3") && strings.Contains(out, "- dead")
	})
	for _, c := range []struct {
		args string
		want []string
		not  string
	}{
		{"observe --verdict DROPPED --print-node-name", []string{"[node1]: " + denied, "[node2]: " + denied}, toWorld},
		{"observe --last 2 --protocol http --print-node-name", []string{"[node2]: " + asked, "[node2]: " + answered}, "[node1]: " + asked},
		{"observe --first 1 --protocol tcp", []string{toWorld}, denied},
		{"observe --node-name node2 --verdict AUDIT --print-node-name", []string{"[node2]: " + audited}, "[node1]"},
		{"observe --since 1h --protocol udp", []string{"dead", udp}, toWorld},
		{"list nodes", []string{"node1", "node2", "Connected", "dead", "Unavailable"}, ""},
		{"list namespaces", []string{"shop"}, ""},
	} {
		got, err := run(t, relay, strings.Fields(c.args)...)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
		}
		wants(t, c.args, got, c.want...)
		if c.not != "" && strings.Contains(got, c.not) {
			t.Errorf("%s says what was not asked for:\n%s", c.args, got)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, client(t, "hubble"), "observe", "--follow", "--last", "1", "-o", "jsonpb", "--server", relay)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var got strings.Builder
	for !strings.Contains(got.String(), `"node_status"`) || !strings.Contains(got.String(), `"lost_events"`) || !strings.Contains(got.String(), `"flow"`) {
		if !lines.Scan() {
			t.Fatalf("the stream ended after\n%s", got.String())
		}
		got.WriteString(lines.Text() + "\n")
	}
	if !strings.Contains(got.String(), `"state_change":"NODE_UNAVAILABLE","node_names":["dead"]`) {
		t.Errorf("a node that is away is not told:\n%s", got.String())
	}
	cancel()
	_ = cmd.Wait() // it was killed
}
