// SPDX-License-Identifier: Apache-2.0

// Package agreement proves that a scan and an API server's admission do not disagree. It holds one test, apart from the
// others because it brings client-go, which nothing else here needs.
package agreement
