// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPodLogs(t *testing.T) {
	root := t.TempDir()
	logs := NewPodLogs(root)
	if _, _, ok := logs.Find("0c8b2f4e-6d1a-4a3b-9c5d-7e8f90a1b2c3"); ok {
		t.Error("found without a kubelet")
	}
	for _, name := range []string{"shop_web-0_0c8b2f4e-6d1a-4a3b-9c5d-7e8f90a1b2c3", "kube-system_etcd-here_0123456789abcdef0123456789abcdef", "_x_1111111111111111", "other"} {
		if err := os.MkdirAll(filepath.Join(root, "var/log/pods", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for uid, want := range map[string]string{"0c8b2f4e-6d1a-4a3b-9c5d-7e8f90a1b2c3": "shop/web-0", "0123456789abcdef0123456789abcdef": "kube-system/etcd-here",
		"1111111111111111": "/", "b2c3": "/", "": "/"} {
		namespace, name, ok := logs.Find(uid)
		if namespace+"/"+name != want || ok != (want != "/") {
			t.Errorf("%q is %s/%s (%t), want %s", uid, namespace, name, ok, want)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "proc/1/root/var/log/pods/shop_db-0_22222222222222222"), 0o755); err != nil {
		t.Fatal(err)
	}
	if namespace, name, ok := logs.Find("22222222222222222"); !ok || namespace != "shop" || name != "db-0" {
		t.Errorf("by the first process: %s/%s (%t)", namespace, name, ok)
	}
}

func TestPodCgroup(t *testing.T) {
	const uid = "0c8b2f4e-6d1a-4a3b-9c5d-7e8f90a1b2c3"
	for path, want := range map[string]struct {
		uid    string
		parent bool
	}{
		"/":                   {},
		"/kubepods":           {parent: true},
		"/node-1/kubepods":    {parent: true},
		"/kubepods/burstable": {parent: true},
		"/system.slice":       {},
		"/kubepods.slice/kubepods-besteffort.slice":                                                 {parent: true},
		"/kubepods/pod" + uid:                                                                       {uid: uid},
		"/kubepods/besteffort/pod" + uid:                                                            {uid: uid},
		"/kubepods.slice/kubepods-pod0c8b2f4e_6d1a_4a3b_9c5d_7e8f90a1b2c3.slice":                    {uid: uid},
		"/kubepods/pod" + uid + "/3f4e1c5a9b7d2e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7": {},
	} {
		if got, parent := PodCgroup(path); got != want.uid || parent != want.parent {
			t.Errorf("%s: %q, %v, want %q, %v", path, got, parent, want.uid, want.parent)
		}
	}
}
