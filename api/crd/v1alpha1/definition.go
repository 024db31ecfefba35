// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "embed"

//go:embed *.yaml
var definitions embed.FS

// PolicyExceptionDefinition is the CustomResourceDefinition of PolicyException, as YAML.
func PolicyExceptionDefinition() ([]byte, error) {
	return definitions.ReadFile("vigie.io_policyexceptions.yaml")
}
