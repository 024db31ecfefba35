// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/vigie-io/vigie/internal/model"
)

// stateVersion is of the file's form: another one is not read.
const stateVersion = 1

// state is a View on disk, as zstd-compressed JSON: so that an agent that starts while the API server is away knows what the one
// before knew.
type state struct {
	Version    int
	Cluster    string // address of the API server: another cluster's pods are not ours
	Node       string
	Saved      time.Time
	Pods       []*model.Pod
	Namespaces []*model.ClusterNamespace
	Nodes      []*model.ClusterNode
	Services   []*model.ClusterService
}

// save writes what a snapshot says to a file, which is whole or as it was.
func save(path, cluster, node string, s *Snapshot, now time.Time) error {
	st := state{Version: stateVersion, Cluster: cluster, Node: node, Saved: now, Pods: s.Pods, Services: s.Services}
	for _, n := range s.Namespaces {
		st.Namespaces = append(st.Namespaces, n)
	}
	for _, n := range s.Nodes {
		st.Nodes = append(st.Nodes, n)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // readable by its owner alone
	if err != nil {
		return fmt.Errorf("keep what is known of the cluster: %w", err)
	}
	defer os.Remove(f.Name())
	err = write(f, &st)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("keep what is known of the cluster: %w", err)
	}
	return nil
}

func write(f *os.File, st *state) error {
	z, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<19))
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(z, 1<<16)
	err = json.NewEncoder(buffered).Encode(st)
	return errors.Join(err, buffered.Flush(), z.Close())
}

// load reads what save wrote, of the same cluster and node; nil without an error where there is no such file.
func load(path, cluster, node string) (*state, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was known of the cluster: %w", err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return nil, fmt.Errorf("read what was known of the cluster: %w", err)
	}
	defer z.Close()
	var st state
	if err := json.NewDecoder(z).Decode(&st); err != nil {
		return nil, fmt.Errorf("read what was known of the cluster from %s: %w", path, err)
	}
	if st.Version != stateVersion || st.Cluster != cluster || st.Node != node {
		return nil, nil
	}
	return &st, nil
}

// restore fills an empty View with what was known.
func (v *View) restore(st *state) {
	var list []*listedPod
	for _, p := range st.Pods {
		list = append(list, &listedPod{pod: p})
	}
	v.replacePods(list, func(*model.Pod) bool { return false })
	for _, n := range st.Namespaces {
		v.setNamespace(n.Name, n)
	}
	for _, n := range st.Nodes {
		v.setNode(n.Name, n)
	}
	for _, s := range st.Services {
		name := ServiceName{s.Namespace, s.Name}
		ends := make(endpoints)
		bare := *s
		bare.Ports = append([]model.ServicePort(nil), s.Ports...)
		for i := range bare.Ports {
			ends[bare.Ports[i].Name], bare.Ports[i].Endpoints = bare.Ports[i].Endpoints, nil
		}
		v.setService(name, &bare)
		v.setSlice(name, "", ends) // until the real ones are listed
	}
}
