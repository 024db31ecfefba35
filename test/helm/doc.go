// SPDX-License-Identifier: Apache-2.0

// Package helm renders and lints the chart in deploy/helm with Helm's own library and compares it with what `vigie install` applies. It is a
// module of its own, so that the agent does not depend on Helm.
package helm
