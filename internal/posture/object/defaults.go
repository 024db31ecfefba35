// SPDX-License-Identifier: Apache-2.0

package object

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// orSet is the value that p points to, set to v when it has none.
func orSet[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

func orValue[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// setDefaults does what the API server does to an object before admission sees it: the field values are those of the API
// reference, "Defaults to". What depends on the cluster (a default storage class, an allocated address) stays unset.
func setDefaults(o runtime.Object) {
	switch o := o.(type) {
	case *corev1.Pod:
		podSpec(&o.Spec)
		orSet(&o.Spec.EnableServiceLinks, true)
		if o.Spec.HostNetwork {
			hostPorts(&o.Spec)
		}
		requestsFromLimits(&o.Spec)
	case *corev1.PodTemplate:
		template(&o.Template)
	case *corev1.ReplicationController:
		orSet(&o.Spec.Replicas, 1)
		if t := o.Spec.Template; t != nil {
			template(t)
			if len(o.Spec.Selector) == 0 {
				o.Spec.Selector = t.Labels
			}
			if len(o.Labels) == 0 {
				o.Labels = t.Labels
			}
		}
	case *appsv1.Deployment:
		deployment(o)
	case *appsv1.StatefulSet:
		statefulSet(o)
	case *appsv1.DaemonSet:
		daemonSet(o)
	case *appsv1.ReplicaSet:
		orSet(&o.Spec.Replicas, 1)
		template(&o.Spec.Template)
	case *batchv1.Job:
		job(&o.Spec)
		if len(o.Labels) == 0 {
			o.Labels = o.Spec.Template.Labels
		}
	case *batchv1.CronJob:
		orValue(&o.Spec.ConcurrencyPolicy, batchv1.AllowConcurrent)
		orSet(&o.Spec.Suspend, false)
		orSet(&o.Spec.SuccessfulJobsHistoryLimit, 3)
		orSet(&o.Spec.FailedJobsHistoryLimit, 1)
		job(&o.Spec.JobTemplate.Spec)
	case *corev1.Service:
		service(&o.Spec)
	default:
		setOtherDefaults(o)
	}
}

// setOtherDefaults does it for the kinds that run nothing.
func setOtherDefaults(o runtime.Object) {
	switch o := o.(type) {
	case *corev1.Secret:
		orValue(&o.Type, corev1.SecretTypeOpaque)
	case *corev1.Namespace:
		if o.Name != "" {
			if o.Labels == nil {
				o.Labels = map[string]string{}
			}
			o.Labels[corev1.LabelMetadataName] = o.Name
		}
	case *corev1.PersistentVolume:
		orValue(&o.Spec.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
		orSet(&o.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
		if h := o.Spec.HostPath; h != nil {
			orSet(&h.Type, corev1.HostPathUnset)
		}
	case *corev1.PersistentVolumeClaim:
		orSet(&o.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	case *autoscalingv1.HorizontalPodAutoscaler:
		orSet(&o.Spec.MinReplicas, 1)
	case *autoscalingv2.HorizontalPodAutoscaler:
		orSet(&o.Spec.MinReplicas, 1)
	case *networkingv1.NetworkPolicy:
		networkPolicy(&o.Spec)
	case *rbacv1.RoleBinding:
		orValue(&o.RoleRef.APIGroup, rbacv1.GroupName)
		subjects(o.Subjects)
	case *rbacv1.ClusterRoleBinding:
		orValue(&o.RoleRef.APIGroup, rbacv1.GroupName)
		subjects(o.Subjects)
	case *storagev1.StorageClass:
		orSet(&o.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
		orSet(&o.VolumeBindingMode, storagev1.VolumeBindingImmediate)
	}
}

func deployment(o *appsv1.Deployment) {
	orSet(&o.Spec.Replicas, 1)
	orSet(&o.Spec.RevisionHistoryLimit, 10)
	orSet(&o.Spec.ProgressDeadlineSeconds, 600)
	orValue(&o.Spec.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if o.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		orSet(&o.Spec.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		orSet(&o.Spec.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		orSet(&o.Spec.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	template(&o.Spec.Template)
}

func statefulSet(o *appsv1.StatefulSet) {
	orSet(&o.Spec.Replicas, 1)
	orSet(&o.Spec.RevisionHistoryLimit, 10)
	orValue(&o.Spec.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	orValue(&o.Spec.UpdateStrategy.Type, appsv1.RollingUpdateStatefulSetStrategyType)
	if o.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		orSet(&o.Spec.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
		orSet(&o.Spec.UpdateStrategy.RollingUpdate.Partition, 0)
	}
	orSet(&o.Spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	orValue(&o.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	orValue(&o.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	for i := range o.Spec.VolumeClaimTemplates {
		orSet(&o.Spec.VolumeClaimTemplates[i].Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	}
	template(&o.Spec.Template)
}

func daemonSet(o *appsv1.DaemonSet) {
	orSet(&o.Spec.RevisionHistoryLimit, 10)
	orValue(&o.Spec.UpdateStrategy.Type, appsv1.RollingUpdateDaemonSetStrategyType)
	if o.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		orSet(&o.Spec.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		orSet(&o.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		orSet(&o.Spec.UpdateStrategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	template(&o.Spec.Template)
}

func job(s *batchv1.JobSpec) {
	if s.Completions == nil && s.Parallelism == nil {
		orSet(&s.Completions, 1)
	}
	orSet(&s.Parallelism, 1)
	orSet(&s.CompletionMode, batchv1.NonIndexedCompletion)
	orSet(&s.Suspend, false)
	orSet(&s.ManualSelector, false)
	if s.PodReplacementPolicy == nil {
		policy := batchv1.TerminatingOrFailed
		if s.PodFailurePolicy != nil {
			policy = batchv1.Failed
		}
		s.PodReplacementPolicy = &policy
	}
	if s.BackoffLimitPerIndex == nil {
		orSet(&s.BackoffLimit, 6)
	} else {
		orSet(&s.BackoffLimit, 1<<31-1)
	}
	template(&s.Template)
}

func service(s *corev1.ServiceSpec) {
	orValue(&s.SessionAffinity, corev1.ServiceAffinityNone)
	orValue(&s.Type, corev1.ServiceTypeClusterIP)
	for i := range s.Ports {
		p := &s.Ports[i]
		orValue(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == (intstr.IntOrString{}) && s.ClusterIP != corev1.ClusterIPNone {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if s.Type != corev1.ServiceTypeExternalName {
		orSet(&s.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if s.Type == corev1.ServiceTypeNodePort || s.Type == corev1.ServiceTypeLoadBalancer {
		orValue(&s.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if s.Type == corev1.ServiceTypeLoadBalancer {
		orSet(&s.AllocateLoadBalancerNodePorts, true)
	}
}

func networkPolicy(s *networkingv1.NetworkPolicySpec) {
	ports := func(list []networkingv1.NetworkPolicyPort) {
		for i := range list {
			orSet(&list[i].Protocol, corev1.ProtocolTCP)
		}
	}
	for _, r := range s.Ingress {
		ports(r.Ports)
	}
	for _, r := range s.Egress {
		ports(r.Ports)
	}
	if len(s.PolicyTypes) == 0 {
		s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(s.Egress) > 0 {
			s.PolicyTypes = append(s.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
}

func subjects(list []rbacv1.Subject) {
	for i := range list {
		if k := list[i].Kind; k == rbacv1.UserKind || k == rbacv1.GroupKind {
			orValue(&list[i].APIGroup, rbacv1.GroupName)
		}
	}
}
