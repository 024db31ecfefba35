// SPDX-License-Identifier: Apache-2.0

// Package report writes what a scan found in the formats that other tools read. In: a scan.Report. Out: SARIF 2.1.0 for code
// review, JUnit XML for CI, one self-contained HTML page for people, JSON for everything else.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// The parts of SARIF that are written. The format: OASIS SARIF 2.1.0 (errata 01).
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		ColumnKind  string            `json:"columnKind"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string          `json:"id"`
		Name             string          `json:"name"`
		ShortDescription sarifText       `json:"shortDescription"`
		FullDescription  sarifText       `json:"fullDescription"`
		Help             sarifText       `json:"help"`
		Default          sarifLevel      `json:"defaultConfiguration"`
		Properties       sarifProperties `json:"properties"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifProperties struct {
		Tags             []string `json:"tags,omitempty"`
		SecuritySeverity string   `json:"security-severity"`
	}
	sarifInvocation struct {
		ExecutionSuccessful bool                `json:"executionSuccessful"`
		Notifications       []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifResult struct {
		RuleID              string            `json:"ruleId"`
		RuleIndex           int               `json:"ruleIndex"`
		Level               string            `json:"level"`
		Message             sarifText         `json:"message"`
		Locations           []sarifLocation   `json:"locations"`
		PartialFingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
)

// SARIF writes a log with one run. version is vigie's own.
func SARIF(w io.Writer, r *scan.Report, version string) error {
	run := sarifRun{ColumnKind: "unicodeCodePoints", Results: []sarifResult{},
		Tool:        sarifTool{sarifDriver{Name: "vigie", Version: version, InformationURI: "https://github.com/vigie-io/vigie", Rules: []sarifRule{}}},
		Invocations: []sarifInvocation{{ExecutionSuccessful: !r.Incomplete()}}}
	index := map[string]int{}
	for i, c := range r.Controls {
		index[c.ID] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule(c))
	}
	for _, p := range r.Problems {
		level := "error"
		if p.Note {
			level = "note"
		}
		text := p.Message
		if p.Control != "" {
			text = p.Control + ": " + text
		}
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications,
			sarifNotification{Level: level, Message: sarifText{text}, Locations: []sarifLocation{{Physical: physical(p.File, p.Line, p.Column)}}})
	}
	for _, f := range r.Findings {
		result := sarifResult{RuleID: f.Control, RuleIndex: index[f.Control], Level: level(f.Severity), Message: sarifText{f.Message + " in " + f.Object.String()},
			PartialFingerprints: map[string]string{"vigie/v1": f.Fingerprint},
			Locations:           []sarifLocation{{Physical: physical(f.File, f.Line, f.Column), Logical: []sarifLogical{{f.Object.String() + " " + f.Path, "object"}}}}}
		run.Results = append(run.Results, result)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	log := sarifLog{Schema: "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}}
	if err := enc.Encode(log); err != nil {
		return fmt.Errorf("write sarif: %w", err)
	}
	return nil
}

func rule(c *control.Control) sarifRule {
	tags := []string{"kubernetes"}
	for _, name := range control.FrameworkNames() {
		for _, paragraph := range c.Frameworks[name] {
			tags = append(tags, name+"/"+paragraph)
		}
	}
	return sarifRule{ID: c.ID, Name: c.ID, ShortDescription: sarifText{c.Title}, FullDescription: sarifText{c.Why}, Help: sarifText{c.Remediation},
		Default: sarifLevel{level(c.Severity)}, Properties: sarifProperties{Tags: tags, SecuritySeverity: score(c.Severity)}}
}

func level(s control.Severity) string {
	switch s {
	case control.Critical, control.High:
		return "error"
	case control.Medium:
		return "warning"
	}
	return "note"
}

// score is what code review tools sort by: from 0 to 10.
func score(s control.Severity) string {
	switch s {
	case control.Critical:
		return "9.5"
	case control.High:
		return "8.0"
	case control.Medium:
		return "5.5"
	}
	return "2.0"
}

// physical is a place in a file; a relative path stays one, so that it is found in a checkout.
func physical(file string, line, column int) sarifPhysical {
	u := url.URL{Path: filepath.ToSlash(file)}
	if strings.HasPrefix(u.Path, "/") {
		u.Scheme = "file"
	}
	return sarifPhysical{Artifact: sarifArtifact{u.String()}, Region: sarifRegion{StartLine: max(line, 1), StartColumn: max(column, 1)}}
}
