// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"context"
	"testing"

	"connectrpc.com/connect"
)

func TestStreamsAreCounted(t *testing.T) {
	s := NewStreams("test", 1, 0)
	first, err := s.Open(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(context.Background(), nil); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("one too many: %v", err)
	}
	if list := s.Subscribers(); len(list) != 0 {
		t.Errorf("a stream without events is listed: %v", list)
	}
	first.Close()
	s.Wait()
	if _, err := s.Open(context.Background(), nil); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("at the end: %v", err)
	}
}
