// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestLogIsHeldAndWarningsAreNoticed(t *testing.T) {
	held, notices := new(heldLog), make(chan string, 1)
	log := slog.New(noticeHandler{slog.NewTextHandler(held, nil), notices}).With("part", "x")
	log.Info("fine")
	log.Warn("disk full", "path", "/a")
	log.Error("nobody reads") // must not block
	if got := <-notices; got != "warn: disk full  path=/a" {
		t.Errorf("notice %q", got)
	}
	var out bytes.Buffer
	held.printTo(&out)
	for _, want := range []string{"msg=fine part=x", `msg="disk full" part=x path=/a`, "nobody reads"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %q: %s", want, out.String())
		}
	}
	for i := range heldLines + 5 {
		fmt.Fprintf(held, "line %d\n", i)
	}
	out.Reset()
	held.printTo(&out)
	if n := strings.Count(out.String(), "\n"); n != heldLines+1 || !strings.HasPrefix(out.String(), "(8 earlier log lines") {
		t.Errorf("%d lines: %.80q", n, out.String())
	}
}
