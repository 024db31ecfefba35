// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"testing"

	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/proto"
)

// What one client costs for an event: converted, filtered and written, or filtered out.
func BenchmarkEventForAClient(b *testing.B) {
	s := newScene()
	for name, q := range map[string]*tg.GetEventsRequest{
		"sent":         {},
		"filtered out": {AllowList: []*tg.Filter{{BinaryRegex: []string{"^/usr/bin/nothing$"}}}},
		"by CEL":       {AllowList: []*tg.Filter{{CelExpression: []string{`process_exec.process.binary == "/usr/bin/nothing"`}}}},
	} {
		b.Run(name, func(b *testing.B) {
			w, err := compileRequest(q, s.backend)
			if err != nil {
				b.Fatal(err)
			}
			st := &stream{wish: w, convert: newConverter(s.backend)}
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				if m := st.answer(s.events["curl"]); m != nil {
					if buf, err = (proto.MarshalOptions{}).MarshalAppend(buf[:0], m); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
