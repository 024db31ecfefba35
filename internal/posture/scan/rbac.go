// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// rbac answers as the API server's RBAC authorizer would if the scanned roles and bindings were all there are.
type rbac struct {
	roles      map[[2]string][]rbacv1.PolicyRule // namespace ("" of a ClusterRole) and name
	bindings   []*rbacv1.RoleBinding
	everywhere []*rbacv1.ClusterRoleBinding
}

func (r *rbac) add(o runtime.Object) {
	if r.roles == nil {
		r.roles = map[[2]string][]rbacv1.PolicyRule{}
	}
	switch o := o.(type) {
	case *rbacv1.Role:
		r.roles[[2]string{o.Namespace, o.Name}] = o.Rules
	case *rbacv1.ClusterRole:
		r.roles[[2]string{"", o.Name}] = o.Rules
	case *rbacv1.RoleBinding:
		r.bindings = append(r.bindings, o)
	case *rbacv1.ClusterRoleBinding:
		r.everywhere = append(r.everywhere, o)
	}
}

func (r *rbac) empty() bool {
	return len(r.roles) == 0 && len(r.bindings) == 0 && len(r.everywhere) == 0
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (r *rbac) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	for _, b := range r.everywhere {
		if subjects(b.Subjects, "", a.GetUser()) && slices.ContainsFunc(r.rules("", b.RoleRef), func(p rbacv1.PolicyRule) bool { return allows(p, a) }) {
			return authorizer.DecisionAllow, "by ClusterRoleBinding " + b.Name, nil
		}
	}
	for _, b := range r.bindings {
		if b.Namespace != a.GetNamespace() || !a.IsResourceRequest() {
			continue
		}
		if subjects(b.Subjects, b.Namespace, a.GetUser()) && slices.ContainsFunc(r.rules(b.Namespace, b.RoleRef), func(p rbacv1.PolicyRule) bool { return allows(p, a) }) {
			return authorizer.DecisionAllow, "by RoleBinding " + b.Namespace + "/" + b.Name, nil
		}
	}
	return authorizer.DecisionNoOpinion, "no scanned role allows it", nil
}

func (r *rbac) rules(namespace string, ref rbacv1.RoleRef) []rbacv1.PolicyRule {
	if ref.Kind == "ClusterRole" {
		if ref.Name == "cluster-admin" {
			return []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}, {Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}}
		}
		namespace = ""
	}
	return r.roles[[2]string{namespace, ref.Name}]
}

func subjects(list []rbacv1.Subject, namespace string, u user.Info) bool {
	return slices.ContainsFunc(list, func(s rbacv1.Subject) bool {
		switch s.Kind {
		case rbacv1.UserKind:
			return s.Name == u.GetName()
		case rbacv1.GroupKind:
			return slices.Contains(u.GetGroups(), s.Name)
		case rbacv1.ServiceAccountKind:
			in := s.Namespace
			if in == "" {
				in = namespace
			}
			return u.GetName() == "system:serviceaccount:"+in+":"+s.Name
		}
		return false
	})
}

func allows(p rbacv1.PolicyRule, a authorizer.Attributes) bool {
	has := func(list []string, v string) bool { return slices.Contains(list, "*") || slices.Contains(list, v) }
	if !has(p.Verbs, a.GetVerb()) {
		return false
	}
	if !a.IsResourceRequest() {
		return slices.ContainsFunc(p.NonResourceURLs, func(url string) bool {
			prefix, wild := strings.CutSuffix(url, "*")
			return url == a.GetPath() || wild && strings.HasPrefix(a.GetPath(), prefix)
		})
	}
	resource := has(p.Resources, a.GetResource())
	if sub := a.GetSubresource(); sub != "" {
		resource = has(p.Resources, a.GetResource()+"/"+sub) || slices.Contains(p.Resources, "*/"+sub)
	}
	return has(p.APIGroups, a.GetAPIGroup()) && resource && (len(p.ResourceNames) == 0 || slices.Contains(p.ResourceNames, a.GetName()))
}
