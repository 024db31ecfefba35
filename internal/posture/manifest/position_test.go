// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"strings"
	"testing"
)

// What stands in no file is found as if its JSON had been read.
func TestUnwritten(t *testing.T) {
	text := []byte(`{"spec":{"containers":[{"name":"a","tty":true,"port":8080,"empty":null,"big":9007199254740993}]}}`)
	read, err := NewReader(bytes.NewReader(text), "x").Next()
	if err != nil || read.Err != nil {
		t.Fatal(err, read.Err)
	}
	made, err := Unwritten("x", text)
	if err != nil {
		t.Fatal(err)
	}
	if !made.Written() {
		t.Error("nothing can be found in it")
	}
	for _, path := range []string{"spec", "spec containers", "spec containers 0", "spec containers 0 name", "spec containers 0 tty", "spec containers 0 port", "spec containers 0 empty",
		"spec containers 0 big", "spec containers 1", "spec none"} {
		want, got := read.At(strings.Fields(path)), made.At(strings.Fields(path))
		if got.Value != want.Value || got.Found != want.Found || got.File != "x" || got.Line != 1 {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	if _, err := Unwritten("x", []byte(`{"a"`)); err == nil {
		t.Error("half an object is read")
	}
}
