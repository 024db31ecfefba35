// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os/exec"
	"strings"
	"testing"

	tg "github.com/cilium/tetragon/api/v1/tetragon"

	"github.com/vigie-io/vigie/internal/testkit"
)

const tracingPolicy = `apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: e2e}
spec:
  kprobes:
  - call: sys_chdir
    args: [{index: 0, type: string}]
    selectors:
    - matchArgs: [{index: 0, operator: Prefix, values: [DIR]}]
      matchActions: [{action: Sigkill}]
`

// TestTracingPolicyOfAClient: a policy comes by Tetragon's API, acts, and its event goes to Tetragon's client with the process.
func TestTracingPolicyOfAClient(t *testing.T) {
	testkit.RequireBPF(t)
	dir := t.TempDir()
	policy := strings.Replace(tracingPolicy, "DIR", dir, 1)
	enter := func() error { return exec.Command("/bin/sh", "-c", "cd "+dir).Run() }
	a := startAgent(t, "--tetragon-api", "127.0.0.1:0")
	socket, _ := a.tetragonClients()
	stream := tetragonEvents(t, socket, &tg.GetEventsRequest{AllowList: []*tg.Filter{{EventSet: []tg.EventType{tg.EventType_PROCESS_KPROBE}}}})
	if _, err := socket.AddTracingPolicy(t.Context(), &tg.AddTracingPolicyRequest{Yaml: policy}); err != nil {
		t.Fatal(err)
	}
	if _, err := socket.AddTracingPolicy(t.Context(), &tg.AddTracingPolicyRequest{Yaml: strings.Replace(policy, "Prefix", "Prefixx", 1)}); err == nil || !strings.Contains(err.Error(), "matchArgs[0].operator") {
		t.Errorf("a bad policy was answered with %v", err)
	}
	if err := enter(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the shell ended with %v, want SIGKILL", err)
	}
	ev, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	k := ev.GetProcessKprobe()
	if k.GetPolicyName() != "e2e" || k.GetAction() != tg.KprobeAction_KPROBE_ACTION_SIGKILL || k.GetArgs()[0].GetStringArg() != dir ||
		!strings.HasSuffix(k.GetFunctionName(), "sys_chdir") || !strings.Contains(k.GetProcess().GetBinary(), "sh") {
		t.Errorf("event is %v", ev)
	}
	list, err := socket.ListTracingPolicies(t.Context(), &tg.ListTracingPoliciesRequest{})
	if err != nil || len(list.GetPolicies()) != 1 || list.GetPolicies()[0].GetMode() != tg.TracingPolicyMode_TP_MODE_ENFORCE {
		t.Errorf("policies are %v, error %v", list, err)
	}
	if _, err := socket.DeleteTracingPolicy(t.Context(), &tg.DeleteTracingPolicyRequest{Name: "e2e"}); err != nil {
		t.Error(err)
	}
	if err := enter(); err != nil {
		t.Errorf("after the policy was deleted the shell ended with %v", err)
	}
}
