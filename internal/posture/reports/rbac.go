// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/cluster"
)

// LeaseName is the Lease that the leader of several controllers holds.
const LeaseName = "vigie-admit"

// RBAC is the least that the controller may, as a manifest. admission adds what it takes to compile exceptions anew; leases is the
// namespace of the Lease by which it is one of several, and empty when it is alone.
func RBAC(w cluster.Wanted, name, namespace string, admission bool, leases string) string {
	scan := w.RBAC(name, namespace)
	// What a scan lists, the controller watches.
	base := strings.ReplaceAll(scan, "verbs: [list]", "verbs: [list, watch]")
	more := ""
	for _, f := range Forms() {
		more += fmt.Sprintf("- apiGroups: [%q]\n  resources: [%s, %s]\n  verbs: [get, list, create, patch, delete]\n", f.Namespaced.Group, f.Namespaced.Resource, f.Cluster.Resource)
	}
	more += `- apiGroups: ["vigie.io"]
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
	out := fmt.Sprintf("%s%s---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n%s", before, more, after)
	if leases != "" {
		out = strings.TrimSuffix(out, "\n") + fmt.Sprintf(lease, name, leases, LeaseName, namespace)
	}
	return out
}

const lease = `
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: %[1]s, namespace: %[2]s}
rules:
- apiGroups: ["coordination.k8s.io"]
  resources: [leases]
  verbs: [create]
- apiGroups: ["coordination.k8s.io"]
  resources: [leases]
  resourceNames: [%[3]s]
  verbs: [get, update]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[1]s, namespace: %[2]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %[1]s}
subjects:
- {kind: ServiceAccount, name: %[1]s, namespace: %[4]s}
`
