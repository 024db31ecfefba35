// SPDX-License-Identifier: Apache-2.0

package show

import vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"

// Lost is what an agent lost since it started, for everybody; and what clients missed that read too
// slowly, each for itself alone.
func Lost(s *vigiev1.Status) (agent, slowClients uint64) {
	for _, l := range s.GetLosses() {
		if l.GetStage() == "subscriber" && l.GetReason() == "client" {
			slowClients += l.GetCount()
		} else {
			agent += l.GetCount()
		}
	}
	return agent, slowClients
}
