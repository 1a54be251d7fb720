package condition

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

type tokenKind int

const (
	end tokenKind = iota
	ident
	number
	text
	op
)

type token struct {
	kind tokenKind
	text string
}

var operators = []string{"&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", "+", "-", "*", "/", "%", "(", ")", "[", "]", ".", ","}

func lex(s string) ([]token, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("not UTF-8")
	}
	var out []token
	for {
		s = strings.TrimLeft(s, " \t\r\n")
		if s == "" {
			return append(out, token{}), nil
		}
		t, rest, err := next(s)
		if err != nil {
			return nil, err
		}
		out, s = append(out, t), rest
	}
}

func next(s string) (token, string, error) {
	switch c := s[0]; {
	case c == '"' || c == '\'':
		return quoted(s)
	case c >= '0' && c <= '9':
		n := span(s, func(c byte) bool { return c >= '0' && c <= '9' || c == '.' })
		return token{number, s[:n]}, s[n:], nil
	case letter(c):
		n := span(s, func(c byte) bool { return letter(c) || c >= '0' && c <= '9' })
		return token{ident, s[:n]}, s[n:], nil
	}
	for _, o := range operators {
		if strings.HasPrefix(s, o) {
			return token{op, o}, s[len(o):], nil
		}
	}
	r, _ := utf8.DecodeRuneInString(s)
	return token{}, "", fmt.Errorf("unexpected %q", r)
}

func letter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func span(s string, in func(byte) bool) int {
	for i := range len(s) {
		if !in(s[i]) {
			return i
		}
	}
	return len(s)
}

// quoted reads a string in either quotes, with Go's escapes.
func quoted(s string) (token, string, error) {
	quote := s[0]
	var out strings.Builder
	rest := s[1:]
	for rest != "" && rest[0] != quote {
		r, _, tail, err := strconv.UnquoteChar(rest, quote)
		if err != nil {
			return token{}, "", fmt.Errorf("bad string")
		}
		out.WriteRune(r)
		rest = tail
	}
	if rest == "" {
		return token{}, "", fmt.Errorf("string without its end")
	}
	return token{text, out.String()}, rest[1:], nil
}
