package container

import (
	"regexp"
	"strings"

	"longshore/internal/core/fault"
)

const nameChars = `[a-zA-Z0-9][a-zA-Z0-9_.-]`

var nameRE = regexp.MustCompile(`^/?` + nameChars + `+$`)

// maxName bounds names, which are told in many places and are host names of networks, in bytes.
const maxName = 255

// ParseName checks a container name and strips docker's leading slash.
func ParseName(s string) (string, error) {
	if !nameRE.MatchString(s) {
		return "", fault.Invalid("Invalid container name (%.300s), only %s are allowed", s, nameChars)
	}
	if len(s) > maxName {
		return "", fault.Invalid("Invalid container name (%.20s…): names have at most %d bytes", s, maxName)
	}
	return strings.TrimPrefix(s, "/"), nil
}
