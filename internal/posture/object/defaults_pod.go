// SPDX-License-Identifier: Apache-2.0

package object

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func template(t *corev1.PodTemplateSpec) { podSpec(&t.Spec) }

// podSpec is common to pods and to the templates in their controllers.
func podSpec(s *corev1.PodSpec) {
	orValue(&s.DNSPolicy, corev1.DNSClusterFirst)
	orValue(&s.RestartPolicy, corev1.RestartPolicyAlways)
	orValue(&s.SchedulerName, corev1.DefaultSchedulerName)
	orSet(&s.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	orSet(&s.SecurityContext, corev1.PodSecurityContext{})
	orValue(&s.DeprecatedServiceAccount, s.ServiceAccountName)
	orValue(&s.ServiceAccountName, s.DeprecatedServiceAccount)
	if s.HostNetwork {
		hostPorts(s)
	}
	for i := range s.InitContainers {
		container(&s.InitContainers[i])
	}
	for i := range s.Containers {
		container(&s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		c := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		container(&c)
		s.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
	for i := range s.Volumes {
		volume(&s.Volumes[i])
	}
}

func container(c *corev1.Container) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = pullPolicy(c.Image)
	}
	orValue(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	orValue(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		orValue(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil && from.FieldRef != nil {
			orValue(&from.FieldRef.APIVersion, "v1")
		}
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p != nil {
			probe(p)
		}
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil && h.HTTPGet != nil {
				httpGet(h.HTTPGet)
			}
		}
	}
}

// pullPolicy: an image without a tag and digest, or with the tag latest, is always pulled.
func pullPolicy(image string) corev1.PullPolicy {
	if strings.Contains(image, "@") {
		return corev1.PullIfNotPresent
	}
	name := image[strings.LastIndexByte(image, '/')+1:]
	if _, tag, ok := strings.Cut(name, ":"); ok && tag != "latest" {
		return corev1.PullIfNotPresent
	}
	return corev1.PullAlways
}

func probe(p *corev1.Probe) {
	orValue(&p.TimeoutSeconds, 1)
	orValue(&p.PeriodSeconds, 10)
	orValue(&p.SuccessThreshold, 1)
	orValue(&p.FailureThreshold, 3)
	if p.HTTPGet != nil {
		httpGet(p.HTTPGet)
	}
	if p.GRPC != nil {
		orSet(&p.GRPC.Service, "")
	}
}

func httpGet(h *corev1.HTTPGetAction) {
	orValue(&h.Path, "/")
	orValue(&h.Scheme, corev1.URISchemeHTTP)
}

// hostPorts: in the host's network a container's port is the host's.
func hostPorts(s *corev1.PodSpec) {
	for _, list := range [][]corev1.Container{s.Containers, s.InitContainers} {
		for i := range list {
			for j := range list[i].Ports {
				p := &list[i].Ports[j]
				orValue(&p.HostPort, p.ContainerPort)
			}
		}
	}
}

// requestsFromLimits: in a pod, not in a template, a limit without a request is the request too.
func requestsFromLimits(s *corev1.PodSpec) {
	for _, list := range [][]corev1.Container{s.Containers, s.InitContainers} {
		for i := range list {
			r := &list[i].Resources
			for name, limit := range r.Limits {
				if _, ok := r.Requests[name]; !ok {
					if r.Requests == nil {
						r.Requests = corev1.ResourceList{}
					}
					r.Requests[name] = limit.DeepCopy()
				}
			}
		}
	}
}

func volume(v *corev1.Volume) {
	var mode int32 = 0o644
	source := &v.VolumeSource
	switch {
	case source.Secret != nil:
		orSet(&source.Secret.DefaultMode, mode)
	case source.ConfigMap != nil:
		orSet(&source.ConfigMap.DefaultMode, mode)
	case source.DownwardAPI != nil:
		orSet(&source.DownwardAPI.DefaultMode, mode)
		for i := range source.DownwardAPI.Items {
			if f := source.DownwardAPI.Items[i].FieldRef; f != nil {
				orValue(&f.APIVersion, "v1")
			}
		}
	case source.Projected != nil:
		orSet(&source.Projected.DefaultMode, mode)
		for i := range source.Projected.Sources {
			if t := source.Projected.Sources[i].ServiceAccountToken; t != nil {
				orSet(&t.ExpirationSeconds, 3600)
			}
		}
	case source.HostPath != nil:
		orSet(&source.HostPath.Type, corev1.HostPathUnset)
	case *source == (corev1.VolumeSource{}):
		source.EmptyDir = &corev1.EmptyDirVolumeSource{} // a volume without a source
	}
}
