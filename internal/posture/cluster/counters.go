// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"fmt"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Counters are how often an API server found something to say, by policy: what a policy counted since that server started.
type Counters map[string]map[string]uint64 // policy → allow, audit, warn, deny → how often

// checks is the API server's metric, see k8s.io/apiserver/pkg/admission/plugin/policy/validating/metrics.
const checks = "apiserver_validating_admission_policy_check_total"

// Counters asks one API server for its metrics. Of several behind one address it is one of them that answers.
func (c *Client) Counters(ctx context.Context) (Counters, error) {
	raw, err := c.Discovery.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the metrics of %s: %w", c.Name, err)
	}
	return parseCounters(raw)
}

func parseCounters(text []byte) (Counters, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read the metrics of the API server: %w", err)
	}
	out := Counters{}
	for _, m := range families[checks].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		policy, action := labels["policy"], labels["enforcement_action"]
		if out[policy] == nil {
			out[policy] = map[string]uint64{}
		}
		out[policy][action] += uint64(m.GetCounter().GetValue())
	}
	return out, nil
}
