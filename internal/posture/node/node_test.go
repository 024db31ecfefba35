// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

func judge(t *testing.T, target engine.Version) *scan.Judge {
	t.Helper()
	controls, err := Controls()
	if err != nil {
		t.Fatal(err)
	}
	j, err := scan.NewJudge(controls, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestControlsJudgeTheirExamples(t *testing.T) {
	oldest, newest := engine.Supported()
	for _, target := range []engine.Version{oldest, newest} {
		j := judge(t, target)
		trials, err := j.Try(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, trial := range trials {
			if !trial.OK {
				t.Errorf("%s: %s: %s: %s", target, trial.Control.ID, trial.Example.Name, trial.Reason)
			}
		}
		if len(j.Controls) < 80 {
			t.Errorf("only %d controls", len(j.Controls))
		}
	}
}

// TestParagraphs: every control is of a section that files and flags can tell about.
func TestParagraphs(t *testing.T) {
	for _, c := range judge(t, engine.Version{Major: 1, Minor: 36}).Controls {
		p := c.Frameworks["cis"]
		if len(p) != 1 || !slices.Contains([]string{"1", "2", "3", "4"}, p[0][:1]) {
			t.Errorf("%s: %v", c.ID, p)
		}
	}
}

// host is a control plane's root: processes, a kubelet with a file, and files with modes.
func host(t *testing.T) Host {
	t.Helper()
	root := t.TempDir()
	put := func(name, text string, mode os.FileMode) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	command := func(pid string, args ...string) {
		put("proc/"+pid+"/cmdline", strings.Join(args, "\x00")+"\x00", 0o444)
	}
	command("1", "/sbin/init")
	command("7", "/usr/bin/kube-apiserver", "--anonymous-auth=true", "--authorization-mode=Node,RBAC", "--encryption-provider-config", "/etc/kubernetes/enc.yaml", "--profiling")
	command("8", "/usr/bin/kubelet", "--config", "/var/lib/kubelet/config.yaml", "--read-only-port=10255", "--kubeconfig=/etc/kubernetes/kubelet.conf")
	command("9", "etcd", "--data-dir=/var/lib/etcd", "--cert-file=/c", "--key-file=/k")
	put("proc/9/environ", "ETCD_CLIENT_CERT_AUTH=true\x00PATH=/bin\x00", 0o444)
	put("proc/x/cmdline", "kubelet\x00", 0o444)
	put("etc/kubernetes/enc.yaml", "resources: [{resources: [secrets], providers: [{identity: {}}, {aescbc: {keys: [{name: k, secret: hidden}]}}]}]\n", 0o600)
	put("var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\nreadOnlyPort: 0\nauthentication: {anonymous: {enabled: false}, x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}}\n", 0o644)
	put("etc/kubernetes/pki/ca.crt", "x", 0o644)
	put("etc/kubernetes/pki/ca.key", "x", 0o640)
	put("etc/kubernetes/kubelet.conf", "x", 0o600)
	put("var/lib/etcd/member", "x", 0o600)
	put("etc/passwd", "daemon:x:12345:\nroot:x:0:0:root:/root:/bin/sh\n", 0o644)
	return Host{Root: root}
}

func TestCollect(t *testing.T) {
	fields, err := host(t).Collect("n1")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"name":"kube-apiserver","pid":7`, `"encryptionProviders":["identity"]`, `"profiling":"true"`, // a flag without a value
		`"readOnlyPort":10255`,    // the flag wins
		`"client-cert-auth":true`, // from the environment
		`{"dir":false,"group":"r","others":"","owner":"root:root","path":"/etc/kubernetes/pki/ca.key","role":"private key","user":"rw"}`,
		`"role":"configuration of kubelet"`, `"role":"credentials of kubelet"`, `"role":"data of etcd"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "hidden") {
		t.Error("the key of the encryption is in the object")
	}
	if n := len(fields["spec"].(map[string]any)["components"].([]any)); n != 3 { //nolint:forcetypeassert // the test would end anyway
		t.Errorf("%d components", n)
	}
}
