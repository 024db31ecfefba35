// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 are vigie's Kubernetes types. In: nothing. Out: types, and the definitions that a cluster is given, which are
// generated from them.
//
// +groupName=vigie.io
// +versionName=v1alpha1
package v1alpha1

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.21.0 crd paths=. output:crd:dir=.
