// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// Writer writes a capture. Not safe for concurrent use.
type Writer struct {
	file    *os.File
	boot    string
	zstd    *zstd.Encoder
	block   []byte // events that wait for their frame
	waiting uint64 // how many
	events  uint64 // in the file
	size    int64
	packed  []byte // the block, compressed
	frame   []byte
	err     error // the first one: nothing is written after it
}

// Create makes a capture file, readable by its owner alone: it holds command lines. It fails where the
// file exists, unless overwrite.
func Create(path string, h Header, overwrite bool) (*Writer, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if overwrite {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create capture: %w", err)
	}
	w, err := newWriter(f, h)
	if err != nil {
		err = errors.Join(err, f.Close())
		if !overwrite {
			err = errors.Join(err, os.Remove(path)) // it is ours
		}
		return nil, err
	}
	return w, nil
}

func newWriter(f *os.File, h Header) (*Writer, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("prepare compression: %w", err)
	}
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode the header: %w", err)
	}
	w := &Writer{file: f, boot: h.BootID[:min(len(h.BootID), 8)], zstd: encoder}
	w.frame = binary.LittleEndian.AppendUint16(append(w.frame, magic...), version)
	w.frame = appendFrame(w.frame, kindHeader, head)
	return w, w.write()
}

// Write adds events. On an error, a full disk say, the file keeps the whole frames before it, and the
// writer gives the same error ever after.
func (w *Writer) Write(batch []*model.Event) error {
	for _, e := range batch {
		if w.err != nil {
			return w.err
		}
		m := wire.ToProto(e, w.boot)
		w.block = binary.AppendUvarint(w.block, uint64(proto.Size(m)))
		var err error
		if w.block, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(w.block, m); err != nil {
			w.err = fmt.Errorf("encode an event: %w", err)
			return w.err
		}
		if w.waiting++; len(w.block) >= blockBytes || w.waiting >= blockEvents {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	return w.err
}

// Flush hands what was written to the operating system: a crash of this process does not cost it.
func (w *Writer) Flush() error {
	if w.err != nil || w.waiting == 0 {
		return w.err
	}
	w.packed = w.zstd.EncodeAll(w.block, w.packed[:0])
	w.frame = appendFrame(w.frame[:0], kindEvents, w.packed)
	if err := w.write(); err != nil {
		return err
	}
	w.events += w.waiting
	w.block, w.waiting = w.block[:0], 0
	return nil
}

// write writes w.frame whole or not at all.
func (w *Writer) write() error {
	if _, err := w.file.WriteAt(w.frame, w.size); err != nil {
		w.err = fmt.Errorf("write capture: %w", err)
		if cut := w.file.Truncate(w.size); cut != nil {
			// A device, say. A reader finds the part of a frame and stops before it.
			w.err = fmt.Errorf("%w (its end could not be tidied: %w)", w.err, cut)
		}
		return w.err
	}
	w.size += int64(len(w.frame))
	return nil
}

// Size is how long the file is, in bytes.
func (w *Writer) Size() int64 { return w.size }

// Events is how many events are in the file, those that wait for Flush not among them.
func (w *Writer) Events() uint64 { return w.events }

// Close writes what waits and the end, and closes the file. Its error is the writer's first one.
func (w *Writer) Close() error {
	if w.Flush() == nil {
		w.frame = appendFrame(w.frame[:0], kindEnd, binary.LittleEndian.AppendUint64(nil, w.events))
		if w.write() == nil {
			if err := w.file.Sync(); err != nil && w.err == nil {
				w.err = fmt.Errorf("write capture to the disk: %w", err)
			}
		}
	}
	return errors.Join(w.err, w.file.Close(), w.zstd.Close())
}
