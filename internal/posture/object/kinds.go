// SPDX-License-Identifier: Apache-2.0

package object

import (
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kind is what the API server knows of a built-in kind.
type kind struct {
	resource string
	cluster  bool // not in a namespace
	typed    func() runtime.Object
}

// kinds are those that go through their typed structs. Others stay as they were written.
func kinds() map[schema.GroupVersionKind]kind {
	all := map[schema.GroupVersionKind]kind{}
	add := func(gv schema.GroupVersion, name, resource string, cluster bool, typed func() runtime.Object) {
		all[gv.WithKind(name)] = kind{resource, cluster, typed}
	}
	v1 := corev1.SchemeGroupVersion
	add(v1, "Pod", "pods", false, func() runtime.Object { return &corev1.Pod{} })
	add(v1, "PodTemplate", "podtemplates", false, func() runtime.Object { return &corev1.PodTemplate{} })
	add(v1, "ReplicationController", "replicationcontrollers", false, func() runtime.Object { return &corev1.ReplicationController{} })
	add(v1, "Service", "services", false, func() runtime.Object { return &corev1.Service{} })
	add(v1, "ServiceAccount", "serviceaccounts", false, func() runtime.Object { return &corev1.ServiceAccount{} })
	add(v1, "Secret", "secrets", false, func() runtime.Object { return &corev1.Secret{} })
	add(v1, "ConfigMap", "configmaps", false, func() runtime.Object { return &corev1.ConfigMap{} })
	add(v1, "Endpoints", "endpoints", false, func() runtime.Object { return &corev1.Endpoints{} }) //nolint:staticcheck // deprecated, and served and written still
	add(v1, "Namespace", "namespaces", true, func() runtime.Object { return &corev1.Namespace{} })
	add(v1, "Node", "nodes", true, func() runtime.Object { return &corev1.Node{} })
	add(v1, "PersistentVolume", "persistentvolumes", true, func() runtime.Object { return &corev1.PersistentVolume{} })
	add(v1, "PersistentVolumeClaim", "persistentvolumeclaims", false, func() runtime.Object { return &corev1.PersistentVolumeClaim{} })
	add(v1, "LimitRange", "limitranges", false, func() runtime.Object { return &corev1.LimitRange{} })
	add(v1, "ResourceQuota", "resourcequotas", false, func() runtime.Object { return &corev1.ResourceQuota{} })
	apps := appsv1.SchemeGroupVersion
	add(apps, "Deployment", "deployments", false, func() runtime.Object { return &appsv1.Deployment{} })
	add(apps, "StatefulSet", "statefulsets", false, func() runtime.Object { return &appsv1.StatefulSet{} })
	add(apps, "DaemonSet", "daemonsets", false, func() runtime.Object { return &appsv1.DaemonSet{} })
	add(apps, "ReplicaSet", "replicasets", false, func() runtime.Object { return &appsv1.ReplicaSet{} })
	batch := batchv1.SchemeGroupVersion
	add(batch, "Job", "jobs", false, func() runtime.Object { return &batchv1.Job{} })
	add(batch, "CronJob", "cronjobs", false, func() runtime.Object { return &batchv1.CronJob{} })
	rbac := rbacv1.SchemeGroupVersion
	add(rbac, "Role", "roles", false, func() runtime.Object { return &rbacv1.Role{} })
	add(rbac, "RoleBinding", "rolebindings", false, func() runtime.Object { return &rbacv1.RoleBinding{} })
	add(rbac, "ClusterRole", "clusterroles", true, func() runtime.Object { return &rbacv1.ClusterRole{} })
	add(rbac, "ClusterRoleBinding", "clusterrolebindings", true, func() runtime.Object { return &rbacv1.ClusterRoleBinding{} })
	net := networkingv1.SchemeGroupVersion
	add(net, "Ingress", "ingresses", false, func() runtime.Object { return &networkingv1.Ingress{} })
	add(net, "IngressClass", "ingressclasses", true, func() runtime.Object { return &networkingv1.IngressClass{} })
	add(net, "NetworkPolicy", "networkpolicies", false, func() runtime.Object { return &networkingv1.NetworkPolicy{} })
	add(policyv1.SchemeGroupVersion, "PodDisruptionBudget", "poddisruptionbudgets", false, func() runtime.Object { return &policyv1.PodDisruptionBudget{} })
	add(autoscalingv1.SchemeGroupVersion, "HorizontalPodAutoscaler", "horizontalpodautoscalers", false, func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscaler{} })
	add(autoscalingv2.SchemeGroupVersion, "HorizontalPodAutoscaler", "horizontalpodautoscalers", false, func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscaler{} })
	add(schedulingv1.SchemeGroupVersion, "PriorityClass", "priorityclasses", true, func() runtime.Object { return &schedulingv1.PriorityClass{} })
	add(storagev1.SchemeGroupVersion, "StorageClass", "storageclasses", true, func() runtime.Object { return &storagev1.StorageClass{} })
	adm := admissionv1.SchemeGroupVersion
	add(adm, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", true, func() runtime.Object { return &admissionv1.ValidatingWebhookConfiguration{} })
	add(adm, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", true, func() runtime.Object { return &admissionv1.MutatingWebhookConfiguration{} })
	add(adm, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", true, func() runtime.Object { return &admissionv1.ValidatingAdmissionPolicy{} })
	add(adm, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", true, func() runtime.Object { return &admissionv1.ValidatingAdmissionPolicyBinding{} })
	return all
}

// equivalents are versions that are served no more, whose objects have the same fields in the version named here.
func equivalents() map[schema.GroupVersionKind]schema.GroupVersionKind {
	all := map[schema.GroupVersionKind]schema.GroupVersionKind{}
	add := func(group, version, to string, kinds ...string) {
		for _, k := range kinds {
			toGroup, toVersion, _ := strings.Cut(to, "/")
			all[schema.GroupVersionKind{Group: group, Version: version, Kind: k}] = schema.GroupVersionKind{Group: toGroup, Version: toVersion, Kind: k}
		}
	}
	add("extensions", "v1beta1", "apps/v1", "Deployment", "DaemonSet", "ReplicaSet")
	add("apps", "v1beta1", "apps/v1", "Deployment", "StatefulSet")
	add("apps", "v1beta2", "apps/v1", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
	add("batch", "v1beta1", "batch/v1", "CronJob")
	add("extensions", "v1beta1", "networking.k8s.io/v1", "NetworkPolicy")
	add("policy", "v1beta1", "policy/v1", "PodDisruptionBudget")
	add("rbac.authorization.k8s.io", "v1beta1", "rbac.authorization.k8s.io/v1", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
	add("rbac.authorization.k8s.io", "v1alpha1", "rbac.authorization.k8s.io/v1", "Role", "ClusterRole")
	return all
}
