// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/cluster"
)

// RBAC is the least that the controller may, as a manifest. admission adds what it takes to compile exceptions anew.
func RBAC(w cluster.Wanted, name, namespace string, admission bool) string {
	scan := w.RBAC(name, namespace)
	// What a scan lists, the controller watches.
	base := strings.ReplaceAll(scan, "verbs: [list]", "verbs: [list, watch]")
	more := `- apiGroups: ["openreports.io"]
  resources: [reports, clusterreports]
  verbs: [get, list, create, patch, delete]
- apiGroups: ["wgpolicyk8s.io"]
  resources: [policyreports, clusterpolicyreports]
  verbs: [get, list, create, patch, delete]
- apiGroups: ["vigie.io"]
  resources: [policyexceptions/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [` + cluster.SettingsName + `]
  verbs: [get]
`
	if admission {
		more += `- apiGroups: ["admissionregistration.k8s.io"]
  resources: [validatingadmissionpolicies, validatingadmissionpolicybindings, mutatingadmissionpolicies, mutatingadmissionpolicybindings]
  verbs: [get, list, create, patch, delete]
`
	}
	before, after, _ := strings.Cut(base, "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n")
	return fmt.Sprintf("%s%s---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n%s", before, more, after)
}
