// SPDX-License-Identifier: Apache-2.0

// Command image writes the container image of vigie. In: its static binary. Out: an archive for `ctr images import`, `docker load`
// and registry tools; see internal/image. The image holds the binary and nothing else.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"

	"github.com/vigie-io/vigie/internal/image"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	fs := flag.NewFlagSet("image", flag.ContinueOnError)
	out := fs.String("o", "", "the archive to write")
	binary := fs.String("binary", "bin/vigie", "static binary of vigie")
	version := fs.String("version", "", "of vigie: the image's tag")
	repository := fs.String("repository", "ghcr.io/vigie-io/vigie", "name of the image, without tag")
	arch := fs.String("arch", runtime.GOARCH, "for which the binary is")
	plain := fs.Bool("uncompressed", false, "larger, and quicker to write and import")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *out == "" || *version == "" {
		return errors.New("give -o FILE and -version VERSION")
	}
	f, err := os.Create(*out)
	if err != nil {
		return err
	}
	defer f.Close()
	im := image.Image{Name: *repository + ":" + *version, Architecture: *arch, Uncompressed: *plain,
		Files:      []image.File{{Path: "/vigie", Source: *binary}},
		Entrypoint: []string{"/vigie"}, Env: []string{"PATH=/"},
		Labels: map[string]string{
			"org.opencontainers.image.title":   "vigie",
			"org.opencontainers.image.source":  "https://github.com/vigie-io/vigie",
			"org.opencontainers.image.version": *version, "org.opencontainers.image.licenses": "Apache-2.0",
		}}
	if err := im.Write(f); err != nil {
		return err
	}
	return f.Close()
}
