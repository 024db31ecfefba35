// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"strings"
)

// A glob is a pattern over bytes, cut into pieces that stand one after the other.
//
//	c        the byte itself; \c too, whatever c is
//	?        one byte, not the separator
//	[a-z]    one byte of these, [!a-z] one byte that is none of these; never the separator
//	*        any bytes but the separator, also none
//	**       any bytes, also none
//	/**/     one separator, or two with anything between them: any number of whole components, also none
//
// The separator is '/' in paths and '.' in DNS names.
type glob struct {
	pieces    []piece
	separator byte
}

type pieceKind uint8

const (
	pieceByte pieceKind = iota
	pieceAny            // ?
	pieceSet            // [a-z]
	pieceStar           // *
	pieceDeep           // **
	pieceDirs           // the "**/" of "/**/": nothing, or anything that ends with a separator
)

type piece struct {
	kind pieceKind
	b    byte
	set  *byteSet
}

type byteSet [4]uint64

func (s *byteSet) add(b byte)      { s[b>>6] |= 1 << (b & 63) }
func (s *byteSet) has(b byte) bool { return s[b>>6]&(1<<(b&63)) != 0 }

// parsePathGlob reads a glob over paths.
func parsePathGlob(text string) (glob, error) {
	g := glob{separator: '/', pieces: make([]piece, 0, len(text))}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '?':
			g.pieces = append(g.pieces, piece{kind: pieceAny})
		case '\\':
			if i++; i == len(text) {
				return g, errors.New(`ends with a lone '\': write \\ for the character itself`)
			}
			g.pieces = append(g.pieces, piece{b: text[i]})
		case '[':
			set, n, err := parseSet(text[i:])
			if err != nil {
				return g, err
			}
			g.pieces = append(g.pieces, piece{kind: pieceSet, set: set})
			i += n - 1
		case '*':
			stars := len(text[i:]) - len(strings.TrimLeft(text[i:], "*"))
			switch {
			case stars > 2:
				return g, fmt.Errorf("has %d '*' in a row: write * for one component, ** for any number", stars)
			case stars == 1:
				g.pieces = append(g.pieces, piece{kind: pieceStar})
			case i > 0 && text[i-1] == '/' && strings.HasPrefix(text[i+2:], "/"):
				g.pieces = append(g.pieces, piece{kind: pieceDirs})
				i++ // the separator is a part of it
			default:
				g.pieces = append(g.pieces, piece{kind: pieceDeep})
			}
			i += stars - 1
		default:
			g.pieces = append(g.pieces, piece{b: c})
		}
	}
	return g, nil
}

// parseSet reads [a-z] at the beginning of text and says how long it is.
func parseSet(text string) (*byteSet, int, error) {
	set, i, negated := new(byteSet), 1, false
	if i < len(text) && (text[i] == '!' || text[i] == '^') {
		negated, i = true, i+1
	}
	one := func() (byte, error) {
		if text[i] == '\\' {
			i++
		}
		if i >= len(text) {
			return 0, errors.New("has a '[' without its ']': close it, or write \\[ for the character itself")
		}
		if text[i] >= 0x80 {
			return 0, errors.New("has a letter outside ASCII in [ ]: a class is about single bytes, write the alternatives as rules of their own")
		}
		i++
		return text[i-1], nil
	}
	for first := true; ; first = false {
		if i >= len(text) {
			return nil, 0, errors.New("has a '[' without its ']': close it, or write \\[ for the character itself")
		}
		if text[i] == ']' && !first {
			break
		}
		low, err := one()
		if err != nil {
			return nil, 0, err
		}
		high := low
		if i+1 < len(text) && text[i] == '-' && text[i+1] != ']' {
			i++
			if high, err = one(); err != nil {
				return nil, 0, err
			}
			if high < low {
				return nil, 0, fmt.Errorf("has the range %c-%c, which is empty: write the smaller one first", low, high)
			}
		}
		for b := int(low); b <= int(high); b++ {
			set.add(byte(b))
		}
	}
	if negated {
		for w := range set {
			set[w] = ^set[w]
		}
	}
	set['/'>>6] &^= 1 << ('/' & 63)
	if *set == (byteSet{}) {
		return nil, 0, errors.New("has a [ ] that nothing matches: it never matches '/'")
	}
	return set, i + 1, nil
}

// parseNameGlob reads a glob over DNS names: "**." at the beginning is one label or more, '*' is within one label.
func parseNameGlob(text string) glob {
	g := glob{separator: '.'}
	if rest, ok := strings.CutPrefix(text, "**."); ok {
		g.pieces = append(g.pieces, piece{kind: pieceAny}, piece{kind: pieceDeep}, piece{b: '.'})
		text = rest
	}
	for i := range len(text) {
		if text[i] == '*' {
			g.pieces = append(g.pieces, piece{kind: pieceStar})
		} else {
			g.pieces = append(g.pieces, piece{b: text[i]})
		}
	}
	return g
}

// match is the meaning of a glob, slowly: at each piece it tries every way to go on. Compiled matchers are held to it.
func (g glob) match(text string) bool {
	type place struct{ piece, at int }
	failed := map[place]bool{}
	var from func(p, at int) bool
	try := func(p, at int) bool {
		if failed[place{p, at}] {
			return false
		}
		if from(p, at) {
			return true
		}
		failed[place{p, at}] = true
		return false
	}
	from = func(p, at int) bool {
		if p == len(g.pieces) {
			return at == len(text)
		}
		switch one := g.pieces[p]; one.kind {
		case pieceStar, pieceDeep:
			for end := at; ; end++ {
				if try(p+1, end) {
					return true
				}
				if end == len(text) || (one.kind == pieceStar && text[end] == g.separator) {
					return false
				}
			}
		case pieceDirs:
			if try(p+1, at) {
				return true
			}
			for end := at; end < len(text); end++ {
				if text[end] == g.separator && try(p+1, end+1) {
					return true
				}
			}
			return false
		default:
			return at < len(text) && g.takes(one, text[at]) && try(p+1, at+1)
		}
	}
	return from(0, 0)
}

// takes says whether a piece of one byte takes b.
func (g glob) takes(p piece, b byte) bool {
	switch p.kind {
	case pieceAny:
		return b != g.separator
	case pieceSet:
		return p.set.has(b)
	default:
		return p.b == b
	}
}

// MatchPath reports whether a path glob of a checked policy matches all of a path. It is slow: for one question.
func MatchPath(pattern, path string) bool {
	if !strings.ContainsAny(pattern, `*?[\`) {
		return pattern == path
	}
	g, err := parsePathGlob(pattern)
	return err == nil && g.match(path)
}

// MatchName is MatchPath for the DNS names of network rules; name is lower case, without the final dot.
func MatchName(pattern, name string) bool { return parseNameGlob(pattern).match(name) }
