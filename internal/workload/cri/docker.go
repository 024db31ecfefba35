// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxAnswer bounds what is read of one answer, in bytes: `inspect` of a container is some 10 KiB.
const maxAnswer = 4 << 20

// docker speaks the Docker Engine API, which Podman speaks too.
type docker struct {
	runtime string
	http    http.Client
}

func newDocker(e Endpoint, owner uint32) *docker {
	return &docker{runtime: e.Runtime, http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return connect(ctx, e.Socket, owner)
		},
		MaxIdleConns:    1,
		IdleConnTimeout: 30 * time.Second,
	}}}
}

func (d *docker) inspect(ctx context.Context, id string) (Info, error) {
	// Without a version in the path a daemon takes it for the newest that it speaks; these fields are in all.
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.runtime+"/containers/"+id+"/json", nil)
	if err != nil {
		return Info{}, err
	}
	response, err := d.http.Do(request)
	if err != nil {
		return Info{}, err
	}
	defer response.Body.Close()
	body := io.LimitReader(response.Body, maxAnswer)
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		_, _ = io.Copy(io.Discard, body) // the connection is used again
		return Info{}, ErrNotFound
	default:
		text, _ := io.ReadAll(io.LimitReader(body, 200))
		return Info{}, fmt.Errorf("inspect container: %s: %q", response.Status, text)
	}
	var answer struct {
		ID     string `json:"Id"`
		Name   string
		Config struct {
			Image  string
			Labels map[string]string
		}
	}
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return Info{}, fmt.Errorf("decode the answer of %s: %w", d.runtime, err)
	}
	if answer.ID != id { // the id could be another container's name
		return Info{}, ErrNotFound
	}
	info := Info{Runtime: d.runtime, Name: strings.TrimPrefix(answer.Name, "/"), Image: answer.Config.Image}
	info.setLabels(answer.Config.Labels)
	return info, nil
}

func (d *docker) close() error {
	d.http.CloseIdleConnections()
	return nil
}

// setLabels keeps the labels and reads the kubelet's among them.
func (i *Info) setLabels(labels map[string]string) {
	if len(labels) == 0 {
		return
	}
	i.Labels = labels
	i.PodName = labels["io.kubernetes.pod.name"]
	i.Namespace = labels["io.kubernetes.pod.namespace"]
	i.PodUID = labels["io.kubernetes.pod.uid"]
	i.Container = labels["io.kubernetes.container.name"]
}
