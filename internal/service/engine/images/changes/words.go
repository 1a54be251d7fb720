package changes

import (
	"strings"

	"longshore/internal/core/fault"
)

// split cuts a line into words as a shell would: quotes, backslashes, and variables from env.
func split(s string, env []string) ([]string, error) {
	l := lexer{in: s, env: env}
	var out []string
	for {
		l.skipSpace()
		if l.done() {
			return out, nil
		}
		w, err := l.word(true)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
}

// expand undoes quoting and replaces variables, keeping spaces.
func expand(s string, env []string) (string, error) {
	l := lexer{in: s, env: env}
	return l.word(false)
}

// lexer walks over a line.
type lexer struct {
	in  string
	at  int
	env []string
}

func (l *lexer) done() bool { return l.at >= len(l.in) }

func (l *lexer) skipSpace() {
	for !l.done() && isSpace(l.in[l.at]) {
		l.at++
	}
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

// word reads up to the next space outside quotes, or to the end.
func (l *lexer) word(stopAtSpace bool) (string, error) {
	var b strings.Builder
	for !l.done() {
		c := l.in[l.at]
		switch {
		case stopAtSpace && isSpace(c):
			return b.String(), nil
		case c == '\\' && l.at+1 < len(l.in):
			b.WriteByte(l.in[l.at+1])
			l.at += 2
		case c == '\'':
			end := strings.IndexByte(l.in[l.at+1:], '\'')
			if end < 0 {
				return "", fault.Invalid("unexpected end of statement while looking for matching single-quote")
			}
			b.WriteString(l.in[l.at+1 : l.at+1+end])
			l.at += end + 2
		case c == '"':
			if err := l.quoted(&b); err != nil {
				return "", err
			}
		case c == '$':
			v, err := l.variable()
			if err != nil {
				return "", err
			}
			b.WriteString(v)
		default:
			b.WriteByte(c)
			l.at++
		}
	}
	return b.String(), nil
}

// quoted reads a part in double quotes.
func (l *lexer) quoted(b *strings.Builder) error {
	l.at++
	for !l.done() {
		c := l.in[l.at]
		switch {
		case c == '"':
			l.at++
			return nil
		case c == '\\' && l.at+1 < len(l.in) && strings.IndexByte("\"$\\", l.in[l.at+1]) >= 0:
			b.WriteByte(l.in[l.at+1])
			l.at += 2
		case c == '$':
			v, err := l.variable()
			if err != nil {
				return err
			}
			b.WriteString(v)
		default:
			b.WriteByte(c)
			l.at++
		}
	}
	return fault.Invalid("unexpected end of statement while looking for matching double-quote")
}

// variable reads $name, ${name}, ${name:-default} or ${name:+other}.
func (l *lexer) variable() (string, error) {
	l.at++
	if l.done() {
		return "$", nil
	}
	if l.in[l.at] != '{' {
		start := l.at
		for !l.done() && isName(l.in[l.at]) {
			l.at++
		}
		if start == l.at {
			return "$", nil
		}
		v, _ := l.lookup(l.in[start:l.at])
		return v, nil
	}
	end := strings.IndexByte(l.in[l.at:], '}')
	if end < 0 {
		return "", fault.Invalid("syntax error: missing '}'")
	}
	body := l.in[l.at+1 : l.at+end]
	l.at += end + 1
	name, rest, modified := strings.Cut(body, ":")
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r > 127 || !isName(byte(r)) }) {
		return "", fault.Invalid("syntax error: bad substitution")
	}
	v, set := l.lookup(name)
	if !modified {
		return v, nil
	}
	if rest == "" || rest[0] != '-' && rest[0] != '+' {
		return "", fault.Invalid("unsupported modifier (%s) in substitution", rest)
	}
	given := set && v != ""
	if (rest[0] == '-') == given {
		if rest[0] == '+' {
			return "", nil
		}
		return v, nil
	}
	return rest[1:], nil
}

func isName(b byte) bool {
	return b == '_' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}

func (l *lexer) lookup(name string) (string, bool) {
	for _, e := range l.env {
		if k, v, _ := strings.Cut(e, "="); k == name {
			return v, true
		}
	}
	return "", false
}
