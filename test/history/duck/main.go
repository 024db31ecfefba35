// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// Command duck times a question that DuckDB answers: the peer of `vigie query` in make bench. In: the number of runs and
// SQL, as arguments. Out: a line for each run, nanoseconds of CPU time and rows.
package main

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "duck:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("want the number of runs, and SQL")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("runs: %w", err)
	}
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec("SET threads = 1"); err != nil { // as vigie
		return err
	}
	for range n {
		before, err := cpu()
		if err != nil {
			return err
		}
		rows, err := count(db, args[1])
		if err != nil {
			return err
		}
		after, err := cpu()
		if err != nil {
			return err
		}
		fmt.Println((after - before).Nanoseconds(), rows)
	}
	return nil
}

// cpu is the CPU time of this process: wall time would be the machine's.
func cpu() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

func count(db *sql.DB, question string) (n int, err error) {
	rows, err := db.Query(question)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}
