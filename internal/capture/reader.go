// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// Reader reads a capture. Not safe for concurrent use.
type Reader struct {
	in     *bufio.Reader
	closer io.Closer
	zstd   *zstd.Decoder
	header Header
	offset int64 // of the next frame
	events uint64
	err    error // sticky
}

// Open opens a capture file. Errors: the file's, or *Error when it is no capture.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open capture: %w", err)
	}
	r, err := NewReader(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	r.closer = f
	return r, nil
}

// NewReader reads a capture from in. Errors: those of in, or *Error when it is no capture.
func NewReader(in io.Reader) (*Reader, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxBlock))
	if err != nil {
		return nil, fmt.Errorf("prepare decompression: %w", err)
	}
	r := &Reader{in: bufio.NewReader(in), zstd: decoder}
	if err := r.begin(); err != nil {
		decoder.Close()
		return nil, err
	}
	return r, nil
}

// begin reads what comes before the events.
func (r *Reader) begin() error {
	var prefix [prefixSize]byte
	_, err := io.ReadFull(r.in, prefix[:])
	short := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !short {
		return fmt.Errorf("read capture: %w", err)
	}
	if short || string(prefix[:len(magic)]) != magic {
		return &Error{Reason: "this is no capture of vigie record"}
	}
	if v := binary.LittleEndian.Uint16(prefix[len(magic):]); v != version {
		return &Error{Reason: fmt.Sprintf("version %d is not known here, version %d is: use the vigie that recorded it", v, version)}
	}
	r.offset = int64(prefixSize)
	at := r.offset
	kind, payload, err := r.frame()
	if err != nil {
		return err
	}
	if kind != kindHeader || len(payload) > maxTextBytes || json.Unmarshal(payload, &r.header) != nil {
		return &Error{Offset: at, Reason: "the header is damaged"}
	}
	return nil
}

// Header says where the capture comes from.
func (r *Reader) Header() Header { return r.header }

// Next returns the events of the next frame. Errors: io.EOF after the last one of a whole capture,
// *Error for one that is cut off or damaged, after everything that is whole before that.
func (r *Reader) Next() ([]*model.Event, error) {
	if r.err != nil {
		return nil, r.err
	}
	events, err := r.next()
	if err != nil {
		r.err = err
	}
	return events, err
}

func (r *Reader) next() ([]*model.Event, error) {
	at := r.offset
	kind, payload, err := r.frame()
	if err != nil {
		return nil, err
	}
	switch kind {
	case kindEvents:
		events, err := r.decode(payload)
		if err != nil {
			return nil, &Error{Offset: at, Reason: err.Error()}
		}
		r.events += uint64(len(events))
		return events, nil
	case kindEnd:
		if len(payload) != 8 || binary.LittleEndian.Uint64(payload) != r.events {
			return nil, &Error{Offset: at, Reason: fmt.Sprintf("the end speaks of another number of events than the %d read: some are missing", r.events)}
		}
		if _, err := r.in.ReadByte(); err == nil {
			return nil, &Error{Offset: r.offset, Reason: "something follows the end"}
		}
		return nil, io.EOF
	default:
		return nil, &Error{Offset: at, Reason: fmt.Sprintf("frames of kind %d are not known here", kind)}
	}
}

// decode takes a block of events apart.
func (r *Reader) decode(payload []byte) ([]*model.Event, error) {
	block, err := r.zstd.DecodeAll(payload, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	var events []*model.Event
	for len(block) > 0 {
		size, n := binary.Uvarint(block)
		if n <= 0 || size > uint64(len(block)-n) {
			return nil, errors.New("an event is longer than its block")
		}
		if len(events) == maxPerBlock {
			return nil, fmt.Errorf("a block has more than %d events", maxPerBlock)
		}
		var m pb.Event
		if err := proto.Unmarshal(block[n:n+int(size)], &m); err != nil {
			return nil, fmt.Errorf("decode an event: %w", err)
		}
		events = append(events, wire.FromProto(&m))
		block = block[n+int(size):]
	}
	return events, nil
}

// frame reads the next frame and checks it.
func (r *Reader) frame() (kind byte, payload []byte, err error) {
	var head [frameHeader]byte
	n, err := io.ReadFull(r.in, head[:])
	switch {
	case errors.Is(err, io.EOF):
		return 0, nil, &Error{Offset: r.offset, Reason: "the file ends without its end: the recording was interrupted", Interrupted: true}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return 0, nil, r.cutOff(n)
	case err != nil:
		return 0, nil, fmt.Errorf("read capture: %w", err)
	}
	size := binary.LittleEndian.Uint32(head[1:])
	if size > maxPayload {
		return 0, nil, &Error{Offset: r.offset, Reason: fmt.Sprintf("a frame claims %d bytes, at most %d are possible: it is damaged", size, maxPayload)}
	}
	payload = make([]byte, size)
	if got, err := io.ReadFull(r.in, payload); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, nil, r.cutOff(n + got)
		}
		return 0, nil, fmt.Errorf("read capture: %w", err)
	}
	if checksum(head[:5], payload) != binary.LittleEndian.Uint32(head[5:]) {
		return 0, nil, &Error{Offset: r.offset, Reason: "the checksum of a frame is wrong: it is damaged"}
	}
	r.offset += int64(frameHeader) + int64(size)
	return head[0], payload, nil
}

func (r *Reader) cutOff(have int) error {
	return &Error{Offset: r.offset, Reason: fmt.Sprintf("the file ends within a frame, after %d bytes of it: it is cut off", have), Interrupted: true}
}

// Close releases the reader and the file that Open opened.
func (r *Reader) Close() error {
	r.zstd.Close()
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}
