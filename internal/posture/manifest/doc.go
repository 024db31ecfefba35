// SPDX-License-Identifier: Apache-2.0

// Package manifest reads YAML and JSON as kubectl and the API server do, and remembers where each value stands.
// In: a stream of documents. Out: one Document at a time, so that memory depends on the largest document and
// not on the file; a broken document is told with its line and the next ones are read all the same.
package manifest
