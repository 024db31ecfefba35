// SPDX-License-Identifier: Apache-2.0

// Package capture keeps events in a file, to look at them again elsewhere. In: batches of events, and a
// header that says where they come from. Out: a file, and from it the same events again, at the pace in
// which they happened or as fast as it goes.
//
// A capture is the eight bytes "vigiecap", a version (16 bits; all numbers are little-endian), and
// frames. A frame is its kind (8 bits), the length of its payload (32 bits), the CRC-32C of kind, length
// and payload (32 bits), and the payload:
//
//	header  JSON of Header; the first frame
//	events  zstd of vigie.v1.Event messages, each after its length as a varint
//	end     the number of events (64 bits); missing when the recording was interrupted
//
// Each frame stands alone, so that what was written before a crash, a full disk or a flipped bit can be
// played.
package capture

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

const (
	magic       = "vigiecap"
	version     = 1
	prefixSize  = len(magic) + 2
	frameHeader = 1 + 4 + 4

	kindHeader = 1
	kindEvents = 2
	kindEnd    = 3

	// What a writer puts into a frame, and what a reader accepts: a hostile file must not cost more memory.
	blockBytes   = 512 << 10
	blockEvents  = 8192
	maxPayload   = 4 << 20
	maxBlock     = 8 << 20 // uncompressed
	maxPerBlock  = 65_536  // events
	maxTextBytes = 64 << 10
)

// Header says where a capture comes from.
type Header struct {
	BootID  string    `json:"boot_id"`
	Host    string    `json:"host"`
	Kernel  string    `json:"kernel,omitempty"`
	Arch    string    `json:"arch,omitempty"`
	Version string    `json:"version,omitempty"` // of the agent
	Start   time.Time `json:"start"`             // of the recording
}

// Error says that a file is no capture or is damaged. What is whole before Offset was delivered.
type Error struct {
	Offset int64 // of the frame, in bytes
	Reason string
	// Interrupted: the file ends without an end frame, between or within frames. Nothing that is there
	// is wrong.
	Interrupted bool
}

// Error is "capture at byte N: why".
func (e *Error) Error() string { return fmt.Sprintf("capture at byte %d: %s", e.Offset, e.Reason) }

// appendFrame appends a frame to dst.
func appendFrame(dst []byte, kind byte, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, kind)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.LittleEndian.AppendUint32(dst, checksum(dst[start:start+5], payload))
	return append(dst, payload...)
}

// checksum covers a frame but for the checksum itself.
func checksum(head, payload []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(head, table), table, payload)
}
