// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
	networkingv1 "k8s.io/api/networking/v1"

	v1 "k8s.io/api/core/v1"
)

// What test/conformance reads of cyclonus' model: the policies after each step of each case, and what it says of each probe.
type (
	modelCase struct {
		Name  string      `json:"name"`
		Steps []modelStep `json:"steps"`
	}
	modelStep struct {
		Policies []json.RawMessage `json:"policies"`
		Probes   []modelProbe      `json:"probes"`
	}
	modelProbe struct {
		From     modelPod `json:"from"`
		To       modelPod `json:"to"`
		Protocol string   `json:"protocol"`
		Port     int      `json:"port"`
		Allowed  bool     `json:"allowed"`
	}
	modelPod struct {
		Name            string            `json:"name"` // with its namespace
		Namespace       string            `json:"namespace"`
		Labels          map[string]string `json:"labels"`
		NamespaceLabels map[string]string `json:"namespaceLabels"`
		Address         string            `json:"address"`
	}
)

// model writes what cyclonus expects, without a cluster: its own stand-in for one takes the steps.
func model(file string) error {
	namespaces, pods, ports := []string{"x", "y", "z"}, []string{"a", "b", "c"}, []int{80, 81}
	cluster := kube.NewMockKubernetes(1)
	resources, err := probe.NewDefaultResources(cluster, namespaces, pods, ports, []v1.Protocol{v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP}, nil, 10, false, "")
	if err != nil {
		return err
	}
	zc, err := resources.GetPod("z", "c")
	if err != nil {
		return err
	}
	interpreter := connectivity.NewInterpreter(cluster, resources, &connectivity.InterpreterConfig{ResetClusterBeforeTestCase: true})
	var cases []modelCase
	for _, c := range numbered(generator.NewTestCaseGenerator(true, zc.IP, namespaces, nil, nil).GenerateTestCases()) {
		result := interpreter.ExecuteTestCase(c.TestCase)
		if result.Err != nil {
			return fmt.Errorf("case %s: %w", c.name, result.Err)
		}
		out := modelCase{Name: c.name}
		for _, step := range result.Steps {
			s, err := expected(step)
			if err != nil {
				return fmt.Errorf("case %s: %w", c.name, err)
			}
			out.Steps = append(out.Steps, s)
		}
		cases = append(cases, out)
	}
	data, err := json.Marshal(cases)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

func expected(step *connectivity.StepResult) (modelStep, error) {
	var s modelStep
	for _, p := range step.KubePolicies {
		p = p.DeepCopy()
		p.APIVersion, p.Kind = networkingv1.SchemeGroupVersion.String(), "NetworkPolicy"
		data, err := json.Marshal(p)
		if err != nil {
			return modelStep{}, err
		}
		s.Policies = append(s.Policies, data)
	}
	table := step.SimulatedProbe
	for _, key := range table.Wrapped.Keys() {
		for _, r := range table.Get(key.From, key.To).JobResults {
			switch r.Combined {
			case probe.ConnectivityAllowed, probe.ConnectivityBlocked:
			default: // the probe has no such port
				continue
			}
			j := r.Job
			s.Probes = append(s.Probes, modelProbe{
				From:     modelPod{j.FromKey, j.FromNamespace, j.FromPodLabels, j.FromNamespaceLabels, j.FromIP},
				To:       modelPod{j.ToKey, j.ToNamespace, j.ToPodLabels, j.ToNamespaceLabels, j.ToIP},
				Protocol: string(j.Protocol), Port: j.ResolvedPort, Allowed: r.Combined == probe.ConnectivityAllowed})
		}
	}
	return s, nil
}
