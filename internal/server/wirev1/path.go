package wirev1

import (
	"crypto/tls"
	"net/http"
	"strings"
	"time"
)

// How long a client may take for each piece of an answer.
const (
	piece     = 8 << 20
	pieceTime = 10 * time.Minute
)

// Bound gives a client time to take n bytes, also when it is slow, but not for ever.
func Bound(w http.ResponseWriter, n int64) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(pieceTime * time.Duration(1+max(n, 0)/piece)))
}

func tlsVersion(v uint16) string { return strings.TrimPrefix(tls.VersionName(v), "TLS ") }

// Target is a path below /v1/repositories/ taken apart.
type Target struct {
	Name string
	// Kind is "" for the repository itself, else "tags", "tag", "images", "auth", "json", "tagjson" or "properties".
	Kind string
	Tag  string
}

// ParseTarget reads from the end: names may have any number of parts. ok is false for other paths.
func ParseTarget(path string) (t Target, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v1/repositories/")
	if !ok {
		return t, false
	}
	rest = strings.TrimSuffix(rest, "/")
	parts := strings.Split(rest, "/")
	n := len(parts)
	join := func(n int) string { return strings.Join(parts[:n], "/") }
	switch last := parts[n-1]; {
	case n >= 4 && last == "json" && parts[n-3] == "tags":
		t = Target{join(n - 3), "tagjson", parts[n-2]}
	case n >= 3 && parts[n-2] == "tags":
		t = Target{join(n - 2), "tag", last}
	case n >= 2 && (last == "tags" || last == "images" || last == "auth" || last == "json" || last == "properties"):
		t = Target{Name: join(n - 1), Kind: last}
	default:
		t = Target{Name: rest}
	}
	return t, t.Name != ""
}
