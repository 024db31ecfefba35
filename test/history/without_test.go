// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package history

import "testing"

func TestDuckDBReadsHistory(t *testing.T) {
	t.Skip("needs a C++ compiler: DuckDB is linked as a library (apt-get install g++)")
}
