// SPDX-License-Identifier: Apache-2.0

// Package kube is the agent's only room that speaks to Kubernetes' API server.
//
// In: the API server's lists and watches of pods, nodes, namespaces, services and EndpointSlices; when it is away, what was
// known last, which is also on disk. Out: a View of model types (look-ups, an immutable Snapshot, bounded notifications of
// changes), how well the API server is followed (Status, metrics), and Kubernetes Events on the pods that a denial or an alert
// is about.
//
// What is followed, and why so. The pods of this node come whole, less what nobody asks for. Pods of other nodes come by a second
// watch, stripped the moment they are decoded: metadata alone would lack their addresses, and EndpointSlices have
// those of pods behind a service only, while it is mostly clients, which stand behind none, that an ingress rule selects.
// Of finished pods of other nodes only their addresses are remembered, for two minutes. Nothing here holds a Kubernetes object: what arrives becomes a
// model type, with labels shared by the pods of one template.
package kube
