// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
)

var (
	errNoBTF     = errors.New("the kernel has no BTF of its own")
	errNoCgroup2 = errors.New("no cgroup v2 is mounted")
	// errNotCalled: the program loads and attaches, and what should have run it did not.
	errNotCalled = errors.New("the kernel attaches the program but never calls it")
	errNoPMU     = errors.New("the kernel has no such event source")
)

// missingError says that the kernel has no such tracepoint, function or type.
type missingError struct{ what string }

func (e *missingError) Error() string { return "the kernel has no " + e.what }

// refusedError is a verifier that does not know a helper or kfunc, or does not let this kind of
// program call it.
type refusedError struct {
	what string // "helper bpf_loop"
	line string // the verifier's own words
	err  error
}

func (e *refusedError) Error() string { return fmt.Sprintf("%s: %s", e.what, e.line) }
func (e *refusedError) Unwrap() error { return e.err }

// setupError is a test that could not be made: what it needs of the host was not to be had. It says
// nothing of the feature.
type setupError struct {
	what string // "make a network namespace"
	err  error
}

func (e *setupError) Error() string { return e.what + ": " + e.err.Error() }
func (e *setupError) Unwrap() error { return e.err }

// stepError says at which step a test failed.
type stepError struct {
	step string // "load", "attach", "run"
	err  error
}

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

func atLoad(err error) error   { return step("load", err) }
func atAttach(err error) error { return step("attach", err) }
func atRun(err error) error    { return step("run", err) }

func step(name string, err error) error {
	if err == nil {
		return nil
	}
	return &stepError{name, err}
}

func stepOf(err error) string {
	var s *stepError
	if errors.As(err, &s) {
		return s.step
	}
	return ""
}

// enotsupp is the kernel's internal ENOTSUPP, which bpf() lets out.
const enotsupp = unix.Errno(524)

func errnoOf(err error) model.Errno {
	var e unix.Errno
	if errors.As(err, &e) {
		return model.Errno(e)
	}
	return 0
}

// detailOf is the failed step and the last lines of the verifier's log, one line each.
func detailOf(err error) string {
	var lines []string
	if s := stepOf(err); s != "" {
		lines = append(lines, "failed at: "+s)
	}
	var v *loadError
	if errors.As(err, &v) {
		lines = append(lines, logTail(v.log, 3)...)
	}
	return strings.Join(lines, "\n")
}

// logTail is the last n lines of a verifier log that say something: its closing statistics do not.
func logTail(log []string, n int) []string {
	var kept []string
	for i := len(log) - 1; i >= 0 && len(kept) < n; i-- {
		line := strings.TrimSpace(log[i])
		if line == "" || strings.HasPrefix(line, "processed ") || strings.HasPrefix(line, "verification time") ||
			strings.HasPrefix(line, "stack depth") {
			continue
		}
		kept = append([]string{line}, kept...)
	}
	return kept
}
