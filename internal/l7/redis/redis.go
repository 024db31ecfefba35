// SPDX-License-Identifier: Apache-2.0

// Package redis parses RESP, versions 2 and 3 (Redis's documentation, "Redis serialization protocol specification"). In: what
// client and server of one connection say. Out: one request for each command, with the pattern of its key and the word of
// its error. Values, other arguments and passwords are not kept.
package redis

import (
	"bytes"
	"strings"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/model"
)

// Protocol is Redis, for the list of protocols.
func Protocol() l7.Protocol {
	return l7.Protocol{Name: "redis", Detect: detect, New: func(emit l7.Emit, counts *l7.Counts) l7.Parser { return &parser{emit: emit, counts: counts} }}
}

const (
	maxLine = 512 // of a line: what is longer is no length and no error that is read
	maxWord = 32  // of a command's name
	maxKey  = 128 // of a key that is made a pattern
)

// keyed are the commands whose first argument is a key.
var keyed = words(`GET SET SETNX SETEX PSETEX GETSET GETDEL GETEX APPEND STRLEN INCR DECR INCRBY DECRBY INCRBYFLOAT GETRANGE SETRANGE SETBIT GETBIT
	BITCOUNT BITPOS BITFIELD DEL UNLINK EXISTS EXPIRE PEXPIRE EXPIREAT PEXPIREAT TTL PTTL PERSIST TYPE DUMP RESTORE RENAME RENAMENX MOVE COPY TOUCH
	SORT MGET MSET MSETNX HSET HSETNX HMSET HGET HMGET HGETALL HDEL HLEN HKEYS HVALS HEXISTS HINCRBY HINCRBYFLOAT HSCAN HSTRLEN HRANDFIELD
	LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LLEN LRANGE LINDEX LSET LREM LTRIM LINSERT LPOS LMOVE RPOPLPUSH BLPOP BRPOP BRPOPLPUSH BLMOVE
	SADD SREM SMEMBERS SISMEMBER SMISMEMBER SCARD SPOP SRANDMEMBER SMOVE SINTER SUNION SDIFF SINTERSTORE SUNIONSTORE SDIFFSTORE SSCAN
	ZADD ZREM ZSCORE ZMSCORE ZINCRBY ZCARD ZCOUNT ZRANGE ZREVRANGE ZRANGEBYSCORE ZREVRANGEBYSCORE ZRANK ZREVRANK ZREMRANGEBYSCORE ZREMRANGEBYRANK
	ZPOPMIN ZPOPMAX BZPOPMIN BZPOPMAX ZSCAN ZRANGESTORE ZLEXCOUNT ZRANGEBYLEX PFADD PFCOUNT PFMERGE GEOADD GEODIST GEOHASH GEOPOS GEOSEARCH
	XADD XLEN XRANGE XREVRANGE XDEL XTRIM XACK XCLAIM XAUTOCLAIM XPENDING JSON.GET JSON.SET JSON.DEL`)

// other are the remaining ones that a connection can begin with.
var other = words(`PING ECHO AUTH HELLO SELECT QUIT CLIENT CONFIG INFO COMMAND MULTI EXEC DISCARD WATCH UNWATCH EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL
	SCRIPT FUNCTION KEYS SCAN DBSIZE FLUSHDB FLUSHALL RANDOMKEY SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE PUBLISH SPUBLISH PUBSUB
	MONITOR SYNC PSYNC REPLCONF REPLICAOF SLAVEOF ROLE CLUSTER READONLY READWRITE ASKING WAIT SAVE BGSAVE LASTSAVE TIME SLOWLOG LATENCY MEMORY MODULE
	ACL DEBUG OBJECT SHUTDOWN XREAD XREADGROUP XGROUP XINFO RESET SENTINEL`)

// endless are those after which the server speaks unasked.
var endless = words(`SUBSCRIBE PSUBSCRIBE SSUBSCRIBE MONITOR SYNC PSYNC`)

func words(text string) map[string]bool {
	m := make(map[string]bool)
	for _, w := range strings.Fields(text) {
		m[w] = true
	}
	return m
}

// command is a command's name, in capitals; empty for what is none.
func command(b []byte) string {
	w := strings.ToUpper(string(b[:min(len(b), maxWord)]))
	if keyed[w] || other[w] {
		return w
	}
	return ""
}

func detect(s l7.Side, b []byte, _ bool) l7.Match {
	if s != l7.Client {
		return l7.No
	}
	if len(b) > 0 && b[0] != '*' {
		return l7.No
	}
	lines := bytes.SplitN(b, []byte("\r\n"), 4)
	if len(lines) < 4 {
		if len(b) > 2*maxWord {
			return l7.No
		}
		return l7.Unsure
	}
	n, ok := number(lines[0][1:])
	if !ok || n < 1 || len(lines[1]) == 0 || lines[1][0] != '$' || command(lines[2]) == "" {
		return l7.No
	}
	return l7.Yes
}

// number reads a length; -1 is nothing at all.
func number(b []byte) (n int64, ok bool) {
	if string(b) == "-1" {
		return -1, true
	}
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<32 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(b) > 0
}

type parser struct {
	emit    l7.Emit
	counts  *l7.Counts
	pending l7.Pending
	request request
	answer  answer
	good    bool
}

// request is a command that is being sent.
type request struct {
	args    int64 // how many are still to come
	index   int   // of the next
	bytes   bool  // its length was read
	length  int64
	name    string
	key     string
	first   uint64
	skipped bool // the rest of an argument is passing
}

// answer is an answer that is being received.
type answer struct {
	values  int64 // how many are still to come; 0: none has begun
	asked   l7.Ask
	reading bool
	push    bool // nobody asked for it
}

// Parse implements l7.Parser.
func (p *parser) Parse(s l7.Side, b []byte, t uint64) l7.Step {
	if s == l7.Client {
		return p.ask(b, t)
	}
	return p.answered(b, t)
}

// cutLine is a line without its end; n is 0 when it is not complete.
func cutLine(b []byte) (line []byte, n int) {
	i := bytes.IndexByte(b[:min(len(b), maxLine)], '\n')
	if i < 0 {
		return nil, 0
	}
	return bytes.TrimSuffix(b[:i], []byte("\r")), i + 1
}

func (p *parser) ask(b []byte, t uint64) l7.Step {
	r := &p.request
	if r.skipped {
		r.skipped = false
		if r.args == 0 {
			if step := p.asked(); step.Next != l7.More {
				return step
			}
		}
	}
	if len(b) == 0 {
		return l7.Step{}
	}
	if r.bytes {
		return p.argument(b)
	}
	line, n := cutLine(b)
	if n == 0 {
		if len(b) >= maxLine {
			return l7.Step{Next: l7.Wrong}
		}
		return l7.Step{}
	}
	if r.args == 0 { // a new command
		if len(line) == 0 {
			return l7.Step{Use: n}
		}
		*r = request{first: t}
		args, ok := number(line[1:])
		if line[0] != '*' {
			word, _, _ := bytes.Cut(line, []byte(" ")) // as a person types it
			if r.name = command(word); r.name == "" {
				return l7.Step{Next: l7.Wrong}
			}
			step := p.asked()
			step.Use = n
			return step
		}
		if !ok || args > 1<<20 {
			return l7.Step{Next: l7.Wrong}
		}
		r.args = max(args, 0)
		return l7.Step{Use: n}
	}
	if len(line) == 0 || line[0] != '$' {
		return l7.Step{Next: l7.Wrong}
	}
	length, ok := number(line[1:])
	if !ok || length < 0 {
		return l7.Step{Next: l7.Wrong}
	}
	r.bytes, r.length = true, length
	return l7.Step{Use: n}
}

// argument takes the bytes of an argument: the command's name and its key are read, the others pass.
func (p *parser) argument(b []byte) l7.Step {
	r := &p.request
	want := 0
	switch {
	case r.index == 0:
		want = int(min(r.length, maxWord))
	case r.index == 1 && keyed[r.name]:
		want = int(min(r.length, maxKey))
	}
	if len(b) < want {
		return l7.Step{}
	}
	switch {
	case r.index == 0:
		r.name = command(b[:want])
	case want > 0:
		r.key = pattern(b[:want], r.length > maxKey)
	}
	rest := r.length - int64(want) + 2
	r.bytes, r.skipped = false, true
	r.index++
	r.args--
	return l7.Step{Use: want, Skip: uint64(rest)}
}

// pattern makes a key one of many.
func pattern(key []byte, cut bool) string {
	if cut {
		return "{id}"
	}
	return strings.TrimPrefix(l7.PathTemplate(append([]byte("/"), key...)), "/")
}

// asked ends a command.
func (p *parser) asked() l7.Step {
	r := p.request
	p.request = request{}
	if r.name == "" {
		r.name = "UNKNOWN"
	}
	if !p.pending.Push(&model.Request{Protocol: "redis", Method: r.name, Resource: r.key}, r.first) {
		p.counts.Crowded++
		return l7.Step{Next: l7.Done} // whose answers the next ones are cannot be known
	}
	return l7.Step{}
}

// Lost implements l7.Parser.
func (p *parser) Lost(s l7.Side) bool {
	if s == l7.Client || p.pending.Len() > 0 || !p.answer.reading {
		return false // how many commands or answers were missed cannot be known
	}
	p.finish(0)
	p.answer = answer{}
	return true
}

// Close implements l7.Parser.
func (p *parser) Close(t uint64) {
	if p.answer.reading {
		p.finish(0)
	}
	if p.good {
		p.pending.Unanswered(p.emit, t)
	}
}
