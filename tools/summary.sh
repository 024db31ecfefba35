#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Passes the output of go test on and ends it with one line: N passed, N failed (packages). The exit code
# is go test's, by pipefail in the caller.
set -euo pipefail

awk '
	{ print; fflush() }
	/^ok / { ok++ }
	/^FAIL[ \t]/ { failed++; names = names " " $2 }
	END { printf "%d passed, %d failed%s\n", ok, failed, (failed ? ":" names : "") }'
