// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"bytes"

	"github.com/vigie-io/vigie/internal/l7"
)

// answered takes the next value of an answer, or passes over what it holds.
func (p *parser) answered(b []byte, t uint64) l7.Step {
	a := &p.answer
	if a.values < 0 { // a string has passed, the last value of its answer
		if step, more := p.value(t); !more {
			return step
		}
	}
	if len(b) == 0 {
		return l7.Step{}
	}
	line, n := cutLine(b)
	if n == 0 {
		if len(b) < maxLine {
			return l7.Step{}
		}
		return l7.Step{Next: l7.Wrong}
	}
	if len(line) == 0 {
		return l7.Step{Next: l7.Wrong}
	}
	if a.values == 0 {
		p.begin(line, t)
	}
	return p.read(line, n, t)
}

// begin begins an answer with its first line.
func (p *parser) begin(line []byte, t uint64) {
	a := &p.answer
	*a = answer{values: 1, push: line[0] == '>'}
	if a.push {
		return
	}
	if a.asked, a.reading = p.pending.Pop(); !a.reading {
		return // asked for before the connection was looked at
	}
	a.asked.Answered(t)
	if line[0] == '-' {
		a.asked.Failed, a.asked.StatusText = true, errorWord(line[1:])
	}
}

// read takes one value by its first line.
func (p *parser) read(line []byte, n int, t uint64) l7.Step {
	a := &p.answer
	size, sized := number(line[1:])
	switch line[0] {
	case '+', '-', ':', '_', ',', '#', '(':
		a.values--
	case '$', '=', '!':
		if !sized {
			return l7.Step{Next: l7.Wrong}
		}
		a.values--
		if size >= 0 {
			if a.values == 0 {
				a.values = -1
			}
			return l7.Step{Use: n, Skip: uint64(size) + 2}
		}
	case '*', '~', '>', '%', '|':
		if !sized || size > 1<<30 {
			return l7.Step{Next: l7.Wrong}
		}
		if line[0] == '%' || line[0] == '|' {
			size *= 2
		}
		if line[0] != '|' { // an attribute stands before the value that it is of
			a.values--
		}
		a.values += max(size, 0)
	default:
		return l7.Step{Next: l7.Wrong}
	}
	if a.values > 0 {
		return l7.Step{Use: n}
	}
	step, _ := p.value(t)
	step.Use = n
	return step
}

// value ends an answer after its last value.
func (p *parser) value(t uint64) (step l7.Step, more bool) {
	ended := p.answer.asked.Request
	if p.answer.reading {
		p.finish(t)
	}
	p.answer = answer{}
	if ended != nil && endless[ended.Method] && !ended.Failed {
		return l7.Step{Next: l7.Done}, false
	}
	return step, true
}

// finish gives out the command whose answer was being read; t is 0 when its end was not seen.
func (p *parser) finish(t uint64) {
	a := p.answer.asked
	p.answer.reading, p.good = false, true
	at := a.At + uint64(a.Latency)
	if t > 0 {
		a.Ended(t)
		at = t
	}
	p.emit(a.Request, at)
}

// errorWord is the first word of an error, if it is one of capitals: ERR, WRONGTYPE, MOVED.
func errorWord(b []byte) string {
	word, _, _ := bytes.Cut(b, []byte(" "))
	for _, c := range word {
		if c < 'A' || c > 'Z' {
			return "ERR"
		}
	}
	if len(word) == 0 || len(word) > maxWord {
		return "ERR"
	}
	return string(word)
}
