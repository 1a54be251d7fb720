package names

import (
	"crypto/rand"
	"encoding/hex"
)

// NewID makes a container or exec ID: 64 hex digits that do not look like a number in their first twelve.
func NewID() string {
	var b [32]byte
	for {
		_, _ = rand.Read(b[:])
		id := hex.EncodeToString(b[:])
		for _, c := range id[:12] {
			if c > '9' {
				return id
			}
		}
	}
}
