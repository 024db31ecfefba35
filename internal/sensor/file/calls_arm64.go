// SPDX-License-Identifier: Apache-2.0

package file

// legacyCalls are those that younger architectures do without.
func legacyCalls() []call { return nil }
