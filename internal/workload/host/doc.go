// SPDX-License-Identifier: Apache-2.0

// Package host tells from a cgroup what workload it is, with nothing but the host's own files.
//
// In: cgroup ids as the kernel knows them (kernfs node ids), cgroup paths, the mount table and
// /etc/passwd. Out: the path of a cgroup (Tree), what workload a path stands for (Parse), and login
// names (Passwd). Parse is pure; Tree and Passwd read files.
package host
