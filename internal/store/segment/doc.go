// SPDX-License-Identifier: Apache-2.0

// Package segment is the form of history on disk: Parquet files with flat columns, one schema for each family of event
// types. In: events in the order of their numbers. Out: a file that any engine reads; of a file, the events again, all of
// them or those that a Scan asks for, reading no more columns and pages than that needs. docs/history.md lists the
// columns; a test holds it to this package.
package segment
