// SPDX-License-Identifier: Apache-2.0

// Command e2e runs the specs of Kubernetes' own end-to-end tests that are about NetworkPolicy, as its e2e.test does: the same
// packages, framework and flags, but this one room of the tests alone, because all of them take a quarter of an hour to build. In: a
// cluster, by --kubeconfig. Out: a line of JSON a spec in --results (see test/conformance), and Ginkgo's report on standard output.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"k8s.io/component-base/logs"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"

	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/e2e/network/netpol"
)

// record is what test/conformance reads.
type record struct {
	Name    string  `json:"name"`
	Outcome string  `json:"outcome"` // passed, failed or skipped
	Reason  string  `json:"reason,omitempty"`
	Seconds float64 `json:"seconds"`
}

// description is the suite's name.
const description = "NetworkPolicy specs of Kubernetes"

// recordTo writes what becomes of each spec. Specs that are not asked for are reported too, as skipped before they began; they have no
// place in the results.
func recordTo(results io.Writer) {
	ginkgo.ReportAfterEach(func(spec ginkgo.SpecReport) {
		if spec.State == types.SpecStateSkipped && spec.Failure.Message == "" {
			return
		}
		r := record{Name: spec.FullText(), Outcome: "failed", Reason: spec.Failure.Message, Seconds: spec.RunTime.Seconds()}
		switch spec.State {
		case types.SpecStatePassed:
			r.Outcome = "passed"
		case types.SpecStateSkipped:
			r.Outcome = "skipped"
		}
		line, err := json.Marshal(r)
		if err == nil {
			_, err = results.Write(append(line, '\n'))
		}
		if err != nil {
			ginkgo.AbortSuite(fmt.Sprintf("write the results: %v", err))
		}
	})
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	file := flag.String("results", "", "file to which a line is added for each spec")
	done := flag.String("done", "", "file with the names of specs to leave out, one a line")
	focus := flag.String("focus", "", "only specs whose name this expression matches")
	list := flag.Bool("list", false, "print the names of the specs, and nothing else")
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	wanted, err := regexp.Compile(*focus)
	if err != nil {
		return fmt.Errorf("--focus: %w", err)
	}
	var names []string
	for _, spec := range ginkgo.PreviewSpecs(description).SpecReports {
		if spec.LeafNodeType == types.NodeTypeIt {
			names = append(names, spec.FullText())
		}
	}
	if *list {
		fmt.Println(strings.Join(names, "\n"))
		return nil
	}
	if *file == "" {
		return errors.New("give --results FILE")
	}
	passed, err := lines(*done)
	if err != nil {
		return err
	}
	results, err := os.OpenFile(*file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer results.Close()
	framework.AfterReadingAllFlags(&framework.TestContext)
	recordTo(results) // now: the framework has looked at all specs by a dry run, in which they pass
	logs.InitLogs()
	defer logs.FlushLogs()
	gomega.RegisterFailHandler(framework.Fail)
	suite, reporter := framework.CreateGinkgoConfig()
	if suite.DryRun {
		return errors.New("in a dry run specs pass, and would be written as passed: --list names them")
	}
	suite.RandomizeAllSpecs = false
	// With neither focus nor skip the framework leaves out whatever needs a feature.
	suite.SkipStrings = slices.DeleteFunc(suite.SkipStrings, func(s string) bool { return s == `\[Flaky\]|\[Feature:.+\]` })
	for _, name := range names {
		if slices.Contains(passed, name) || !wanted.MatchString(name) { // Ginkgo matches names with the suite's before them
			suite.SkipStrings = append(suite.SkipStrings, "^"+regexp.QuoteMeta(description+" "+name)+"$")
		}
	}
	var t outcome // of the suite; each spec's stands in the results
	ginkgo.RunSpecs(&t, description, suite, reporter)
	return nil
}

// outcome stands for the testing.T that Ginkgo tells of a failure.
type outcome struct{ failed bool }

func (o *outcome) Fail() { o.failed = true }

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
