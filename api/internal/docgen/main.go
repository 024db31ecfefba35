// SPDX-License-Identifier: Apache-2.0

// Command docgen writes docs/events.md: the fields of every event, from the comments of the definitions,
// and an example of each type as the agent prints it. In: the current directory, which is api. Out:
// ../docs/events.md.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(context.Background(), "."); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root string) error {
	page, err := generate(ctx, root)
	if err != nil {
		return err
	}
	if err := os.WriteFile(pagePath(root), page, 0o644); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func pagePath(root string) string { return filepath.Join(root, "..", "docs", "events.md") }
