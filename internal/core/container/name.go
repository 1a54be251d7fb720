package container

import (
	"regexp"
	"strings"

	"longshore/internal/core/fault"
)

const nameChars = `[a-zA-Z0-9][a-zA-Z0-9_.-]`

var nameRE = regexp.MustCompile(`^/?` + nameChars + `+$`)

// ParseName checks a container name and strips docker's leading slash.
func ParseName(s string) (string, error) {
	if !nameRE.MatchString(s) {
		return "", fault.Invalid("Invalid container name (%s), only %s are allowed", s, nameChars)
	}
	return strings.TrimPrefix(s, "/"), nil
}
