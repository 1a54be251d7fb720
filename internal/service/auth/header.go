package auth

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// Scheme is an authentication scheme.
type Scheme int

// The schemes of an Authorization header.
const (
	Unknown Scheme = iota
	Basic
	Bearer
)

// maxHeader bounds the credentials that are looked at, in bytes; tokens with many grants are long.
const maxHeader = 64 << 10

// ParseAuthorization splits a header's value. The scheme's case does not matter (RFC 9110, section 11.1).
func ParseAuthorization(header string) (Scheme, string) {
	if len(header) > maxHeader {
		return Unknown, ""
	}
	scheme, value, _ := strings.Cut(strings.TrimSpace(header), " ")
	value = strings.TrimSpace(value)
	switch {
	case value == "":
	case strings.EqualFold(scheme, "Basic"):
		return Basic, value
	case strings.EqualFold(scheme, "Bearer"):
		return Bearer, value
	}
	return Unknown, ""
}

// ParseBasic decodes user and password (RFC 7617). An empty user, control characters and bytes that are not UTF-8 are
// refused.
func ParseBasic(value string) (user, password string, ok bool) {
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil || !utf8.Valid(raw) {
		return "", "", false
	}
	user, password, ok = strings.Cut(string(raw), ":")
	if !ok || user == "" || strings.ContainsFunc(string(raw), func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return "", "", false
	}
	return user, password, true
}
