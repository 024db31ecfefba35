// SPDX-License-Identifier: Apache-2.0

// Command cyclonus runs the network-policy cases that cyclonus generates, with its own probes, model and comparison, as its command
// `generate` does. It differs where a run on a small machine needs it: the probes of a pod go out in one batch, which that command has no flag
// for, through the program worker beside this one; each result is written as soon as it is known; and cases can be left out, so
// that what was interrupted goes on. In: a cluster by KUBECONFIG. Out: a line of JSON a case in -results (see test/conformance), and
// cyclonus' own tables on standard output.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// record is what test/conformance reads.
type record struct {
	Name    string  `json:"name"`
	Outcome string  `json:"outcome"` // passed or failed
	Reason  string  `json:"reason,omitempty"`
	Seconds float64 `json:"seconds"`
	// Probes are those of each step's last try: right and wrong ones, and those of a pod to itself, which do not count.
	Right   int `json:"right"`
	Wrong   int `json:"wrong"`
	Ignored int `json:"ignored"`
	// Retried are steps that were right only when they were tried again, FirstTry is what was wrong of them before.
	Retried  int      `json:"retried,omitempty"`
	FirstTry string   `json:"firstTry,omitempty"`
	Tags     []string `json:"tags"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "cyclonus: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	fs := flag.NewFlagSet("cyclonus", flag.ContinueOnError)
	results := fs.String("results", "", "file to which a line is added for each case")
	done := fs.String("done", "", "file with the names of cases to leave out, one a line")
	focus := fs.String("focus", "", "only cases whose name this expression matches")
	list := fs.Bool("list", false, "print the names of the cases, and nothing else")
	expect := fs.String("model", "", "without a cluster: write what cyclonus expects of each step and probe to this file")
	protocols := fs.String("protocols", "TCP,UDP", "that servers speak and probes are made with")
	wait := fs.Int("wait", 1, "seconds from a change to the probes")
	destination := fs.String("destination", generator.ProbeModeServiceName, "of probes: service-name, which needs DNS, service-ip or pod-ip")
	batch := fs.Bool("batch", true, "probe through the worker: one exec a pod, not one a probe")
	timeout := fs.Int("timeout", 2, "seconds of a probe without -batch; the worker has 1")
	if err := fs.Parse(args); err != nil {
		return err
	}
	wanted, err := regexp.Compile(*focus)
	if err != nil {
		return fmt.Errorf("-focus: %w", err)
	}
	mode, err := generator.ParseProbeMode(*destination)
	if err != nil {
		return fmt.Errorf("-destination: %w", err)
	}
	namespaces, pods := []string{"x", "y", "z"}, []string{"a", "b", "c"}
	if *list {
		// The address stands in ipBlocks alone, not in names.
		for _, c := range numbered(generator.NewTestCaseGenerator(true, "192.0.2.1", namespaces, nil, nil).GenerateTestCases()) {
			fmt.Println(c.name)
		}
		return nil
	}
	if *expect != "" {
		return model(*expect)
	}
	if *results == "" {
		return errors.New("give -results FILE")
	}
	out, err := os.OpenFile(*results, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	passed, err := lines(*done)
	if err != nil {
		return err
	}
	cluster, err := connect()
	if err != nil {
		return err
	}
	var served []v1.Protocol
	for p := range strings.SplitSeq(*protocols, ",") {
		served = append(served, v1.Protocol(p))
	}
	resources, err := probe.NewDefaultResources(cluster, namespaces, pods, []int{80, 81}, served, nil, 300, *batch, "registry.k8s.io")
	if err != nil {
		return err
	}
	zc, err := resources.GetPod("z", "c")
	if err != nil {
		return err
	}
	interpreter := connectivity.NewInterpreter(cluster, resources, &connectivity.InterpreterConfig{ResetClusterBeforeTestCase: true,
		KubeProbeRetries: 1, PerturbationWaitSeconds: *wait, VerifyClusterStateBeforeTestCase: true, BatchJobs: *batch,
		IgnoreLoopback: true, JobTimeoutSeconds: *timeout})
	printer := &connectivity.Printer{IgnoreLoopback: true}
	// No tag is left out: the full set.
	for _, c := range numbered(generator.NewTestCaseGenerator(true, zc.IP, namespaces, nil, nil).GenerateTestCases()) {
		if slices.Contains(passed, c.name) || !wanted.MatchString(c.name) {
			continue
		}
		for _, step := range c.Steps {
			step.Probe.Mode = mode
		}
		begun := time.Now()
		fmt.Printf("case %s\n", c.name)
		result := interpreter.ExecuteTestCase(c.TestCase)
		printer.PrintTestCaseResult(result)
		r := judge(result)
		r.Name, r.Tags, r.Seconds = c.name, c.Tags.Keys(), time.Since(begun).Seconds()
		slices.Sort(r.Tags)
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
		// What an action could not do may have left another cluster than the next case expects.
		if result.Err != nil {
			return fmt.Errorf("case %s: %w", c.name, result.Err)
		}
	}
	return nil
}

// connect is cyclonus' way to a cluster, without client-go's five requests a second.
func connect() (*kube.Kubernetes, error) {
	cluster, err := kube.NewKubernetesForContext("")
	if err != nil {
		return nil, err
	}
	cluster.RestConfig.QPS, cluster.RestConfig.Burst = 200, 400
	cluster.ClientSet, err = kubernetes.NewForConfig(cluster.RestConfig)
	return cluster, err
}

// numberedCase is a case with a name that no other has: some descriptions stand twice.
type numberedCase struct {
	*generator.TestCase
	name string
}

func numbered(cases []*generator.TestCase) []numberedCase {
	list := make([]numberedCase, len(cases))
	for i, c := range cases {
		list[i] = numberedCase{c, fmt.Sprintf("%03d %s", i+1, strings.Join(strings.Fields(c.Description), " "))}
	}
	return list
}

// judge counts probes as cyclonus compares them, pair of pods by pair, but each probe by itself.
func judge(result *connectivity.Result) record {
	r := record{Outcome: "passed"}
	if result.Err != nil {
		r.Outcome, r.Reason = "failed", result.Err.Error()
		return r
	}
	var wrong, first []string
	for i, step := range result.Steps {
		if len(step.KubeProbes) > 1 && step.Passed(true) {
			r.Retried++
			_, _, w := differences(step.Comparison(0), i+1)
			first = append(first, w...)
		}
		right, ignored, w := differences(step.LastComparison(), i+1)
		r.Right, r.Wrong, r.Ignored = r.Right+right, r.Wrong+len(w), r.Ignored+ignored
		wrong = append(wrong, w...)
	}
	r.FirstTry = some(first)
	if !result.Passed(true) {
		r.Outcome, r.Reason = "failed", some(wrong)
	}
	return r
}

// differences counts the probes that are as expected, and those of a pod to itself; it says which are otherwise.
func differences(table *connectivity.ComparisonTable, step int) (right, ignored int, wrong []string) {
	for _, key := range table.Wrapped.Keys() {
		item := table.Get(key.From, key.To)
		for port, got := range item.Kube.JobResults {
			want := item.Simulated.JobResults[port]
			switch {
			case key.From == key.To:
				ignored++
			case want != nil && want.Combined == got.Combined:
				right++
			default:
				wrong = append(wrong, fmt.Sprintf("step %d: %s to %s, %s: %s", step, key.From, key.To, port, got.Combined))
			}
		}
	}
	slices.Sort(wrong)
	return right, ignored, wrong
}

// some are the first of a list, in one line.
func some(list []string) string {
	const most = 12
	if len(list) <= most {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:most], "; "), len(list)-most)
}

// lines reads a file of names; no file has none.
func lines(name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		list = append(list, s.Text())
	}
	return list, s.Err()
}
