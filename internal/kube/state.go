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
const stateVersion = 2

// state is a View on disk, so that an agent that starts while the API server is away knows what the one before knew. The file is JSON,
// compressed with zstd: the head, then each object by itself (stateLine), then the end. Of a large cluster the whole in one piece would
// be many megabytes.
type state struct {
	stateHead
	Pods       []*model.Pod
	Namespaces []*model.ClusterNamespace
	Nodes      []*model.ClusterNode
	Services   []*model.ClusterService
}

type stateHead struct {
	Version int
	Cluster string // address of the API server: another cluster's pods are not ours
	Node    string
	Saved   time.Time
}

// stateLine is one of these.
type stateLine struct {
	Pod       *model.Pod              `json:",omitempty"`
	Namespace *model.ClusterNamespace `json:",omitempty"`
	Node      *model.ClusterNode      `json:",omitempty"`
	Service   *model.ClusterService   `json:",omitempty"`
	End       bool                    `json:",omitempty"` // the file is whole
}

// save writes what a snapshot says to a file, which is whole or as it was.
func save(path, cluster, node string, s *Snapshot, now time.Time) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // readable by its owner alone
	if err != nil {
		return fmt.Errorf("keep what is known of the cluster: %w", err)
	}
	defer os.Remove(f.Name())
	err = write(f, stateHead{stateVersion, cluster, node, now}, s)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("keep what is known of the cluster: %w", err)
	}
	return nil
}

func write(f *os.File, head stateHead, s *Snapshot) error {
	z, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<19))
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(z, 1<<16)
	out := json.NewEncoder(buffered)
	err = out.Encode(head)
	line := func(l stateLine) {
		if err == nil {
			err = out.Encode(l)
		}
	}
	for _, p := range s.Pods {
		line(stateLine{Pod: p})
	}
	for _, n := range s.Namespaces {
		line(stateLine{Namespace: n})
	}
	for _, n := range s.Nodes {
		line(stateLine{Node: n})
	}
	for _, one := range s.Services {
		line(stateLine{Service: one})
	}
	line(stateLine{End: true})
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
	in := json.NewDecoder(z)
	var st state
	if err := in.Decode(&st.stateHead); err != nil {
		return nil, fmt.Errorf("read what was known of the cluster from %s: %w", path, err)
	}
	if st.Version != stateVersion || st.Cluster != cluster || st.Node != node {
		return nil, nil
	}
	for {
		var l stateLine
		if err := in.Decode(&l); err != nil {
			return nil, fmt.Errorf("read what was known of the cluster from %s: %w", path, err)
		}
		switch {
		case l.Pod != nil:
			st.Pods = append(st.Pods, l.Pod)
		case l.Namespace != nil:
			st.Namespaces = append(st.Namespaces, l.Namespace)
		case l.Node != nil:
			st.Nodes = append(st.Nodes, l.Node)
		case l.Service != nil:
			st.Services = append(st.Services, l.Service)
		case l.End:
			return &st, nil
		}
	}
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
