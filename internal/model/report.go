// SPDX-License-Identifier: Apache-2.0

package model

// ReportForm is a kind of reports that a cluster may have, for results about its objects: of an object in a namespace, and, with "cluster"
// before its names, of one in none.
type ReportForm struct {
	Group, Version string
	Resource       string // "reports", and "clusterreports"
	Kind           string // "Report", and "ClusterReport"
	Source         bool   // it has a field for who made it, beside that of each result
}

// ReportForms are those in use, the newer first: https://openreports.io and the one of the working group that it comes from. Both have
// the same fields but for Source.
func ReportForms() []ReportForm {
	return []ReportForm{
		{Group: "openreports.io", Version: "v1alpha1", Resource: "reports", Kind: "Report", Source: true},
		{Group: "wgpolicyk8s.io", Version: "v1alpha2", Resource: "policyreports", Kind: "PolicyReport"},
	}
}
