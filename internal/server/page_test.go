// SPDX-License-Identifier: Apache-2.0

package server

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// testPage is a page of two files.
func testPage() fstest.MapFS {
	return fstest.MapFS{
		"index.html":         {Data: []byte("<!doctype html><title>vigie</title>")},
		"assets/main-abc.js": {Data: []byte(strings.Repeat("console.log(1);", 200))},
	}
}

// answer is what the server answered.
type answer struct {
	status int
	header http.Header
	body   string
}

// get asks the TCP port of r for path; change may alter the request.
func get(t *testing.T, r *running, path string, change func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Addrs()[1].String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func TestPageIsServedWithItsHeaders(t *testing.T) {
	r := start(t, func(c *Config) { c.Page = testPage() })
	if want := "http://" + r.Addrs()[1].String() + "/"; r.PageURL() != want {
		t.Errorf("the page's address is %q, want %q", r.PageURL(), want)
	}
	index := get(t, r, "/", nil)
	if index.status != http.StatusOK || !strings.Contains(index.body, "<title>vigie") {
		t.Fatalf("/ answers %d: %q", index.status, index.body)
	}
	for name, want := range map[string]string{
		"Content-Security-Policy": contentPolicy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cache-Control": "no-cache", "Content-Type": "text/html; charset=utf-8", "Cross-Origin-Opener-Policy": "same-origin",
	} {
		if got := index.header.Get(name); got != want {
			t.Errorf("%s of / is %q, want %q", name, got, want)
		}
	}
	again := get(t, r, "/", func(q *http.Request) { q.Header.Set("If-None-Match", index.header.Get("ETag")) })
	if again.status != http.StatusNotModified {
		t.Errorf("/ with its own ETag answers %d", again.status)
	}
	script := get(t, r, "/assets/main-abc.js", func(q *http.Request) { q.Header.Set("Accept-Encoding", "gzip") })
	if e := script.header.Get("Content-Encoding"); e != "gzip" {
		t.Errorf("a long script comes as %q, want gzip", e)
	}
	if c := script.header.Get("Cache-Control"); !strings.Contains(c, "immutable") {
		t.Errorf("Cache-Control of a file named after its content is %q", c)
	}
	if missing := get(t, r, "/assets/other.js", nil); missing.status != http.StatusNotFound {
		t.Errorf("a file that is not there: %d", missing.status)
	}
	if metrics := get(t, r, "/metrics", nil); metrics.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control of what the agent knows is %q", metrics.header.Get("Cache-Control"))
	}
}

func TestPageNeedsNoTokenAndItsDataDoes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, func(c *Config) { c.Page, c.TokenFile = testPage(), file })
	for path, want := range map[string]int{"/": http.StatusOK, "/assets/main-abc.js": http.StatusOK,
		"/metrics": http.StatusUnauthorized, "/other": http.StatusUnauthorized,
		"/vigie.v1.Vigie/GetStatus?encoding=json&message=%7B%7D&connect=v1": http.StatusUnauthorized} {
		if got := get(t, r, path, nil); got.status != want {
			t.Errorf("%s without a token answers %d, want %d", path, got.status, want)
		}
	}
}

func TestPageMayBeLinkedToAndNotRebound(t *testing.T) {
	r := start(t, func(c *Config) { c.Page = testPage() })
	link := func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") }
	if got := get(t, r, "/", link); got.status != http.StatusOK {
		t.Errorf("a link on another site to the page: %d", got.status)
	}
	if got := get(t, r, "/metrics", link); got.status != http.StatusForbidden {
		t.Errorf("another site asks for data: %d", got.status)
	}
	if got := get(t, r, "/", func(q *http.Request) { q.Host = "evil.example" }); got.status != http.StatusForbidden {
		t.Errorf("the page under another host's name: %d", got.status)
	}
}
