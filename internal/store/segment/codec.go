// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"github.com/klauspost/compress/zstd"
	parquetzstd "github.com/parquet-go/parquet-go/compress/zstd"
)

// Packer packs the pages of segments, one segment after the other. It is zstd with little memory: a page is 64 KiB, so that
// a window of megabytes, which the library's own codec takes for each of its encoders, would stay empty. What it takes is
// worth keeping from one segment to the next: about two megabytes, or a quarter of one when it is quick. The zero value is
// ready.
type Packer struct {
	Quick             bool // packs less: for segments that will be merged soon
	parquetzstd.Codec      // reads, and says what it is
	encoder           *zstd.Encoder
}

// Encode implements compress.Codec.
func (c *Packer) Encode(dst, src []byte) ([]byte, error) {
	if c.encoder == nil {
		level := zstd.SpeedDefault
		if c.Quick {
			level = zstd.SpeedFastest
		}
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level),
			zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
		if err != nil {
			return nil, err
		}
		c.encoder = e
	}
	return c.encoder.EncodeAll(src, dst[:0]), nil
}
