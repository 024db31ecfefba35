// SPDX-License-Identifier: Apache-2.0

package tracing

// Mode is the mode in which a policy begins, before it is in force.
func (p *Policy) Mode() Mode {
	requests, _ := plan(p) // what is wrong with it Check tells
	return modeOf(p, enforces(requests), "")
}
