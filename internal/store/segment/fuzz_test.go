// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

// A damaged file is an error, never a crash, and never takes more memory than a whole one of its size could.
func FuzzDamagedSegment(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	families := Families()
	for _, typ := range []model.Type{model.TypeExec, model.TypeClose, model.TypeAlert, model.TypeLoss} {
		var events []*model.Event
		for i := range 40 {
			events = append(events, sample(rng, typ, uint64(i+1), 0.5))
		}
		file := write(f, FamilyOf(families, typ), events)
		f.Add(file, uint32(0), byte(0))
		f.Add(file[:len(file)/2], uint32(0), byte(0))
		for range 20 {
			f.Add(file, rng.Uint32(), byte(1+rng.IntN(255)))
		}
	}
	f.Fuzz(func(t *testing.T, file []byte, at uint32, flip byte) {
		if len(file) > 0 {
			file = bytes.Clone(file)
			file[int(at)%len(file)] ^= flip
		}
		s, err := Open(bytes.NewReader(file), int64(len(file)), families)
		if err != nil {
			return
		}
		for _, reverse := range []bool{false, true} {
			_, _ = readAll(s, Scan{Reverse: reverse, Tests: []Test{{Columns: []string{"workload_name"}, Text: func(string) bool { return true }}}})
		}
		_ = s.Cells(Scan{}, []string{"workload_name", "time", "process_binary"}, func([][]Cell) error { return nil })
		var out bytes.Buffer
		_, _ = Merge(&out, Options{}, []*Segment{s, s})
	})
}
