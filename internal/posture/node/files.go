// SPDX-License-Identifier: Apache-2.0

package node

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Roles of files, as the benchmark groups them.
const (
	roleManifestAPIServer  = "manifest of kube-apiserver"
	roleManifestController = "manifest of kube-controller-manager"
	roleManifestScheduler  = "manifest of kube-scheduler"
	roleManifestEtcd       = "manifest of etcd"
	roleCNI                = "network configuration"
	roleEtcdData           = "data of etcd"
	roleAdmin              = "credentials of the administrator"
	roleController         = "credentials of kube-controller-manager"
	roleScheduler          = "credentials of kube-scheduler"
	rolePKIDir             = "keys and certificates"
	roleCertificate        = "certificate"
	roleKey                = "private key"
	roleKubeletService     = "service of kubelet"
	roleKubeletCredentials = "credentials of kubelet"
	roleKubeletConfig      = "configuration of kubelet"
	roleKubeletCA          = "certificate authority of kubelet"
	roleProxyCredentials   = "credentials of kube-proxy"
	roleEncryption         = "encryption configuration"
	roleAuditPolicy        = "audit policy"
)

// files are those whose owners and modes matter: where kubeadm has them, and where the components' flags say.
func (h Host) files(components []Component) []File {
	found := []File{}
	add := func(role string, paths ...string) {
		for _, path := range paths {
			if path == "" || slices.ContainsFunc(found, func(f File) bool { return f.Path == path && f.Role == role }) {
				continue
			}
			if f, ok := h.file(path, role); ok {
				found = append(found, f)
			}
		}
	}
	manifests := "/etc/kubernetes/manifests"
	for _, c := range components {
		if path, ok := c.Settings["staticPodPath"].(string); ok && c.Name == "kubelet" && path != "" {
			manifests = path
		}
	}
	add(roleManifestAPIServer, manifests+"/kube-apiserver.yaml")
	add(roleManifestController, manifests+"/kube-controller-manager.yaml")
	add(roleManifestScheduler, manifests+"/kube-scheduler.yaml")
	add(roleManifestEtcd, manifests+"/etcd.yaml")
	add(roleAdmin, "/etc/kubernetes/admin.conf", "/etc/kubernetes/super-admin.conf")
	add(roleCNI, h.glob("/etc/cni/net.d/*")...)
	add(roleKubeletService, "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf", "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
		"/etc/systemd/system/kubelet.service", "/usr/lib/systemd/system/kubelet.service", "/lib/systemd/system/kubelet.service")
	pki := []string{"/etc/kubernetes/pki"}
	for _, c := range components {
		switch c.Name {
		case "kube-apiserver":
			add(roleEncryption, c.Flags["encryption-provider-config"])
			add(roleAuditPolicy, c.Flags["audit-policy-file"])
			pki = append(pki, directories(c.Flags["tls-cert-file"], c.Flags["tls-private-key-file"], c.Flags["client-ca-file"])...)
		case "kube-controller-manager":
			add(roleController, c.Flags["kubeconfig"])
		case "kube-scheduler":
			add(roleScheduler, c.Flags["kubeconfig"])
		case "etcd":
			data := c.Flags["data-dir"]
			if set, ok := c.Settings["data-dir"].(string); ok && data == "" {
				data = set
			}
			add(roleEtcdData, data)
		case "kubelet":
			add(roleKubeletCredentials, c.Flags["kubeconfig"])
			add(roleKubeletConfig, c.ConfigFile)
			add(roleKubeletCA, text(c.Settings, "authentication", "x509", "clientCAFile"))
		case "kube-proxy":
			add(roleProxyCredentials, c.Flags["kubeconfig"], text(c.Settings, "clientConnection", "kubeconfig"))
		}
	}
	for _, dir := range slices.Compact(pki) {
		add(rolePKIDir, dir)
		for _, sub := range []string{dir, dir + "/etcd"} {
			add(roleCertificate, h.glob(sub+"/*.crt")...)
			add(roleKey, h.glob(sub+"/*.key")...)
		}
	}
	return found
}

func (h Host) glob(pattern string) []string {
	root := filepath.Join("/", h.Root)
	found, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		return nil // only a bad pattern has one
	}
	var out []string
	for _, f := range found {
		out = append(out, "/"+strings.TrimPrefix(strings.TrimPrefix(f, root), "/"))
	}
	return out
}

func directories(files ...string) []string {
	var out []string
	for _, f := range files {
		if dir := filepath.Dir(f); f != "" && dir != "/etc/kubernetes/pki" {
			out = append(out, dir)
		}
	}
	slices.Sort(out)
	return out
}

// text is a string in settings; empty when it is not there.
func text(settings map[string]any, path ...string) string {
	var at any = settings
	for _, step := range path {
		m, ok := at.(map[string]any)
		if !ok {
			return ""
		}
		at = m[step]
	}
	s, _ := at.(string)
	return s
}

// overlay lays flags over the settings of a configuration file: flags win. The table is of flags that the benchmark names, with
// the field of KubeletConfiguration and KubeProxyConfiguration that means the same.
func overlay(component string, flags map[string]string, settings map[string]any) {
	same := map[string][]string{}
	switch component {
	case "kubelet":
		same = map[string][]string{
			"anonymous-auth":                    {"authentication", "anonymous", "enabled"},
			"authorization-mode":                {"authorization", "mode"},
			"client-ca-file":                    {"authentication", "x509", "clientCAFile"},
			"event-qps":                         {"eventRecordQPS"},
			"make-iptables-util-chains":         {"makeIPTablesUtilChains"},
			"pod-manifest-path":                 {"staticPodPath"},
			"pod-max-pids":                      {"podPidsLimit"},
			"protect-kernel-defaults":           {"protectKernelDefaults"},
			"read-only-port":                    {"readOnlyPort"},
			"rotate-certificates":               {"rotateCertificates"},
			"rotate-server-certificates":        {"serverTLSBootstrap"},
			"seccomp-default":                   {"seccompDefault"},
			"streaming-connection-idle-timeout": {"streamingConnectionIdleTimeout"},
			"tls-cert-file":                     {"tlsCertFile"},
			"tls-private-key-file":              {"tlsPrivateKeyFile"},
		}
	case "etcd":
		for flag, field := range map[string]string{"cert-file": "cert-file", "key-file": "key-file", "client-cert-auth": "client-cert-auth", "auto-tls": "auto-tls",
			"trusted-ca-file": "trusted-ca-file"} {
			same[flag] = []string{"client-transport-security", field}
			same["peer-"+flag] = []string{"peer-transport-security", field}
		}
	case "kube-proxy":
		same = map[string][]string{"metrics-bind-address": {"metricsBindAddress"}}
	}
	for flag, path := range same {
		value, ok := flags[flag]
		if !ok {
			continue
		}
		at := settings
		for _, step := range path[:len(path)-1] {
			next, ok := at[step].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[step] = next
			}
			at = next
		}
		at[path[len(path)-1]] = scalar(value)
	}
	if suites, ok := flags["tls-cipher-suites"]; ok {
		var list []any
		for s := range strings.SplitSeq(suites, ",") {
			list = append(list, strings.TrimSpace(s))
		}
		settings["tlsCipherSuites"] = list
	}
}

// scalar is a flag's value as a configuration file would have it.
func scalar(value string) any {
	switch value {
	case "true":
		return true
	case "false":
		return false
	}
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		return n
	}
	return value
}
