// SPDX-License-Identifier: Apache-2.0

package kafka

import (
	"encoding/binary"
	"strconv"
)

// cursor reads fields one after the other. What is not there is zero, and bad.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 {
		n = 0 // null
	}
	if n > len(c.b) {
		c.b, c.bad = nil, true
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) i16() int16 {
	if b := c.bytes(2); len(b) == 2 {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) i32() int32 {
	if b := c.bytes(4); len(b) == 4 {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (c *cursor) uvarint() int {
	v, n := binary.Uvarint(c.b)
	if n <= 0 || v > maxSize {
		c.b, c.bad = nil, true
		return 0
	}
	c.b = c.b[n:]
	return int(v)
}

// tags passes over tagged fields.
func (c *cursor) tags() {
	for range min(c.uvarint(), 16) {
		c.uvarint()
		c.bytes(c.uvarint())
	}
}

// text reads a string, with a length before it that a compact one has one larger.
func (c *cursor) text(compact bool) []byte {
	if compact {
		return c.bytes(c.uvarint() - 1)
	}
	return c.bytes(int(c.i16()))
}

// array reads how many elements follow.
func (c *cursor) array(compact bool) int {
	if compact {
		return c.uvarint() - 1
	}
	return int(c.i32())
}

// topic is a name, if it looks like one: Kafka allows no other.
func topic(b []byte, bad bool) string {
	if bad || len(b) == 0 || len(b) > 249 {
		return ""
	}
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return ""
		}
	}
	return string(b)
}

// produceTopic is the first topic that is written to, and how many brokers are to confirm. From version 13 on topics have no names.
func produceTopic(h head) (acks int16, name string) {
	c := cursor{b: h.body}
	compact := h.version >= apis[keyProduce].flexible
	if h.version >= 3 {
		c.text(compact) // of a transaction
	}
	acks = c.i16()
	c.i32() // timeout
	if c.bad {
		return 1, ""
	}
	if h.version >= 13 || c.array(compact) < 1 {
		return acks, ""
	}
	b := c.text(compact)
	return acks, topic(b, c.bad)
}

// fetchTopic is the first topic that is read. From version 13 on topics have no names.
func fetchTopic(h head) string {
	if h.version >= 13 {
		return ""
	}
	c := cursor{b: h.body}
	compact := h.version >= apis[keyFetch].flexible
	c.bytes(4 + 4 + 4) // replica, longest wait, least bytes
	if h.version >= 3 {
		c.bytes(4) // most bytes
	}
	if h.version >= 4 {
		c.bytes(1) // isolation
	}
	if h.version >= 7 {
		c.bytes(4 + 4) // session
	}
	if c.array(compact) < 1 {
		return ""
	}
	b := c.text(compact)
	return topic(b, c.bad)
}

// errorOf reads an answer's error, behind the correlation number; 0 when there is none, or it is not where it is looked for.
func errorOf(h head, c *cursor) int16 {
	a := apis[h.key]
	if a.flexible > 0 && h.version >= a.flexible {
		c.tags()
	}
	switch {
	case h.key == keyProduce && h.version < 13:
		return producedError(h, c)
	case h.key == keyFetch && h.version >= 7:
		c.i32()
		return c.i16()
	case a.errorAt == atOnce:
		return c.i16()
	case a.errorAt == throttled && h.version >= 2:
		c.i32()
		return c.i16()
	}
	return 0
}

// producedError is that of the first partition.
func producedError(h head, c *cursor) int16 {
	compact := h.version >= apis[keyProduce].flexible
	if c.array(compact) < 1 {
		return 0
	}
	c.text(compact)
	if c.array(compact) < 1 {
		return 0
	}
	c.i32()
	return c.i16()
}

// errorNames are the errors that are met most; the others are told by number.
var errorNames = map[int16]string{-1: "UNKNOWN_SERVER_ERROR", 1: "OFFSET_OUT_OF_RANGE", 2: "CORRUPT_MESSAGE", 3: "UNKNOWN_TOPIC_OR_PARTITION",
	5: "LEADER_NOT_AVAILABLE", 6: "NOT_LEADER_OR_FOLLOWER", 7: "REQUEST_TIMED_OUT", 10: "MESSAGE_TOO_LARGE", 14: "COORDINATOR_LOAD_IN_PROGRESS",
	15: "COORDINATOR_NOT_AVAILABLE", 16: "NOT_COORDINATOR", 17: "INVALID_TOPIC_EXCEPTION", 19: "NOT_ENOUGH_REPLICAS", 20: "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
	22: "ILLEGAL_GENERATION", 25: "UNKNOWN_MEMBER_ID", 27: "REBALANCE_IN_PROGRESS", 29: "TOPIC_AUTHORIZATION_FAILED", 30: "GROUP_AUTHORIZATION_FAILED",
	31: "CLUSTER_AUTHORIZATION_FAILED", 33: "UNSUPPORTED_SASL_MECHANISM", 35: "UNSUPPORTED_VERSION", 36: "TOPIC_ALREADY_EXISTS", 42: "INVALID_REQUEST",
	45: "OUT_OF_ORDER_SEQUENCE_NUMBER", 47: "INVALID_PRODUCER_EPOCH", 56: "KAFKA_STORAGE_ERROR", 58: "SASL_AUTHENTICATION_FAILED", 70: "FETCH_SESSION_ID_NOT_FOUND",
	71: "INVALID_FETCH_SESSION_EPOCH", 79: "MEMBER_ID_REQUIRED", 82: "FENCED_INSTANCE_ID", 90: "PRODUCER_FENCED"}

func errorName(code int16) string {
	if n := errorNames[code]; n != "" {
		return n
	}
	return "ERROR " + strconv.Itoa(int(code))
}
