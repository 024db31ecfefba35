// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

// What somebody who begins gets to read where a command cannot be: what is missing, and what to give.
func TestWhatIsMissingIsSaid(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	const none = "there is no kubeconfig: neither $KUBECONFIG nor ~/.kube/config names a cluster; give one with --kubeconfig FILE"
	for _, c := range []struct {
		args string
		want string
	}{
		{"status --cluster", none},
		{"events --cluster=staging", none},
		{"install --apply", none},
		{"uninstall", none},
		{"scan cluster", none},
		{"admit status", none},
		{"install --apply --kubeconfig " + filepath.Join(t.TempDir(), "nothing"), "no such file"},
		{"scan", "0 arguments given: write `vigie scan PATH...`"},
		{"policy mode web", "1 argument given: write `vigie policy mode NAME audit|enforce`"},
		{"policy apply", "an option is missing: write `vigie policy apply -f FILE|DIR`"},
		{"policy learn", "an option is missing: write `vigie policy learn --workload NAME`"},
		{"rules nonsense", "unknown command"},
		{"ps 4711", "1 argument given: write `vigie ps`"},
		{"top --by nonsense", "is no terminal"},
	} {
		code, out, stderr := vigie(t, strings.Fields(c.args)...)
		if code != 2 || out != "" || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "KUBERNETES_MASTER") {
			t.Errorf("vigie %s: exit %d, %q, %q", c.args, code, out, stderr)
		}
	}
}
