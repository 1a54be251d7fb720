package registryapi

import (
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/handover"
)

// Handover is the desk where the engine of this process offers and expects blobs as files; see core/handover. It is asked
// only after the request has been allowed.
type Handover interface {
	Accept(ticket string) (d digest.Digest, path string, ok bool)
	Deliver(ticket string, d digest.Digest, path string)
}

// linkIn takes the file that the request's ticket names, and answers as if its bytes had been sent.
func (s *Server) linkIn(x *exchange) (done bool, err error) {
	ticket := x.r.Header.Get(handover.Header)
	if ticket == "" || x.set.Handover == nil {
		return false, nil
	}
	d, path, ok := x.set.Handover.Accept(ticket)
	if !ok {
		return false, nil
	}
	if _, err := s.registry.LinkIn(x.r.Context(), x.repo, d, path); err != nil {
		return false, err
	}
	x.created("/blobs/"+d.String(), d)
	return true, nil
}

// deliver tells the holder of a ticket where a blob lies. A store without files leaves the ticket alone: the bytes will be
// asked for then.
func (s *Server) deliver(x *exchange, d digest.Digest) {
	ticket := x.r.Header.Get(handover.Header)
	if ticket == "" || x.set.Handover == nil {
		return
	}
	if path, err := s.registry.PathOf(x.r.Context(), x.repo, d); err == nil {
		x.set.Handover.Deliver(ticket, d, path)
	}
}
