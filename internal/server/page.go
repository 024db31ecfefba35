// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// The page may load what this server serves and nothing else, run no script and no style that stands in a document,
// send nothing elsewhere, and be put in no frame. Styles that scripts set on elements are not styles in a document.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
	"connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// page is the web page: files that anybody may have who reaches the port. What they show comes from the API, which asks
// for the token.
type page map[string]*pageFile

type pageFile struct {
	tag, kind string
	body      func() ([]byte, error) // read when it is asked for: the page is larger than much that the agent keeps
	// lasting: the name changes with the content, so that a browser need not ask again.
	lasting bool
	gzip    func() []byte // made when it is first asked for; nil where it would be no shorter
}

// readPage reads the built page. An error means that the binary was built wrongly.
func readPage(files fs.FS) (page, error) {
	p := make(page)
	if files == nil {
		return p, nil
	}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f := &pageFile{body: func() ([]byte, error) { return fs.ReadFile(files, name) }, kind: contentType(name),
			lasting: strings.HasPrefix(name, "assets/")}
		body, err := f.body()
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		f.tag = `"` + hex.EncodeToString(sum[:8]) + `"`
		f.gzip = sync.OnceValue(func() []byte {
			body, err := f.body()
			if err != nil {
				return nil // it is served as it is, or the error told
			}
			return compress(body)
		})
		p["/"+name] = f
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the web page: %w", err)
	}
	if index := p["/index.html"]; index != nil {
		p["/"] = index
	}
	return p, nil
}

// has reports whether r asks for a file of the page.
func (p page) has(r *http.Request) bool {
	return p[r.URL.Path] != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead)
}

// ServeHTTP implements http.Handler.
func (p page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := p[r.URL.Path]
	if !p.has(r) {
		http.Error(w, "nothing is here: the page is at /, metrics are at /metrics", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", f.kind)
	h.Set("ETag", f.tag)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if f.lasting {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		if short := f.gzip(); short != nil {
			h.Set("Content-Encoding", "gzip")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(short))
			return
		}
	}
	body, err := f.body()
	if err != nil {
		http.Error(w, "read the web page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// contentType is fixed, where the machine's own table of types may say anything.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".md":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// compress is body in gzip, or nil when that is hardly shorter.
func compress(body []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(body); err != nil || w.Close() != nil || b.Len() > len(body)*9/10 {
		return nil
	}
	return b.Bytes()
}
