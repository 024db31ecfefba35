// SPDX-License-Identifier: Apache-2.0

// Package image writes container images without a daemon. In: files and what to start. Out: an archive in the OCI image
// layout (https://github.com/opencontainers/image-spec) that `ctr images import`, `docker load`, `podman load`, `skopeo` and `crane`
// read: one layer, nothing below it. The same input makes the same bytes.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// Image says what is in an image.
type Image struct {
	Name         string   // its reference: "ghcr.io/vigie-io/vigie:v0.6.0"
	Architecture string   // as Go names it
	Files        []File   // of its only layer
	Entrypoint   []string // what starts
	Env          []string
	User         string            // "uid:gid"; empty: root
	Labels       map[string]string // org.opencontainers.image.* and others
	Uncompressed bool              // quicker to write and to import, larger
}

// File is a file of the layer.
type File struct {
	Path   string // in the image, absolute
	Source string // on this machine
}

const (
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// descriptor points at a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type (
	config struct {
		Architecture string        `json:"architecture"`
		OS           string        `json:"os"`
		Config       process       `json:"config"`
		RootFS       rootFS        `json:"rootfs"`
		History      []historyItem `json:"history"`
	}
	process struct {
		User       string            `json:"User,omitempty"`
		Env        []string          `json:"Env,omitempty"`
		Entrypoint []string          `json:"Entrypoint,omitempty"`
		Labels     map[string]string `json:"Labels,omitempty"`
	}
	rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	historyItem struct {
		CreatedBy string `json:"created_by"`
	}
	manifest struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}
	index struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}
	// dockerManifest is an element of manifest.json, by which docker load finds the parts.
	dockerManifest struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
)

// Write writes the archive. The layer is held in memory meanwhile.
func (i Image) Write(w io.Writer) error {
	if i.Name == "" || len(i.Entrypoint) == 0 || i.Architecture == "" {
		return errors.New("write an image: it needs a name, an architecture and an entrypoint")
	}
	plain, err := i.layer()
	if err != nil {
		return fmt.Errorf("write image %s: %w", i.Name, err)
	}
	packed, media := plain, mediaLayer
	if !i.Uncompressed {
		if packed, err = compress(plain); err != nil {
			return fmt.Errorf("write image %s: %w", i.Name, err)
		}
		media += "+gzip"
	}
	a := archive{tar: tar.NewWriter(w)}
	layer := a.blob(media, packed)
	conf := a.json(mediaConfig, config{Architecture: i.Architecture, OS: "linux",
		Config:  process{User: i.User, Env: i.Env, Entrypoint: i.Entrypoint, Labels: i.Labels},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{digest(plain)}},
		History: []historyItem{{CreatedBy: "vigie make image"}}})
	man := a.json(mediaManifest, manifest{SchemaVersion: 2, MediaType: mediaManifest, Config: conf, Layers: []descriptor{layer}})
	// containerd takes the whole reference from its own annotation; OCI's is for a tag, which other tools want.
	man.Annotations = map[string]string{"io.containerd.image.name": i.Name, "org.opencontainers.image.ref.name": i.tag()}
	a.document("index.json", index{SchemaVersion: 2, MediaType: mediaIndex, Manifests: []descriptor{man}})
	a.document("manifest.json", []dockerManifest{{Config: blobPath(conf.Digest), RepoTags: []string{i.Name}, Layers: []string{blobPath(layer.Digest)}}})
	a.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	if err := errors.Join(a.err, a.tar.Close()); err != nil {
		return fmt.Errorf("write image %s: %w", i.Name, err)
	}
	return nil
}

// tag is what stands behind the last colon of the reference; a colon before a slash belongs to a port.
func (i Image) tag() string {
	if at := strings.LastIndexByte(i.Name, ':'); at > strings.LastIndexByte(i.Name, '/') {
		return i.Name[at+1:]
	}
	return "latest"
}

// layer is a tar of the files and of the folders that they need, owned by root and without times.
func (i Image) layer() ([]byte, error) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	made := []string{"/"}
	var folder func(string) error
	folder = func(dir string) error {
		if slices.Contains(made, dir) {
			return nil
		}
		made = append(made, dir)
		if err := folder(path.Dir(dir)); err != nil {
			return err
		}
		mode := int64(0o755)
		if dir == "/tmp" {
			mode = 0o1777
		}
		return tw.WriteHeader(&tar.Header{Name: dir[1:] + "/", Typeflag: tar.TypeDir, Mode: mode})
	}
	// Runtimes mount files into /etc, and programs expect /tmp.
	for _, dir := range []string{"/etc", "/tmp"} {
		if err := folder(dir); err != nil {
			return nil, err
		}
	}
	for _, f := range i.Files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path {
			return nil, fmt.Errorf("%q is no clean absolute path", f.Path)
		}
		if err := folder(path.Dir(f.Path)); err != nil {
			return nil, err
		}
		if err := addFile(tw, f); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func addFile(tw *tar.Writer, f File) error {
	src, err := os.Open(f.Source)
	if err != nil {
		return err
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	// Of its mode only whether it can be run: the umask of who built it is not the image's.
	mode := int64(0o644)
	if st.Mode()&0o100 != 0 {
		mode = 0o755
	}
	if err := tw.WriteHeader(&tar.Header{Name: f.Path[1:], Typeflag: tar.TypeReg, Mode: mode, Size: st.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(tw, src)
	return err
}

func compress(plain []byte) ([]byte, error) {
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	if _, err := zw.Write(plain); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// archive is the tar around it all. Its first error stays.
type archive struct {
	tar *tar.Writer
	err error
}

func (a *archive) file(name string, data []byte) {
	if a.err != nil {
		return
	}
	if a.err = a.tar.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}); a.err == nil {
		_, a.err = a.tar.Write(data)
	}
}

func (a *archive) document(name string, v any) {
	data, err := json.Marshal(v)
	if err != nil && a.err == nil {
		a.err = err
	}
	a.file(name, data)
}

func (a *archive) blob(media string, data []byte) descriptor {
	d := descriptor{MediaType: media, Digest: digest(data), Size: len(data)}
	a.file(blobPath(d.Digest), data)
	return d
}

func (a *archive) json(media string, v any) descriptor {
	data, err := json.Marshal(v)
	if err != nil && a.err == nil {
		a.err = err
	}
	return a.blob(media, data)
}

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }
