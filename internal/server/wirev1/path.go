package wirev1

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"time"
)

// Limits of patience: how long a client may send nothing, and how long it may take for each piece of an answer.
const (
	stall     = 60 * time.Second
	piece     = 8 << 20
	pieceTime = 10 * time.Minute
)

// Patient reads a request's body, and gives up when the client sends nothing for too long.
func Patient(w http.ResponseWriter, r *http.Request) io.Reader {
	return &patient{from: r.Body, control: http.NewResponseController(w)}
}

type patient struct {
	from    io.Reader
	control *http.ResponseController
	renew   time.Time
}

func (p *patient) Read(b []byte) (int, error) {
	if now := time.Now(); now.After(p.renew) {
		// A transport without deadlines has limits of its own.
		_ = p.control.SetReadDeadline(now.Add(stall))
		p.renew = now.Add(stall / 4)
	}
	n, err := p.from.Read(b)
	if err != nil {
		// net/http goes on reading to notice when the client leaves: the deadline must not look like that.
		_ = p.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

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
