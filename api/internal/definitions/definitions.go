// SPDX-License-Identifier: Apache-2.0

// Package definitions reads the definitions of the API for what is generated from them. In: the api
// folder. Out: compiled files, comments included.
package definitions

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
)

// Compile compiles all of vigie/v1 below root, ordered by name.
func Compile(ctx context.Context, root string) (linker.Files, error) {
	names, err := filepath.Glob(filepath.Join(root, "vigie", "v1", "*.proto"))
	if err != nil {
		return nil, fmt.Errorf("list definitions: %w", err)
	}
	for i, name := range names {
		if names[i], err = filepath.Rel(root, name); err != nil {
			return nil, fmt.Errorf("list definitions: %w", err)
		}
	}
	slices.Sort(names)
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	return files, nil
}
