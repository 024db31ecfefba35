// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

func TestPathTemplate(t *testing.T) {
	for path, want := range map[string]string{
		"/":                                  "/",
		"":                                   "/",
		"/api/v1/users":                      "/api/v1/users",
		"/users/4711/orders/12?token=secret": "/users/{id}/orders/{id}",
		"/a#secret":                          "/a",
		"/f/7d444840-9dc0-11d1-b245-5ffdce74fad2":           "/f/{id}",
		"/blob/da39a3ee5e6b4b0d3255bfef95601890afd80709.js": "/blob/{id}.js",
		"/report-2024-10-01.pdf":                            "/report-{id}.pdf",
		"/user/anna@example.org":                            "/user/{id}",
		"/user/anna%40example.org":                          "/user/{id}",
		"/reset/Zk3xQ9pLm2Vt8RbY":                           "/reset/{id}",
		"/reset/ZkQxRQpLmAVtBRbYcdEf":                       "/reset/{id}",
		"/a;jsessionid=secret/b":                            "/a/b",
		"/v2/web-7f9c4d5b6-x2x9z/logs":                      "/v2/web-{id}-x2x9z/logs",
		"/x/" + strings.Repeat("long", 20):                  "/x/{id}",
		"/static/app.css":                                   "/static/app.css",
		"//double//slash":                                   "//double//slash",
		strings.Repeat("/a", 20):                            strings.Repeat("/a", 16) + "/…",
	} {
		if got := PathTemplate([]byte(path)); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func TestHost(t *testing.T) {
	for host, want := range map[string]string{"h:80": "h:80", "user:secret@h": "h", "a@b@c": "c", "": ""} {
		if got := Host([]byte(host)); got != want {
			t.Errorf("%q: %q", host, got)
		}
	}
}

func TestTraceParent(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for v, want := range map[string]bool{
		good:                      true,
		good + "-more":            false, // of version 00
		"01" + good[2:] + "-more": true,
		"01" + good[2:] + "more":  false,
		"ff" + good[2:]:           false,
		strings.ToUpper(good):     false,
		good[:54]:                 false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": false,
		"": false,
	} {
		var r model.Request
		TraceParent(&r, []byte(v))
		if got := r.TraceID != ""; got != want || got && (r.ParentSpanID != "00f067aa0ba902b7" || !r.Sampled) {
			t.Errorf("%q: %+v", v, r)
		}
	}
}
