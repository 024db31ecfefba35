// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// coreDNS is what runs CoreDNS.
//
//go:embed coredns.yaml
var coreDNS string

// kubernetes is the administrator's view of the API.
type kubernetes struct {
	server string
	admin  *http.Client
}

func (k *kubernetes) awaitReady(ctx context.Context) error {
	return await(ctx, time.Minute, "kube-apiserver", func() bool {
		_, err := k.get(ctx, "/readyz")
		return err == nil
	})
}

func (k *kubernetes) get(ctx context.Context, path string) ([]byte, error) {
	return k.do(ctx, http.MethodGet, path, "")
}

// post makes an object; that it is there already is fine.
func (k *kubernetes) post(ctx context.Context, path, body string) error {
	_, err := k.do(ctx, http.MethodPost, path, body)
	return err
}

func (k *kubernetes) do(ctx context.Context, method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, k.server+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := k.admin.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 && resp.StatusCode != http.StatusConflict {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, data)
	}
	return data, nil
}

func (k *kubernetes) exists(ctx context.Context, path string) bool {
	_, err := k.get(ctx, path)
	return err == nil
}

func (k *kubernetes) nodeReady(ctx context.Context, n string) bool {
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status string }
		}
	}
	data, err := k.get(ctx, "/api/v1/nodes/"+n)
	if err != nil || json.Unmarshal(data, &node) != nil {
		return false
	}
	for _, c := range node.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}
