// Package ids makes and recognises docker's identifiers: 64 lower-case hexadecimal digits, shown shortened to 12.
package ids

import (
	"crypto/rand"
	"encoding/hex"
)

// Len is the length of a whole identifier, ShortLen of a shortened one.
const (
	Len      = 64
	ShortLen = 12
)

// New returns a random identifier. The short form is never all digits: as a host name it would be read as a number.
func New() string {
	var b [Len / 2]byte
	for {
		rand.Read(b[:]) // never fails: crypto/rand ends the program instead
		if id := hex.EncodeToString(b[:]); !digits(id[:ShortLen]) {
			return id
		}
	}
}

// Short shortens an identifier; what is short already stays as it is.
func Short(id string) string {
	if len(id) > ShortLen {
		return id[:ShortLen]
	}
	return id
}

// Valid tells whether s is a whole identifier.
func Valid(s string) bool { return len(s) == Len && hexOnly(s) }

// Prefix tells whether s can be the beginning of an identifier.
func Prefix(s string) bool { return s != "" && len(s) <= Len && hexOnly(s) }

func hexOnly(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
