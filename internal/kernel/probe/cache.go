// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"sync"
)

// Cache answers what this kernel can do and keeps nothing but the answers: neither the kernel's type information, some 20 MB,
// nor the cgroup and the network namespace that tests need.
type Cache struct {
	options Options

	mu    sync.Mutex
	known map[Feature]Result
}

// NewCache returns one that has tested nothing yet.
func NewCache(o Options) *Cache { return &Cache{options: o, known: make(map[Feature]Result)} }

// Probe tests those of the named features that were not asked for before, and returns all results in the order of names.
func (c *Cache) Probe(ctx context.Context, names ...Feature) ([]Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []Feature
	for _, name := range names {
		if _, ok := c.known[name]; !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		report, err := RunFor(ctx, c.options, missing...)
		if err != nil {
			return nil, fmt.Errorf("find out what the kernel can do: %w", err)
		}
		for _, r := range report.Results {
			c.known[r.Name] = r
		}
	}
	results := make([]Result, len(names))
	for i, name := range names {
		results[i] = c.known[name]
	}
	return results, nil
}
