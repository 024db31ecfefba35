// SPDX-License-Identifier: Apache-2.0

// +groupName=vigie.io
// +versionName=v1alpha1

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.21.0 crd paths=. output:crd:dir=.

// PolicyException lets objects fail controls for a while, for a reason, in somebody's name. It is not in a namespace: who
// may write to a namespace must not be able to excuse what he writes there.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=vigie,shortName=polex
// +kubebuilder:printcolumn:name="Controls",type=string,JSONPath=`.spec.controls`
// +kubebuilder:printcolumn:name="Owner",type=string,JSONPath=`.spec.owner`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.spec.expires`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
type PolicyException struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PolicyExceptionSpec   `json:"spec"`
	Status PolicyExceptionStatus `json:"status,omitempty"`
}

// PolicyExceptionSpec says what is excused. What is left out does not narrow it; everything that is given must hold.
//
// +kubebuilder:validation:XValidation:rule="has(self.namespaces) || has(self.namespaceSelector) || has(self.names) || has(self.selector)",message="say which objects: namespaces, namespaceSelector, names or selector"
type PolicyExceptionSpec struct {
	// Owner is who answers for it: a person or a team.
	// +kubebuilder:validation:MinLength=1
	Owner string `json:"owner"`
	// Reason is why the objects cannot do without.
	// +kubebuilder:validation:MinLength=1
	Reason string `json:"reason"`
	// Expires is the moment from which on nothing is excused.
	Expires metav1.Time `json:"expires"`
	// Controls are those that may fail: an id, framework:NAME or severity:NAME (and worse), as for `vigie scan --control`.
	// +kubebuilder:validation:MinItems=1
	Controls []string `json:"controls"`
	// Namespaces that the objects are in.
	Namespaces []string `json:"namespaces,omitempty"`
	// NamespaceSelector selects namespaces by label.
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// Kinds of the objects, such as DaemonSet. A pod that a DaemonSet makes is a Pod.
	Kinds []string `json:"kinds,omitempty"`
	// Names of the objects; * stands for any text.
	Names []string `json:"names,omitempty"`
	// Selector selects objects by their own labels.
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// PolicyExceptionStatus is what the controller says of it.
type PolicyExceptionStatus struct {
	// State is Active, Expired or Invalid.
	State string `json:"state,omitempty"`
	// Message says why it is invalid.
	Message string `json:"message,omitempty"`
}
