// SPDX-License-Identifier: Apache-2.0

// Command gen writes schema.json.gz: of the OpenAPI documents of a version of Kubernetes the types of all fields, without a word of
// their descriptions. It asks the Go module proxy for that version. Run it by make schema for a new minor version of Kubernetes.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() { os.Exit(run()) } //nolint:forbidigo // this is main

func run() int {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: gen VERSION FILE, as in gen v1.37.2 schema.json.gz")
		return 2
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "make the schema:", err)
		return 1
	}
	return 0
}

func write(release, name string) error {
	out, err := exec.Command("go", "mod", "download", "-json", "k8s.io/kubernetes@"+release).Output() //nolint:gosec // the version is the caller's
	if err != nil {
		return fmt.Errorf("download k8s.io/kubernetes@%s: %w: %s", release, err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return fmt.Errorf("read what go mod download says: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(module.Dir, "api/openapi-spec/v3/*.json"))
	if err != nil || len(files) == 0 {
		return errors.Join(err, fmt.Errorf("no OpenAPI documents in %s", module.Dir))
	}
	all := map[string]any{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var document struct {
			Components struct{ Schemas map[string]map[string]any }
		}
		if err := json.Unmarshal(text, &document); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for name, schema := range document.Components.Schemas {
			all[name] = types(schema)
		}
	}
	text, err := json.Marshal(map[string]any{"kubernetes": release, "schemas": all})
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(name, packed.Bytes(), 0o644) //nolint:gosec // it is committed
}

// types is what a schema says of types.
func types(schema map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range schema {
		switch key {
		case "format":
			if value == "int-or-string" { // no format of a value, and written as an extension in newer schemas
				key, value = "x-kubernetes-int-or-string", true
			}
			out[key] = value
		case "type", "required", "enum", "$ref", "x-kubernetes-group-version-kind", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
			"x-kubernetes-map-type", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "minimum", "maximum", "pattern":
			out[key] = value
		case "properties":
			properties := map[string]any{}
			for name, p := range value.(map[string]any) { //nolint:forcetypeassert // else it is no OpenAPI
				properties[name] = types(p.(map[string]any)) //nolint:forcetypeassert // else it is no OpenAPI
			}
			out[key] = properties
		case "items", "additionalProperties":
			if one, ok := value.(map[string]any); ok {
				out[key] = types(one)
			} else {
				out[key] = value
			}
		case "oneOf", "anyOf", "allOf":
			var list []any
			for _, one := range value.([]any) { //nolint:forcetypeassert // else it is no OpenAPI
				list = append(list, types(one.(map[string]any))) //nolint:forcetypeassert // else it is no OpenAPI
			}
			out[key] = list
		}
	}
	return out
}
