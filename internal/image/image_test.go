// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sample is an image with a program and a document.
func sample(t *testing.T) Image {
	t.Helper()
	dir := t.TempDir()
	program, document := filepath.Join(dir, "program"), filepath.Join(dir, "document")
	if err := errors.Join(os.WriteFile(program, []byte("#!\n"), 0o700), os.WriteFile(document, []byte("hello"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return Image{Name: "registry.example:5000/a/b:v1", Architecture: "arm64", Entrypoint: []string{"/bin/program", "run"}, Env: []string{"PATH=/bin"},
		User: "1:2", Labels: map[string]string{"k": "v"},
		Files: []File{{Path: "/bin/program", Source: program}, {Path: "/usr/share/doc/document", Source: document}}}
}

// unpack reads an archive or a layer.
func unpack(t *testing.T, data []byte) (headers []*tar.Header, files map[string][]byte) {
	t.Helper()
	files = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return headers, files
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, h)
		files[h.Name] = body
	}
}

// follow returns the blob of a descriptor, whose digest and size must be true.
func follow(t *testing.T, files map[string][]byte, d descriptor) []byte {
	t.Helper()
	data, ok := files[blobPath(d.Digest)]
	if !ok || digest(data) != d.Digest || len(data) != d.Size {
		t.Fatalf("the blob of %+v is missing or another: %d bytes, %s", d, len(data), digest(data))
	}
	return data
}

func decode(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
}

func TestArchiveIsAnOCILayout(t *testing.T) {
	for _, uncompressed := range []bool{false, true} {
		t.Run(fmt.Sprintf("uncompressed=%v", uncompressed), func(t *testing.T) {
			im := sample(t)
			im.Uncompressed = uncompressed
			var out bytes.Buffer
			if err := im.Write(&out); err != nil {
				t.Fatal(err)
			}
			_, files := unpack(t, out.Bytes())
			var idx index
			decode(t, files["index.json"], &idx)
			if len(idx.Manifests) != 1 || string(files["oci-layout"]) != `{"imageLayoutVersion":"1.0.0"}` {
				t.Fatalf("index %+v, oci-layout %s", idx, files["oci-layout"])
			}
			if a := idx.Manifests[0].Annotations; a["io.containerd.image.name"] != im.Name || a["org.opencontainers.image.ref.name"] != "v1" {
				t.Errorf("the image's names are %v", a)
			}
			var man manifest
			decode(t, follow(t, files, idx.Manifests[0]), &man)
			var conf config
			decode(t, follow(t, files, man.Config), &conf)
			if conf.Architecture != "arm64" || conf.OS != "linux" || conf.Config.User != "1:2" || !slices.Equal(conf.Config.Entrypoint, im.Entrypoint) ||
				!slices.Equal(conf.Config.Env, im.Env) || conf.Config.Labels["k"] != "v" {
				t.Errorf("configuration %+v", conf)
			}
			layer := follow(t, files, man.Layers[0])
			if strings.HasSuffix(man.Layers[0].MediaType, "+gzip") == uncompressed {
				t.Errorf("the layer's type is %s", man.Layers[0].MediaType)
			}
			if !uncompressed {
				layer = gunzip(t, layer)
			}
			if got := digest(layer); conf.RootFS.DiffIDs[0] != got {
				t.Errorf("diff id %s, the layer's is %s", conf.RootFS.DiffIDs[0], got)
			}
			checkLayer(t, layer)
			checkDocker(t, files["manifest.json"], im.Name, man)
		})
	}
}

func gunzip(t *testing.T, data []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// checkLayer holds what is in the layer of the sample, folders before their files, and that nothing of this machine is in it.
func checkLayer(t *testing.T, layer []byte) {
	t.Helper()
	headers, files := unpack(t, layer)
	var got []string
	for _, h := range headers {
		got = append(got, fmt.Sprintf("%s %o", h.Name, h.Mode))
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s keeps an owner or a time: %+v", h.Name, h)
		}
	}
	want := []string{"etc/ 755", "tmp/ 1777", "bin/ 755", "bin/program 755", "usr/ 755", "usr/share/ 755", "usr/share/doc/ 755", "usr/share/doc/document 644"}
	if !slices.Equal(got, want) {
		t.Errorf("the layer has\n%q, want\n%q", got, want)
	}
	if string(files["usr/share/doc/document"]) != "hello" {
		t.Errorf("a file's content is %q", files["usr/share/doc/document"])
	}
}

func checkDocker(t *testing.T, data []byte, name string, man manifest) {
	t.Helper()
	var docker []dockerManifest
	decode(t, data, &docker)
	if len(docker) != 1 || docker[0].Config != blobPath(man.Config.Digest) || docker[0].Layers[0] != blobPath(man.Layers[0].Digest) || docker[0].RepoTags[0] != name {
		t.Errorf("manifest.json is %s", data)
	}
}

func TestSameInputSameBytes(t *testing.T) {
	im := sample(t)
	var first, second bytes.Buffer
	if err := errors.Join(im.Write(&first), im.Write(&second)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two archives of the same files differ")
	}
}

func TestRefusesWhatIsNoImage(t *testing.T) {
	for name, change := range map[string]func(*Image){
		"no name":       func(i *Image) { i.Name = "" },
		"no entrypoint": func(i *Image) { i.Entrypoint = nil },
		"relative path": func(i *Image) { i.Files[0].Path = "bin/program" },
		"dots":          func(i *Image) { i.Files[0].Path = "/bin/../program" },
		"missing file":  func(i *Image) { i.Files[0].Source += "-missing" },
	} {
		im := sample(t)
		change(&im)
		if err := im.Write(io.Discard); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTag(t *testing.T) {
	for name, want := range map[string]string{"a/b:v1": "v1", "a/b": "latest", "host:5000/b": "latest", "host:5000/b:c": "c"} {
		if got := (Image{Name: name}).tag(); got != want {
			t.Errorf("tag of %s is %q, want %q", name, got, want)
		}
	}
}
