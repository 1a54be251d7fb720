// Package glob matches repository names against the patterns of zot's configuration: "*" and "?" stay within a path
// component, "**" as a whole component stands for any number of them (none too, so that "a/**" matches "a"), [a-z] is a
// class, {a,b} a choice, and "\" takes the next character as it is.
//
//	p, err := glob.Compile("infra/**")
//	p.Match("infra/web/app") // true
package glob

import (
	"fmt"
	"regexp"
	"strings"
)

// Pattern is a compiled pattern, safe for concurrent use.
type Pattern struct {
	text string
	// One of the three below decides: the commonest patterns need no expression.
	literal string
	below   string // "x" of "x/**"; all is "**"
	all     bool
	re      *regexp.Regexp
}

// Compile reads a pattern.
func Compile(text string) (*Pattern, error) {
	p := &Pattern{text: text}
	switch base, under := strings.CutSuffix(text, "/**"); {
	case text == "":
		return nil, fmt.Errorf("pattern is empty")
	case text == "**":
		p.all = true
		return p, nil
	case !strings.ContainsAny(text, `*?[]{}\`):
		p.literal = text
		return p, nil
	case under && base != "" && !strings.ContainsAny(base, `*?[]{}\`):
		p.below = base
		return p, nil
	}
	t := translator{in: text}
	if err := t.run(); err != nil {
		return nil, fmt.Errorf("pattern %q: %w", text, err)
	}
	re, err := regexp.Compile(`^(?:` + t.out.String() + `)$`)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", text, err)
	}
	p.re = re
	return p, nil
}

// String is the pattern as it was written.
func (p *Pattern) String() string { return p.text }

// Literal says that the pattern matches only the name that it spells.
func (p *Pattern) Literal() bool { return p.literal != "" }

// Match says whether a whole name fits.
func (p *Pattern) Match(name string) bool {
	switch {
	case p.all:
		return true
	case p.literal != "":
		return name == p.literal
	case p.below != "":
		rest, ok := strings.CutPrefix(name, p.below)
		return ok && (rest == "" || rest[0] == '/')
	}
	return p.re.MatchString(name)
}

// translator writes a regular expression. What stands between two slashes is a component.
type translator struct {
	in    string
	i     int
	depth int
	out   strings.Builder
}

func (t *translator) run() error {
	for t.i < len(t.in) {
		c := t.in[t.i]
		switch {
		case c == '*' && t.deep():
		case c == '/' && strings.HasPrefix(t.in[t.i:], "/**") && t.ends(t.i+3):
			t.out.WriteString(`(?:/.*)?`)
			t.i += 3
		case c == '*':
			t.out.WriteString(`[^/]*`)
			t.i++
		case c == '?':
			t.out.WriteString(`[^/]`)
			t.i++
		case c == '[':
			if err := t.class(); err != nil {
				return err
			}
		case c == '{' || c == '}' || c == ',' && t.depth > 0:
			if err := t.choice(c); err != nil {
				return err
			}
		default:
			if err := t.plain(c); err != nil {
				return err
			}
		}
	}
	if t.depth != 0 {
		return fmt.Errorf("{ without }")
	}
	return nil
}

// ends says that a component ends at i.
func (t *translator) ends(i int) bool {
	return i == len(t.in) || t.depth > 0 && (t.in[i] == ',' || t.in[i] == '}')
}

func (t *translator) begins() bool {
	return t.i == 0 || t.in[t.i-1] == '/' || t.depth > 0 && (t.in[t.i-1] == ',' || t.in[t.i-1] == '{')
}

// deep writes "**" when it is a whole component.
func (t *translator) deep() bool {
	if !strings.HasPrefix(t.in[t.i:], "**") || !t.begins() {
		return false
	}
	if strings.HasPrefix(t.in[t.i:], "**/") {
		t.out.WriteString(`(?:.*/)?`)
		t.i += 3
		return true
	}
	if t.ends(t.i + 2) {
		t.out.WriteString(`.*`)
		t.i += 2
		return true
	}
	return false
}

func (t *translator) class() error {
	end := strings.IndexByte(t.in[t.i+1:], ']')
	if end <= 0 {
		return fmt.Errorf("[ without ]")
	}
	body := t.in[t.i+1 : t.i+1+end]
	t.i += end + 2
	not := ""
	if body[0] == '!' || body[0] == '^' {
		not, body = "^", body[1:]
	}
	if body == "" || strings.ContainsAny(body, `[\/`) {
		return fmt.Errorf("bad class")
	}
	t.out.WriteString("[" + not + strings.ReplaceAll(body, "^", `\^`) + "]")
	return nil
}

func (t *translator) choice(c byte) error {
	switch c {
	case '{':
		t.depth++
		t.out.WriteString("(?:")
	case '}':
		if t.depth--; t.depth < 0 {
			return fmt.Errorf("} without {")
		}
		t.out.WriteString(")")
	default:
		t.out.WriteString("|")
	}
	t.i++
	return nil
}

func (t *translator) plain(c byte) error {
	if c == '\\' {
		t.i++
		if t.i == len(t.in) {
			return fmt.Errorf("nothing after \\")
		}
		c = t.in[t.i]
	}
	if c == ']' {
		return fmt.Errorf("] without [")
	}
	t.out.WriteString(regexp.QuoteMeta(string(rune(c))))
	t.i++
	return nil
}
