// Package handover lets the engine and the registry of one process pass blobs as files, while HTTP goes on deciding who
// may do what: the request is the one that any client would send, with credentials, access control, limits, audit and
// statistics, and only the bytes are replaced by the name of a file that holds them.
//
//	ticket := desk.Offer(digest, path) // the engine pushes: POST …/blobs/uploads/ with Header: ticket
//	d, path, ok := desk.Accept(ticket) // the registry, once it knows that the client may push
//	_, taken := desk.Collect(ticket)   // the engine: if not taken, the bytes are sent
//
// A pull is the same with Expect and Deliver: HEAD …/blobs/<digest> with Header: ticket, and the registry tells the path.
// Tickets are random, good for one request, and worth nothing outside the process: a registry elsewhere sees a header
// that it does not know, and a client elsewhere cannot have one that names a file.
package handover

import (
	"crypto/rand"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Header carries a ticket, in the canonical form of net/http.
const Header = "Longshore-Handover"

// Desk is where files are handed over. The zero value is ready; it is safe for concurrent use.
type Desk struct {
	mu    sync.Mutex // guards what follows
	slips map[string]slip
}

type slip struct {
	digest digest.Digest
	path   string
	offer  bool
	done   bool
}

// Offer makes a file that holds blob d known to who shows the ticket. The caller vouches for the digest, never writes to
// the file again, and calls Collect in the end.
func (k *Desk) Offer(d digest.Digest, path string) (ticket string) {
	return k.put(slip{digest: d, path: path, offer: true})
}

// Expect opens the desk for blob d. The caller calls Collect in the end.
func (k *Desk) Expect(d digest.Digest) (ticket string) { return k.put(slip{digest: d}) }

func (k *Desk) put(s slip) string {
	ticket := rand.Text()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.slips == nil {
		k.slips = map[string]slip{}
	}
	k.slips[ticket] = s
	return ticket
}

// Collect ends a ticket: the file's path, and whether the other side has accepted or delivered it.
func (k *Desk) Collect(ticket string) (path string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.slips[ticket]
	delete(k.slips, ticket)
	return s.path, s.done
}

// Accept gives the file of an offer, once.
func (k *Desk) Accept(ticket string) (d digest.Digest, path string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.slips[ticket]
	if !ok || !s.offer || s.done {
		return "", "", false
	}
	s.done = true
	k.slips[ticket] = s
	return s.digest, s.path, true
}

// Deliver tells who expects blob d where it lies. The file is to be read or linked, never written. A ticket for another
// blob is left alone.
func (k *Desk) Deliver(ticket string, d digest.Digest, path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, ok := k.slips[ticket]; ok && !s.offer && s.digest == d {
		s.path, s.done = path, true
		k.slips[ticket] = s
	}
}
