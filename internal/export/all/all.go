// SPDX-License-Identifier: Apache-2.0

// Package all lists the exporters. In: where to export to. Out: an exporter for each place. A new
// exporter is its folder and one entry here.
package all

import (
	"errors"
	"io"
	"log/slog"

	"github.com/vigie-io/vigie/internal/export"
	"github.com/vigie-io/vigie/internal/export/json"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// Options say where to export to; an empty destination is no exporter.
type Options struct {
	JSON   string // file, or "-" for Stdout
	Stdout io.Writer
	Boot   string // the beginning of the boot id, as exec_ids carry it
	Log    *slog.Logger
	Losses *pipeline.Losses
}

// Exporters opens the exporters that o asks for. Errors: those of each that could not be opened; then
// none is.
func Exporters(o Options) ([]export.Exporter, error) {
	var list []export.Exporter
	var errs []error
	for _, make := range []func(Options) (export.Exporter, error){
		jsonExporter,
	} {
		e, err := make(o)
		if err != nil {
			errs = append(errs, err)
		} else if e != nil {
			list = append(list, e)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return list, nil
}

func jsonExporter(o Options) (export.Exporter, error) {
	if o.JSON == "" {
		return nil, nil
	}
	return json.New(json.Options{Path: o.JSON, Stdout: o.Stdout, Boot: o.Boot, Log: o.Log, Losses: o.Losses})
}
