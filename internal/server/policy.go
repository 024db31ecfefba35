// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// Refusal says what kind of reason there is not to do what was asked.
type Refusal int

// The kinds of refusals, with the code that a client gets.
const (
	Invalid      Refusal = iota // invalid_argument: the request does not make sense
	NotFound                    // not_found
	Precondition                // failed_precondition: it makes sense, and not here or not now
	NotReady                    // unavailable: the agent starts or stops
)

// RefusedError is a request that the backend refuses. Its message says what to do.
type RefusedError struct {
	Kind Refusal
	Err  error
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap implements errors.Unwrap.
func (e *RefusedError) Unwrap() error { return e.Err }

// Refuse gives err its kind. nil stays nil.
func Refuse(kind Refusal, err error) error {
	if err == nil {
		return nil
	}
	return &RefusedError{Kind: kind, Err: err}
}

// PolicyText is policies as somebody gave them.
type PolicyText struct {
	YAML   string // one or more documents
	Source string // what to call them in errors
	DryRun bool   // check only
}

// Policy is a policy and how it is doing; vigie.v1.Policy documents the fields.
type Policy struct {
	Name, Kind, Mode string
	Source, YAML     string
	State, Message   string
	Selector         string
	Applied          time.Time
	Processes        uint32
	Workloads        []string
	Rules            []PolicyRule
}

// The states of a policy.
const (
	PolicyInForce  = "in force"
	PolicyDegraded = "degraded"
	PolicyFailed   = "failed"
	PolicyDisabled = "disabled"
)

// PolicyRule is one rule of a policy.
type PolicyRule struct {
	Field, Text string
	Rung        string
	Guarantee   model.Guarantee
	Hits        uint64
	Limits      []string
}

// SimulationQuery says what to judge by which policies.
type SimulationQuery struct {
	PolicyText
	Since, Until time.Time // zero for no bound
}

// Simulation is what policies would have denied; vigie.v1.SimulatePoliciesResponse documents the fields.
type Simulation struct {
	Denials       []SimulatedDenial
	Judged        uint64
	CompleteSince time.Time
	Limits        []string
}

// SimulatedDenial is a group of events that a rule would have denied.
type SimulatedDenial struct {
	Policy, Rule, Workload, Binary string
	Operation                      model.Operation
	Object                         string
	Count                          uint64
	Example                        *model.Event
}

// LearnQuery says what to learn a policy from.
type LearnQuery struct {
	Workload string
	Since    time.Time // zero: all that is remembered
	Name     string    // of the policy; made of the workload's when empty
}

// LearnedPolicy is a policy and what it was learned from.
type LearnedPolicy struct {
	YAML   string
	Events uint64
	Notes  []string
}

// ExplainedEvent is an event with what the policies say of it.
type ExplainedEvent struct {
	Event        *model.Event
	Explanations []Explanation
}

// Explanation is what one policy says of an event; vigie.v1.Explanation documents the fields.
type Explanation struct {
	Policy, Rule, Text string
	Action             string
	Rung               string
	Guarantee          model.Guarantee
	Reason             string
}
