// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"path/filepath"
	"strings"
)

// PodLogs is where kubelet puts the logs of pods: a directory each, NAMESPACE_NAME_UID, which it makes before it has the runtime
// make the first container. So it names a pod that neither the API server nor the runtime has told of.
type PodLogs struct{ dirs []string }

// NewPodLogs is for the host that root ("/") leads to. In a container that has the host's processes, where that directory is not
// mounted, the host's first process leads there.
func NewPodLogs(root string) PodLogs {
	return PodLogs{[]string{filepath.Join(root, "var/log/pods"), filepath.Join(root, "proc/1/root/var/log/pods")}}
}

// Find is the namespace and name of a pod by its uid. It reads a directory of as many entries as there are pods here.
func (l PodLogs) Find(uid string) (namespace, name string, ok bool) {
	for _, dir := range l.dirs {
		if namespace, name, ok = findIn(dir, uid); ok {
			break
		}
	}
	return namespace, name, ok
}

func findIn(path, uid string) (namespace, name string, ok bool) {
	dir, err := os.Open(path)
	if err != nil {
		return "", "", false // no kubelet here
	}
	defer dir.Close()
	entries, _ := dir.Readdirnames(-1) // what could be read before an error is as good
	for _, entry := range entries {
		rest, ok := strings.CutSuffix(entry, "_"+uid)
		if !ok {
			continue
		}
		if namespace, name, ok = strings.Cut(rest, "_"); ok && namespace != "" && name != "" {
			return namespace, name, true
		}
	}
	return "", "", false
}

// PodCgroup says whether a cgroup is a pod's own, whose uid it is then, or one that pods' cgroups lie below.
func PodCgroup(path string) (uid string, parent bool) {
	parts := split(path)
	if len(parts) == 0 {
		return "", false
	}
	if uid, end := podOf(parts); uid != "" {
		if end == len(parts) {
			return uid, false
		}
		return "", false
	}
	switch last := parts[len(parts)-1]; {
	case last == "kubepods", strings.HasPrefix(last, "kubepods") && strings.HasSuffix(last, ".slice"), strings.HasPrefix(last, "kubelet-kubepods") && strings.HasSuffix(last, ".slice"):
		return "", true
	case len(parts) > 1 && parts[len(parts)-2] == "kubepods":
		return "", last == "burstable" || last == "besteffort"
	}
	return "", false
}
