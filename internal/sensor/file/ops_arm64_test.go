// SPDX-License-Identifier: Apache-2.0

package file

func legacyOpCases() []opCase { return nil }
