// SPDX-License-Identifier: Apache-2.0

// Package sql says what an SQL statement does, without what it is done with. In: the beginning of a statement. Out: its kind and
// the table, where that is plain. Nothing else of the text is kept: no literal, no comment, no quoted name that is not a plain one.
package sql

import "strings"

// kinds are the words that statements begin with, of PostgreSQL and MySQL.
var kinds = map[string]bool{"SELECT": true, "INSERT": true, "UPDATE": true, "DELETE": true, "MERGE": true, "WITH": true, "VALUES": true, "TABLE": true,
	"BEGIN": true, "START": true, "COMMIT": true, "ROLLBACK": true, "END": true, "ABORT": true, "SAVEPOINT": true, "RELEASE": true,
	"CREATE": true, "ALTER": true, "DROP": true, "TRUNCATE": true, "RENAME": true, "COMMENT": true, "GRANT": true, "REVOKE": true,
	"SET": true, "RESET": true, "SHOW": true, "USE": true, "EXPLAIN": true, "DESCRIBE": true, "DESC": true, "ANALYZE": true, "VACUUM": true,
	"COPY": true, "LOAD": true, "CALL": true, "DO": true, "EXECUTE": true, "PREPARE": true, "DEALLOCATE": true, "DISCARD": true, "DECLARE": true,
	"FETCH": true, "MOVE": true, "CLOSE": true, "LISTEN": true, "NOTIFY": true, "UNLISTEN": true, "LOCK": true, "UNLOCK": true, "REPLACE": true,
	"REINDEX": true, "CLUSTER": true, "REFRESH": true, "CHECKPOINT": true, "KILL": true, "FLUSH": true, "OPTIMIZE": true, "XA": true, "HANDLER": true}

// Statement is a statement's kind, in capitals, and its first table. Both are empty for what does not begin like one.
func Statement(text []byte) (kind, table string) {
	s := scanner{text}
	first := s.next()
	for first == "(" {
		first = s.next()
	}
	kind = strings.ToUpper(first)
	if !kinds[kind] {
		return "", ""
	}
	if kind == "WITH" { // what it leads to says more
		kind = s.afterWith()
	}
	return kind, s.table(kind)
}

// afterWith finds the verb behind common table expressions, outside of their parentheses.
func (s *scanner) afterWith() string {
	depth := 0
	for w := s.next(); w != ""; w = s.next() {
		switch w {
		case "(":
			depth++
		case ")":
			depth--
		default:
			if up := strings.ToUpper(w); depth == 0 && (up == "SELECT" || up == "INSERT" || up == "UPDATE" || up == "DELETE" || up == "MERGE") {
				return up
			}
		}
	}
	return "WITH"
}

// table finds the first table of a statement.
func (s *scanner) table(kind string) string {
	before := ""
	switch kind {
	case "SELECT", "DELETE":
		before = "FROM"
	case "INSERT", "REPLACE", "MERGE":
		before = "INTO"
	case "UPDATE", "TABLE", "TRUNCATE", "COPY":
	default:
		return ""
	}
	for before != "" {
		w := s.next()
		if w == "" {
			return ""
		}
		if strings.EqualFold(w, before) {
			break
		}
	}
	for w := s.next(); w != ""; w = s.next() {
		switch strings.ToUpper(w) {
		case "ONLY", "TABLE", "LOW_PRIORITY", "IGNORE", "LATERAL":
			continue
		}
		if name(w) {
			return w
		}
		return ""
	}
	return ""
}

// name reports whether a word is a plain name, perhaps with that of a schema before it.
func name(w string) bool {
	if w == "" || len(w) > 128 || w[0] >= '0' && w[0] <= '9' || strings.EqualFold(w, "SELECT") {
		return false
	}
	for i := range len(w) {
		if !wordByte(w[i]) {
			return false
		}
	}
	return true
}

// scanner takes a text apart. Literals and comments are not among its words.
type scanner struct{ rest []byte }

// next is the next word, or a single other character; empty at the end.
func (s *scanner) next() string {
	for len(s.rest) > 0 {
		c := s.rest[0]
		switch {
		case c <= ' ':
			s.rest = s.rest[1:]
		case has(s.rest, "--"), c == '#':
			s.skipTo("\n")
		case has(s.rest, "/*"):
			s.skipTo("*/")
		case c == '\'':
			s.quoted('\'')
		case c == '"' || c == '`':
			if w := s.identifier(c); w != "" {
				return w
			}
			return "?"
		case wordByte(c):
			return s.word()
		default:
			s.rest = s.rest[1:]
			return string(c)
		}
	}
	return ""
}

// wordByte reports whether a byte is of a word; a dot joins a schema and a table.
func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '$'
}

func has(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

func (s *scanner) word() string {
	n := 0
	for n < len(s.rest) && wordByte(s.rest[n]) {
		n++
	}
	w := string(s.rest[:n])
	s.rest = s.rest[n:]
	// schema."table"
	if len(s.rest) > 0 && w[n-1] == '.' && (s.rest[0] == '"' || s.rest[0] == '`') {
		return w + s.identifier(s.rest[0])
	}
	return w
}

// identifier is a quoted name, when it is a plain one, and one that follows it with a dot.
func (s *scanner) identifier(quote byte) string {
	text := s.quoted(quote)
	for _, c := range text {
		if !wordByte(c) {
			return ""
		}
	}
	w := string(text)
	if len(s.rest) > 1 && s.rest[0] == '.' && w != "" {
		return w + s.word()
	}
	return w
}

// quoted skips what is between quotes, doubled and escaped ones included, and returns it.
func (s *scanner) quoted(quote byte) []byte {
	for i := 1; i < len(s.rest); i++ {
		switch {
		case s.rest[i] == '\\' && quote == '\'':
			i++
		case s.rest[i] == quote && i+1 < len(s.rest) && s.rest[i+1] == quote:
			i++
		case s.rest[i] == quote:
			text := s.rest[1:i]
			s.rest = s.rest[i+1:]
			return text
		}
	}
	s.rest = nil
	return nil
}

func (s *scanner) skipTo(end string) {
	for i := range s.rest {
		if has(s.rest[i:], end) {
			s.rest = s.rest[i+len(end):]
			return
		}
	}
	s.rest = nil
}
