package retention

import (
	"fmt"
	"regexp"
	"strings"
)

// Glob compiles zot's repository globs: "*" and "?" stay within a path component, "**" crosses them ("a/**" is "a" and
// all below it), "[…]" and "{a,b}" as in a shell, "\" quotes.
func Glob(pattern string) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString(`\A(?:`)
	braces := 0
	for i := 0; i < len(pattern); {
		rest := pattern[i:]
		text, n := wildcard(rest, i == 0 || pattern[i-1] == '/')
		if n == 0 {
			text, n = group(rest, &braces)
		}
		if n == 0 {
			return nil, fmt.Errorf("glob %q: unfinished at %q", pattern, rest)
		}
		b.WriteString(text)
		i += n
	}
	if braces != 0 {
		return nil, fmt.Errorf("glob %q: brace without end", pattern)
	}
	b.WriteString(`)\z`)
	re, err := regexp.Compile(b.String())
	if err != nil {
		return nil, fmt.Errorf("glob %q: %w", pattern, err)
	}
	return re, nil
}

// wildcard translates stars and question marks; n is how many bytes of the pattern it took, 0 for none.
func wildcard(rest string, atStart bool) (text string, n int) {
	switch {
	case rest == "/**":
		return "(?:/.*)?", 3
	case strings.HasPrefix(rest, "**/") && atStart:
		return "(?:.*/)?", 3
	case strings.HasPrefix(rest, "**"):
		return ".*", 2
	case rest[0] == '*':
		return "[^/]*", 1
	case rest[0] == '?':
		return "[^/]", 1
	}
	return "", 0
}

// group translates classes, braces, quoted and plain characters.
func group(rest string, braces *int) (text string, n int) {
	switch c := rest[0]; {
	case c == '[':
		end := strings.IndexByte(rest[1:], ']')
		if end < 1 {
			return "", 0
		}
		class := rest[1 : end+1]
		if class[0] == '!' || class[0] == '^' {
			return "[^/" + quoteClass(class[1:]) + "]", end + 2
		}
		return "[" + quoteClass(class) + "]", end + 2
	case c == '{':
		*braces++
		return "(?:", 1
	case c == '}' && *braces > 0:
		*braces--
		return ")", 1
	case c == ',' && *braces > 0:
		return "|", 1
	case c == '\\':
		if len(rest) < 2 {
			return "", 0
		}
		return regexp.QuoteMeta(rest[1:2]), 2
	}
	return regexp.QuoteMeta(rest[:1]), 1
}

func quoteClass(s string) string {
	return strings.NewReplacer(`\`, `\\`, `[`, `\[`, `^`, `\^`, `&`, `\&`).Replace(s)
}
